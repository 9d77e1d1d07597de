"""How learning rates and weight decays of a comparison were chosen, in words: a verdict is worth no more than that."""

import json

from adai.lab.models import PAPER_NETS
from adai.lab.optimizers.recipes import NOT_THE_PAPERS, RECIPES
from adai.lab.results.comparison import Comparison, Entrant
from adai.lab.schedules import PAPER_SCHEDULES

# Within this factor of an end of the range that was searched, a better value may lie beyond.
NEAR = 2.0


def how(comparison: Comparison) -> str:
    """What a verdict begins with: *At untuned CIFAR settings*, *After 20 tuning trials of each optimizer*, …

    Of a comparison at each optimizer's best of several rates (`adai.report.learning_rates`) it says what these were
    chosen on. Tuned is what ``--tune`` has chosen, and nothing else. Values other than the recipe's were chosen by
    hand. The recipes are the paper's for CIFAR: the paper's own runs have them for settings of their own, all others
    untuned.
    """
    trials = comparison.config.get("trials")
    if trials:
        return f"After {trials} tuning {'trial' if trials == 1 else 'trials'} of each optimizer"
    if comparison.config.get("lr_grid"):
        return _at_best(comparison)
    by_hand = {entrant.label: given for entrant in comparison.entrants if (given := _given(entrant))}
    rest = "the paper’s settings" if _is_papers(comparison) else "untuned CIFAR settings"
    if not any("lr" in entrant.options for entrant in comparison.entrants):
        return "At settings that were not recorded"
    if not by_hand:
        return f"At {rest}"
    said = "; ".join(f"{label}: {', '.join(given)}" for label, given in by_hand.items())
    others = "" if len(by_hand) == len(comparison.entrants) else f" and {rest} for the others"
    return f"At settings chosen by hand ({said}){others}"


def _at_best(comparison: Comparison) -> str:
    on = "on the same test data that they are compared on"
    if comparison.config.get("validation"):
        on = "and compared on held-out training data"
    decays = [
        f"{entrant.label}: {decay}"
        for entrant in comparison.entrants
        for decay in _given(entrant)
        if decay.startswith("weight decay")
    ]
    by_hand = f", with settings chosen by hand ({'; '.join(decays)})" if decays else ""
    return f"At each optimizer’s best of {len(comparison.config['lr_grid'])} learning rates, chosen {on}{by_hand}"


def _given(entrant: Entrant) -> list[str]:
    """The learning rate and weight decay that are not the recipe's."""
    recipe = RECIPES[entrant.name].options if entrant.name in RECIPES else {}
    return [
        f"{what} {entrant.options[key]:g}"
        for key, what in (("lr", "lr"), ("weight_decay", "weight decay"))
        if key in entrant.options and entrant.options[key] != recipe.get(key)
    ]


def _is_papers(comparison: Comparison) -> bool:
    """Whether the runs are the paper's own: its nets and optimizers, its epochs, batch and schedule on CIFAR."""
    config = comparison.config
    if any(entrant.name in NOT_THE_PAPERS for entrant in comparison.entrants):
        return False
    paper = PAPER_SCHEDULES.get(str(config.get("task")))
    own = (config.get("schedule"), config.get("epochs"), config.get("batch"))
    return paper is not None and config.get("model") in PAPER_NETS and own == ("paper", paper.epochs, paper.batch)


def edges(comparison: Comparison) -> str:
    """How far the best learning rates lie from the ends of what ``--tune`` searched, or of a grid; else empty."""
    if comparison.config.get("lr_grid"):
        return _best_of_grid(comparison)
    ranges = _ranges(comparison) if comparison.config.get("trials") else {}
    said = []
    for entrant in comparison.entrants:
        lr, ends = entrant.options.get("lr"), ranges.get(entrant.name)
        if lr and ends:
            factor = max(1.0, min(lr / ends[0], ends[1] / lr))
            near = ": at the edge, a better one may lie beyond" if factor < NEAR else ""
            said.append(f"{entrant.label} {lr:.3g} ({factor:.2g}{near})")
    if not said:
        return ""
    return f"Best learning rates, with their factor to the nearer end of the range searched: {', '.join(said)}."


def _best_of_grid(comparison: Comparison) -> str:
    said = []
    for entrant in comparison.entrants:
        factor, lr, edge = comparison.config["best"][entrant.name]
        if entrant.finished:
            beyond = f", the {edge} of the grid: a better one may lie beyond" if edge else ""
            said.append(f"{entrant.label} {f'{lr:g} ' if lr is not None else ''}(× {factor:g}{beyond})")
    return f"Best learning rates, with their factor on the optimizer’s own: {', '.join(said)}." if said else ""


def _ranges(comparison: Comparison) -> dict[str, tuple[float, float]]:
    """The lowest and highest learning rate that were tried for, by optimizer; nothing where the trials do not say."""
    try:
        content = json.loads((comparison.path / "tuning" / "tuning.json").read_text(encoding="utf-8"))
        return {name: (float(own["lr"][0]), float(own["lr"][1])) for name, own in content["ranges"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError):
        return {}
