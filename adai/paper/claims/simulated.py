"""Verdicts from simulations and measurements: displacement at a saddle, escape from a minimum, noise of real nets."""

from pathlib import Path

from adai.paper.claims.claim import (
    DOES_NOT_HOLD,
    HOLDS,
    HOLDS_WHEN,
    NOT_SHOWN,
    Found,
    Line,
    NotRunError,
    between,
    joined,
    numbers,
    table,
)
from adai.report.escape import LABELS

SADDLE = "saddle/saddle.csv"
PRINTED, MATCHED, WELL = (f"escape-{name}/escape.json" for name in ("paper", "matched", "double-well"))
VALLEYS = {"the paper's experiment": PRINTED, "a real double well": WELL, "matched parabolas": MATCHED}
FIGURE6, FIGURE7 = "figure6/noise.csv", "figure7/eq5.csv"

NEAR = 0.2  # a ratio within 1 ± NEAR is called equal: simulations of 2,000 replicas know it to 0.1
STANDARD_ERRORS = 4


def hessian_noise(folder: Path) -> Found:
    """Eq. 5: C = H / B."""
    rows = table(folder / FIGURE7)
    correlations, factors = _column(rows, "correlation"), _column(rows, "factor")
    directions = sum(int(row["directions"]) for row in rows if row["B"] == rows[0]["B"])
    text = (
        f"On three layers of a net on MNIST, over {directions:,} directions, log C and log H correlate at "
        f"{between(correlations, '.3f')}, and B C / H is {between(factors, '.2f')}"
    )
    if all(abs(factor - 1) <= NEAR for factor in factors):
        return Found(HOLDS, f"{text}.")
    if min(correlations) > 0.9:
        return Found(HOLDS_WHEN, f"It holds as a proportion, not as an equality. {text}, where eq. 5 has 1.")
    return Found(DOES_NOT_HOLD, f"{text}, where eq. 5 has 1.")


def gaussian(folder: Path) -> Found:
    """The noise of one parameter across minibatches is Gaussian."""
    rows = table(folder / FIGURE6)
    parts, holds = [], []
    for row in rows:
        rejected, expected = float(row["anderson_darling_rejected"]), float(row["anderson_darling_gaussian"])
        holds.append(rejected <= 2 * expected)
        parts.append(f"{100 * rejected:.0f} % ({row['parameters']})")
    text = (
        f"An Anderson-Darling test at 5 % rejects normality for {joined(parts)} of the parameters of a net on MNIST, "
        f"over {rows[0]['minibatches']} minibatches of {rows[0]['B']}; it would reject 5 % of Gaussians."
    )
    return Found(HOLDS if all(holds) else DOES_NOT_HOLD, text)


def sgd_at_a_saddle(folder: Path) -> Found:
    """Theorem 2.1."""
    return _printed(table(folder / SADDLE, "sgd"), "η|H| ≪ 1")


def momentum_at_a_saddle(folder: Path) -> Found:
    """Theorem 3.1."""
    return _printed(
        table(folder / SADDLE, "momentum"),
        "many correlation times have passed, (1 − β1)T ≫ 1",
        "The theorem counts the noise twice: it adds the overdamped diffusion to the drift of an equilibrium velocity.",
    )


def _printed(own: list[Line], condition: str, why: str = "") -> Found:
    """Compare an optimizer's simulated displacements with what a theorem prints, over all curvatures."""
    ratios = [float(row["msd"]) / float(row["msd_printed"]) for row in own]
    within = [
        abs(float(row["msd"]) - float(row["msd_printed"])) <= STANDARD_ERRORS * float(row["msd_se"]) for row in own
    ]
    text = (
        f"Over {len(own)} curvatures the simulated displacement is {between(ratios, '.2f')} times the printed one"
        f" ({_replicas(own)}); {sum(within)} of {len(own)} agree within {STANDARD_ERRORS} standard errors."
    )
    if all(within):
        return Found(HOLDS, f"{text} Its condition is {condition}.")
    return Found(HOLDS_WHEN, f"{why} It is right up to a factor where {condition}. {text}".strip())


def _replicas(rows: list[Line]) -> str:
    errors = [float(row["msd_se"]) / float(row["msd"]) for row in rows]
    return f"each known to {100 * max(errors):.0f} %"


def adam_drift(folder: Path) -> Found:
    """Proposition 1: Adam's displacement does not depend on the Hessian."""
    values = _column(table(folder / SADDLE, "adam"), "drift")
    spread = max(values) / min(values)
    text = (
        f"With an ideal preconditioner the drift differs by a factor of {spread:.2f} over four decades of curvature, "
        "which is the error of the simulation. A real Adam at β2 = 0.999 follows the preconditioner with a delay."
    )
    return Found(HOLDS_WHEN if spread < 1 + NEAR else DOES_NOT_HOLD, text)


