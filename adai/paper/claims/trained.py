"""Verdicts from trained nets: test error, flatness, speed, how often a run dies."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from adai.errors import UserError
from adai.lab.optimizers.recipes import recipe
from adai.lab.results.comparison import Comparison, read
from adai.lab.results.equal_loss import at_equal_loss, courses
from adai.lab.results.outcome import DIED
from adai.lab.results.stats import MIN_SEEDS, Difference, paired_difference
from adai.paper.claims.claim import DOES_NOT_HOLD, HOLDS, HOLDS_WHEN, NOT_SHOWN, Found, NotRunError, joined, json_lines
from adai.paper.experiments import SMALL
from adai.report.drift import momentum_drift

ADAPTIVE = ("adam", "amsgrad", "adamw", "adabound", "padam", "yogi", "radam")
TABLE1 = tuple(f"{SMALL.name}/{name}" for name in ("cifar10-resnet8", "cifar100-resnet8"))
HIGHER = "cifar10-rate3"
"""A comparison at three times the paper's learning rates."""
MEASURED = ("cifar10-convnet", "digits-flatness", TABLE1[0])
ALIKE = np.log(2)  # sharpnesses within a factor of 2 count as equal
AS_FAST = np.log(1.1)  # a loss that is at most a tenth higher counts as equally low
BLOW_UPS = "stability/runs.jsonl"


class Gap(NamedTuple):
    """A rival's number minus Adai's over shared seeds, on one data set."""

    data: str
    rival: str
    of: Difference

    def __str__(self) -> str:
        text = f"{recipe(self.rival).label} {self.of.mean:+.2f} ({self.of.low:+.2f} to {self.of.high:+.2f})"
        return text.replace("-", "−")


def better_than_sgd(folder: Path) -> Found:
    """Adai generalizes better than SGD with momentum: at the paper's learning rates, or at higher ones."""
    printed, higher = _generalizes(folder, ("sgd",)), _gaps(folder / HIGHER, ("sgd", "ema"), ours="adai-paper")
    if not higher:
        return printed
    settings = _read(folder / HIGHER).config
    text = (
        f"At three times these rates, {settings['model']}, {settings['epochs']} epochs, {higher[0].of.seeds} seeds: "
        f"{'; '.join(_by_data(higher))}."
    )
    if printed.verdict == NOT_SHOWN and any(gap.rival == "sgd" and gap.of.shown and gap.of.mean > 0 for gap in higher):
        return Found(
            HOLDS_WHEN, f"It is shown at three times the paper's rates, not at these. {printed.sentence} {text}"
        )
    return Found(printed.verdict, f"{printed.sentence} {text}")


def better_than_adaptive(folder: Path) -> Found:
    """Adai generalizes better than Adam and its variants."""
    return _generalizes(folder, ADAPTIVE)


def _generalizes(folder: Path, rivals: Sequence[str]) -> Found:
    """Whether every rival has a higher error at the best epoch than Adai, on every data set of the small Table 1."""
    wanted = len(TABLE1) * len(rivals)
    of = {name: _gaps(folder / name, rivals, comparisons=wanted) for name in TABLE1}
    enough = [gap for gaps in of.values() for gap in gaps]
    if not enough:
        raise NotRunError(
            f"0 of {wanted} comparisons have {MIN_SEEDS} seeds in the small Table 1; the paper's own "
            "networks have not been run"
        )
    better = [gap for gap in enough if gap.of.shown and gap.of.mean > 0]
    worse = [gap for gap in enough if gap.of.shown and gap.of.mean < 0]
    text = (
        f"Test error minus Adai's at the best epoch of each run, in points, small nets: {'; '.join(_by_data(enough))}."
    )
    if len(enough) < wanted:
        text = f"{text} Not run yet: {joined([name for name, gaps in of.items() if len(gaps) < len(rivals)])}."
    if len(better) == wanted:
        return Found(HOLDS, f"It holds for small nets at the paper's rates. {text}")
    if better:
        return Found(
            HOLDS_WHEN,
            f"With small nets at the paper's rates it is shown in {len(better)} of {len(enough)} comparisons. {text}",
        )
    return Found(DOES_NOT_HOLD if worse else NOT_SHOWN, text)


def _by_data(gaps: Sequence[Gap]) -> list[str]:
    of = dict.fromkeys(gap.data for gap in gaps)
    return [f"{joined([str(gap) for gap in gaps if gap.data == data])} on {data}" for data in of]


def _gaps(folder: Path, rivals: Sequence[str], ours: str = "adai", comparisons: int | None = None) -> list[Gap]:
    """Lowest test error over the epochs, rival minus Adai, over shared seeds; empty if the folder does not exist.

    Args:
        folder: of a comparison.
        rivals: their names in it.
        ours: Adai's name in it.
        comparisons: the number of intervals that hold together; default one for each rival.
    """
    if not (folder / "config.json").exists():
        return []
    comparison = _read(folder)
    best = {
        entrant.name: {run.seed: float(np.nanmin(run.column("test_error"))) for run in entrant.finished}
        for entrant in comparison.entrants
    }
    found = []
    for rival in rivals:
        shared = sorted(best.get(rival, {}).keys() & best.get(ours, {}).keys())
        if len(shared) >= MIN_SEEDS:
            a, b = ([best[name][seed] for seed in shared] for name in (rival, ours))
            of = paired_difference(a, b, comparisons=comparisons or len(rivals))
            found.append(Gap(str(comparison.config["task"]), rival, of))
    return found


