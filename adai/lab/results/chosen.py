"""Describes how learning rates and weight decays of a comparison were chosen, which limits what a verdict is worth."""

import json
from collections.abc import Sequence
from typing import Any

from adai.lab.models import PAPER_NETS
from adai.lab.optimizers.recipes import NOT_THE_PAPERS, RECIPES
from adai.lab.results.comparison import Comparison, Entrant
from adai.lab.results.words import joined
from adai.lab.schedules import PAPER_SCHEDULES

# Within this factor of an end of the range that was searched, a better value may lie outside the range.
NEAR = 2.0


def how(comparison: Comparison) -> str:
    """The beginning of a verdict: *At untuned CIFAR settings*, *After 20 tuning trials of each optimizer*, …

    If each optimizer has the best of several rates (`adai.report.learning_rates`), it names the data on which these
    rates were chosen. Only values chosen by ``tune`` are called tuned. Values that differ from the recipe's are called
    chosen by hand. The recipes are the paper's for CIFAR: in the paper's own runs they are called the paper's settings,
    in all other runs untuned. An optimizer without a recipe has its constructor's defaults, or
    the settings of its function.
    """
    trials = comparison.config.get("trials")
    if trials:
        return f"After {trials} tuning {'trial' if trials == 1 else 'trials'} of each optimizer"
    if comparison.config.get("lr_grid"):
        return _at_best(comparison)
    by_hand = {entrant.label: given for entrant in comparison.entrants if (given := _given(entrant))}
    if not any(entrant.options or entrant.of_model for entrant in comparison.entrants):
        return "At settings that were not recorded"
    rest = _rest([entrant for entrant in comparison.entrants if entrant.label not in by_hand], comparison)
    if not by_hand:
        return f"At {rest}"
    said = "; ".join(f"{label}: {', '.join(given)}" for label, given in by_hand.items())
    return f"At settings chosen by hand ({said})" + (f" and {rest}" if rest else "")


def _rest(rest: Sequence[Entrant], comparison: Comparison) -> str:
    """A description of the settings of the optimizers that have no option chosen by hand."""
    usual = "the paper’s settings" if _is_papers(comparison) else "untuned CIFAR settings"
    kinds: dict[str, list[str]] = {}
    for entrant in sorted(rest, key=lambda one: (one.spec not in RECIPES, one.of_model)):
        own = "the settings of its function" if entrant.of_model else "the constructors’ defaults"
        kinds.setdefault(usual if entrant.spec in RECIPES else own, []).append(entrant.label)
    if len(kinds) > 1:
        return joined([f"{kind} ({', '.join(labels)})" for kind, labels in kinds.items()])
    others = " for the others" if len(rest) < len(comparison.entrants) else ""
    return "".join(f"{kind}{others}" for kind in kinds)


def _at_best(comparison: Comparison) -> str:
    on = "on the same test data that they are compared on"
    if comparison.config.get("validation"):
        on = "and compared on held-out training data"
    decays = [
        f"{entrant.label}: {decay}"
        for entrant in comparison.entrants
        for decay in _given(entrant)
        if not decay.startswith("lr ")
    ]
    by_hand = f", with settings chosen by hand ({'; '.join(decays)})" if decays else ""
    return f"At each optimizer’s best of {len(comparison.config['lr_grid'])} learning rates, chosen {on}{by_hand}"


def _given(entrant: Entrant) -> list[str]:
    """The options that differ from the recipe, or from the constructor's defaults, as text."""
    usual = RECIPES[entrant.spec].options if entrant.spec in RECIPES else {}
    differ = [key for key, value in entrant.options.items() if usual.get(key) != value]
    given = differ if entrant.given is None else entrant.given
    return [f"{key.replace('weight_decay', 'weight decay')} {_short(entrant.options[key])}" for key in given]


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, int | float) and not isinstance(value, bool) else str(value)


def _is_papers(comparison: Comparison) -> bool:
    """Whether the runs are the paper's: its nets, optimizers, epochs, batch and schedule on CIFAR."""
    config = comparison.config
    if any(
        entrant.spec in NOT_THE_PAPERS or entrant.spec not in RECIPES or entrant.options.get("min_inertia")
        for entrant in comparison.entrants
    ):
        return False
    paper = PAPER_SCHEDULES.get(str(config.get("task")))
    own = (config.get("schedule"), config.get("epochs"), config.get("batch"))
    return paper is not None and config.get("model") in PAPER_NETS and own == ("paper", paper.epochs, paper.batch)


def edges(comparison: Comparison) -> str:
    """A sentence: how far the best learning rates are from the ends of the tuning's range or of a grid; else empty."""
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
    """The range of learning rates that was searched, by optimizer; empty if it was not recorded."""
    try:
        content = json.loads((comparison.path / "tuning" / "tuning.json").read_text(encoding="utf-8"))
        return {name: (float(own["lr"][0]), float(own["lr"][1])) for name, own in content["ranges"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError):
        return {}