def adai_drift(folder: Path) -> Found:
    """Proposition 3: Adai's drift does not depend on the Hessian."""
    rows = table(folder / SADDLE, "adai")
    values, printed = _column(rows, "drift"), _column(rows, "drift_printed")
    spread = max(values) / min(values)
    ratios = [p / v for p, v in zip(printed, values, strict=True)]
    text = (
        f"Over four decades of curvature the simulated drift differs by a factor of {spread:.0f}, and the printed "
        f"value is {between(ratios, '.1f')} times too large. A factor 2 is an error of the proposition; the rest comes "
        "from the bounds of μ, which are 0 and 1 − ε."
    )
    return Found(HOLDS if spread < 1 + NEAR else HOLDS_WHEN, f"It holds between the two bounds of μ only. {text}")


def momentum_escape(folder: Path) -> Found:
    """Theorem 3.2."""
    ratios = {name: numbers(folder / MATCHED, "slope_and_mean_over_theory", name)[1] for name in ("sgd", "ema")}
    parts = [f"{LABELS[name]} {ratio:.2f}" for name, ratio in ratios.items()]
    text = (
        f"If its assumptions hold exactly, mean escape times over the theorem's are {joined(parts)}. For torch's "
        "momentum the printed formula lacks the factor (1 − β1)/β3 and is ten times too long at β1 = 0.9."
    )
    if abs(ratios["ema"] - 1) > NEAR:
        return Found(DOES_NOT_HOLD, text)
    return Found(HOLDS_WHEN, f"It holds for an average (β3 = 1 − β1), not for SGD-style momentum. {text}")


def adam_escape(folder: Path) -> Found:
    """Proposition 2 and Figure 5: Adam's log τ is linear in 1/√H, that of Adai and momentum in 1/H."""
    return _powers(folder, ("adam",), "1/√k")


def adai_escape(folder: Path) -> Found:
    """Proposition 4 and Figure 5."""
    return _powers(folder, ("adai", "momentum"), "1/k")


def _powers(folder: Path, optimizers: tuple[str, ...], claimed: str) -> Found:
    """Which of 1/k and 1/√k log τ is closer to a straight line in, in the paper's experiment and in a double well."""
    verdicts, parts = [], []
    for name, file in VALLEYS.items():
        fits = numbers(folder / file, "r_squared")
        said = []
        for optimizer in optimizers:
            if optimizer in fits:
                _, low, high = fits[optimizer]["difference"]  # R² against 1/k less that against 1/√k
                ahead = (low > 0) - (high < 0)
                verdicts.append(ahead if claimed == "1/k" else -ahead)
                said.append(f"{LABELS[optimizer]} {_words(ahead)}")
        if said:
            parts.append(f"in {name} {joined(said)}")
    if not verdicts:
        raise NotRunError(f"no escape time of {joined([LABELS[optimizer] for optimizer in optimizers])} was fitted")
    text = f"{'; '.join(parts)} (bootstrap of the difference in R² of log τ, 95 %)."
    text = text[0].upper() + text[1:]
    if all(v > 0 for v in verdicts):
        return Found(HOLDS, text)
    if any(v > 0 for v in verdicts):
        return Found(HOLDS_WHEN, f"It depends on the valley. {text}")
    return Found(DOES_NOT_HOLD if all(v < 0 for v in verdicts) else NOT_SHOWN, text)


def _words(ahead: int) -> str:
    return {1: "follows 1/k better", -1: "follows 1/√k better", 0: "follows both equally well"}[ahead]


def slightly_faster(folder: Path) -> Found:
    """Adai leaves minima slightly faster than momentum."""
    text, shown = [], []
    for rival in ("momentum", "ema"):
        own = numbers(folder / WELL, "ratios", f"adai/{rival}")
        flat = [own[k] for k in sorted(own, key=float)[: len(own) // 2]]  # long escapes: no start-up in them
        if not flat:
            raise NotRunError(f"{WELL} has fewer than two sharpnesses")
        faster = sum(one["high"] < 1 for one in flat)
        shown.append(faster)
        values = between([one["value"] for one in flat], ".2f")
        text.append(f"{values} of {LABELS[rival]}'s, with an interval below 1 at {faster} of {len(flat)} sharpnesses")
    verdict = HOLDS if min(shown) == len(flat) else NOT_SHOWN
    return Found(
        verdict,
        "In a real double well, over the flatter half of the sharpnesses, Adai's mean escape time is "
        f"{joined(text)}. If escapes are short, the bias correction of the first steps makes Adai faster. In the "
        "paper's own function the escape direction is flatter than the mean curvature, and for such a direction "
        "Proposition 4 makes Adai slower.",
    )


def _column(rows: list[Line], name: str) -> list[float]:
    return [float(row[name]) for row in rows]