def as_flat_as_sgd(folder: Path) -> Found:
    """Adai's minima are as flat as SGD's."""
    gaps = _flatness(folder, "sgd")
    text = f"SGD's sharpness over Adai's at equal loss is {'; '.join(map(_ratio, gaps))} (95 %)."
    if all(gap.of.low >= -ALIKE and gap.of.high <= ALIKE for gap in gaps):
        return Found(HOLDS, text)
    if any(gap.of.shown for gap in gaps):
        return Found(HOLDS_WHEN, f"By some measures they differ. {text}")
    return Found(NOT_SHOWN, f"No difference is shown, but the intervals are too wide to call them equal. {text}")


def flatter_than_adam(folder: Path) -> Found:
    """Adai's minima are flatter than Adam's."""
    gaps = _flatness(folder, "adam")
    flatter = [gap for gap in gaps if gap.of.shown and gap.of.mean > 0]
    text = f"Adam's sharpness over Adai's at equal loss is {'; '.join(map(_ratio, gaps))} (95 %)."
    if len(flatter) == len(gaps):
        return Found(HOLDS, text)
    if not flatter:
        return Found(NOT_SHOWN, text)
    return Found(
        HOLDS_WHEN,
        "It holds by the top eigenvalue, not by the filter-normalised sharpness, which does not change when layers are "
        f"rescaled. {text}",
    )


MEASURES = {"largest": "top eigenvalue", "filter_worst": "filter-normalised sharpness"}


def _flatness(folder: Path, rival: str) -> list[Gap]:
    """Logarithms of the rival's sharpness over Adai's at equal loss."""
    found = []
    for name in MEASURED:
        comparison = _read(folder / name)
        equal = at_equal_loss(courses(comparison), comparison.loss_unit)
        for key, words in MEASURES.items():
            ours, theirs = (equal.values(who, key) if equal else {} for who in ("adai", rival))
            shared = sorted(ours.keys() & theirs.keys())
            if len(shared) >= MIN_SEEDS:
                a, b = (np.log([of[seed] for seed in shared]).tolist() for of in (theirs, ours))
                of = paired_difference(a, b, comparisons=len(MEASURED) * len(MEASURES))
                found.append(Gap(f"{_short(comparison)}, {words}", rival, of))
    if not found:
        raise NotRunError(f"fewer than {MIN_SEEDS} seeds have both sharpnesses at equal loss")
    return found


def _read(folder: Path) -> Comparison:
    try:
        return read(folder)
    except UserError as error:
        raise NotRunError(f"the comparison in {folder.name} cannot be read") from error


def _short(comparison: Comparison) -> str:
    return f"{comparison.config['model']} on {comparison.config['task']}"


def _ratio(gap: Gap) -> str:
    value, low, high = (f"{x:.2g}" if x < 99.5 else f"{x:.0f}" for x in np.exp([gap.of.mean, gap.of.low, gap.of.high]))
    return f"{value} ({low} to {high}, {gap.of.seeds} seeds; {gap.data})"


def drift(folder: Path) -> Found:
    """Adai's momentum drift is nearly 1000 times Adam's in early epochs."""
    parts, ratios = [], []
    for name in MEASURED:
        comparison = _read(folder / name)
        drifts = {entrant.name: momentum_drift(entrant)[:, :1] for entrant in comparison.entrants if entrant.runs}
        first = {name: of for name, of in drifts.items() if np.isfinite(of).any()}
        if not {"adai", "adam"} <= first.keys():
            raise NotRunError(f"the comparison in {name} has no first epoch of Adai and Adam")
        ours, theirs = first["adai"], first["adam"]
        ratio = float(np.nanmean(ours) / np.nanmean(theirs))
        ratios.append(ratio)
        parts.append(f"{ratio:.0f} on {_short(comparison)} ({len(ours)} seeds)")
    verdict = HOLDS if min(ratios) >= 500 else DOES_NOT_HOLD if max(ratios) < 1 else HOLDS_WHEN
    return Found(
        verdict,
        f"In the first epoch the ratio by eq. 12 is {joined(parts)}. It is proportional to the mean of v̂ and to the "
        "square of the ratio of the learning rates, so it depends on the rates as much as on the rules.",
    )


def as_fast_as_adam(folder: Path) -> Found:
    """Adai trains as fast as Adam."""
    comparisons = [
        _read(folder / name) for name in dict.fromkeys((*TABLE1, *MEASURED)) if (folder / name / "config.json").exists()
    ]
    parts, gaps = [], []
    for comparison in comparisons:
        losses = {
            entrant.name: {run.seed: _half_way(run.column("train_loss")) for run in entrant.finished}
            for entrant in comparison.entrants
        }
        shared = sorted(losses.get("adai", {}).keys() & losses.get("adam", {}).keys())
        if len(shared) >= MIN_SEEDS:
            ours, theirs = (np.log([losses[name][seed] for seed in shared]).tolist() for name in ("adai", "adam"))
            of = paired_difference(ours, theirs)
            value, low, high = np.exp([of.mean, of.low, of.high])
            gaps.append(of)
            parts.append(f"{value:.2f} times ({low:.2f} to {high:.2f}, {of.seeds} seeds; {_short(comparison)})")
    if not gaps:
        raise NotRunError(f"no task has {MIN_SEEDS} seeds of Adai and Adam")
    text = f"Half-way through training, Adai's training loss is {joined(parts)} Adam's."
    as_fast = sum(of.high <= AS_FAST for of in gaps)
    if as_fast == len(gaps):
        return Found(HOLDS, text)
    if as_fast:
        return Found(HOLDS_WHEN, f"It holds on {as_fast} of {len(gaps)} tasks. {text}")
    return Found(NOT_SHOWN, text)


def _half_way(losses: NDArray[np.float64]) -> float:
    return float(losses[losses.size // 2 - 1])


def robust(folder: Path) -> Found:
    """Adai needs no more tuning than SGD: it trains where SGD does."""
    died = _blow_ups(folder)
    parts = []
    for steps, share in died.items():
        warm_up = f"{steps} steps of warm-up" if steps else "no warm-up"
        parts.append(
            f"with {warm_up} Adai {share.adai}, with min_inertia=0.9 {share.floor}, SGD with momentum {share.sgd}"
        )
    text = (
        "Runs that blew up at the paper's rates, on the digits and on MNIST with and without batch norm: "
        f"{'; '.join(parts)} (Wilson, 95 %)."
    )
    if any(share.adai.low > share.sgd.high for share in died.values()):
        return Found(DOES_NOT_HOLD, f"The rule as printed dies where SGD trains. {text}")
    return Found(NOT_SHOWN, text)


def no_more_hyperparameters(folder: Path) -> Found:
    """Adai introduces no extra hyperparameters: lr, β0, β2 and ε are as many as Adam's, if they are enough to train."""
    died = _blow_ups(folder)
    if 0 not in died:
        raise NotRunError(f"{BLOW_UPS} has no runs without a warm-up")
    alone, longest = died[0], max(died)
    text = (
        "By number it is right: lr, β0, β2 and ε are as many as Adam has; this is an argument, not a measurement. "
        f"With these four alone Adai blew up in {alone.adai} runs at the paper's rates, "
        f"SGD with momentum in {alone.sgd}"
    )
    if alone.adai.low <= alone.sgd.high:
        return Found(HOLDS, f"{text} (Wilson, 95 %).")
    return Found(
        HOLDS_WHEN,
        f"{text}, and Adai with two more, a warm-up of {longest} steps and `min_inertia=0.9`, in {died[longest].floor} "
        "(Wilson, 95 %). So in practice two more are needed: Adai's first steps have full size, and sharp directions "
        "get no inertia.",
    )


class Share(NamedTuple):
    """The number of runs that died, and of all runs; with Wilson's interval in percent."""

    dead: int
    runs: int

    @property
    def _interval(self) -> tuple[float, float]:
        found = binomtest(self.dead, self.runs).proportion_ci(method="wilson")
        return 100 * float(found.low), 100 * float(found.high)

    @property
    def low(self) -> float:
        """Lower end."""
        return self._interval[0]

    @property
    def high(self) -> float:
        """Upper end."""
        return self._interval[1]

    def __str__(self) -> str:
        return f"{self.dead} of {self.runs} ({self.low:.0f} to {self.high:.0f} %)"


class Died(NamedTuple):
    """How many runs died with one warm-up."""

    adai: Share
    floor: Share
    sgd: Share


def _blow_ups(folder: Path) -> dict[int, Died]:
    """How many runs died at the paper's rates, by the steps of warm-up, where all three have been run."""
    rows = [row for row in json_lines(folder / BLOW_UPS) if row["factor"] == 1]
    died = {}
    for steps in sorted({row["warmup_steps"] for row in rows}):
        found = Died(_dead(rows, "adai", 0.0, steps), _dead(rows, "adai", 0.9, steps), _dead(rows, "sgd", None, steps))
        if all(share.runs for share in found):
            died[steps] = found
    if not died:
        raise NotRunError(f"{BLOW_UPS} has no runs of Adai, Adai with a floor and SGD at the paper's rates")
    return died


def _dead(rows: Sequence[dict[str, object]], optimizer: str, floor: float | None, steps: int) -> Share:
    own = [r for r in rows if (r["optimizer"], r["min_inertia"], r["warmup_steps"]) == (optimizer, floor, steps)]
    return Share(sum(row["status"] in DIED for row in own), len(own))
