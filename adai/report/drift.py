"""Momentum drift of Adai against Adam's along a comparison (section 4 of the paper: "nearly 1000 times")."""

import numpy as np
from matplotlib.ticker import MaxNLocator

from adai.lab.results.comparison import Array, Comparison, Entrant, mean_over_runs, over_runs
from adai.lab.results.words import short
from adai.report.axes import log_where_it_helps
from adai.report.picture import Missing, Picture, one_axes
from adai.report.style import INK, style
from adai.theory.saddle import total_drift

ADAPTIVE = ("adai", "adaiw")
ADAM = "adam"
BETA_0, BETA_1 = 0.1, 0.9  # the defaults of Adai and of Adam


def momentum_drift(entrant: Entrant) -> Array:
    """⟨Δθ²⟩ of the total momentum drift by run and epoch, (runs, epochs), for the runs that finished.

    Both optimizers use eq. 12, |H_i|η²/(2(1-β1)B), with C_i = |H_i|/B by Assumption 1. Adai's 1 - μ_i = β0 C_i / mean C
    gives η² v̄ / (2 β0) for every parameter, with v̄ = mean(v̂) as the estimate of mean C; Proposition 3 prints twice
    that. Adam's learning rate η/√C_i gives η² / (2(1-β1)), which is Proposition 1 for T → ∞.
    """
    lr = over_runs(entrant.finished, "lr")
    if entrant.name in ADAPTIVE:
        keep, C = entrant.options.get("betas", [BETA_0])[0], over_runs(entrant.finished, "v_hat_mean")
    else:
        keep, C = 1 - entrant.options.get("betas", [BETA_1])[0], np.ones_like(lr)
    known = (lr > 0) & (C > 0)
    drift = np.full(lr.shape, np.nan)
    drift[known] = total_drift(lr[known], 1 - keep, 1, C[known])
    return drift


def drift_pictures(comparison: Comparison) -> list[Picture | Missing]:
    """The ratio to Adam's drift for Adai and AdaiW; empty if Adam takes no part, or neither of them does."""
    entrants = {entrant.name: entrant for entrant in comparison.entrants if entrant.finished}
    if ADAM not in entrants:
        return []
    return [_ratio(entrants[name], entrants[ADAM]) for name in ADAPTIVE if name in entrants]


def _ratio(entrant: Entrant, adam: Entrant) -> Picture | Missing:
    """The ratio by epoch: mean over seeds, with a band from the lowest to the highest."""
    key, title = f"drift-{entrant.name}", f"Momentum drift of {entrant.label} over {adam.label}’s by epoch"
    ours, theirs = momentum_drift(entrant), mean_over_runs(momentum_drift(adam))
    epochs = min(ours.shape[1], theirs.size)
    ratio = ours[:, :epochs] / theirs[:epochs]
    if not np.isfinite(ratio).any():
        return Missing(key, title, "the mean of v̂")
    figure, ax = one_axes()
    look, mean, at = style(entrant.name), mean_over_runs(ratio), np.arange(1, epochs + 1)
    ax.fill_between(at, ratio.min(axis=0), ratio.max(axis=0), color=look.light, alpha=0.16, linewidth=0)
    ax.plot(at, mean, color=look.light, marker=look.marker, markevery=max(1, epochs // 8), ms=5)
    ax.axhline(1, color=INK, lw=0.8, ls=":")
    ax.set(xlabel="epoch", ylabel="ratio of mean squared drifts")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    log_where_it_helps(ax, "y", [ratio.ravel(), np.ones(1)])
    ends = np.flatnonzero(np.isfinite(mean))[[0, -1]]
    first, last = (short(mean[end]) for end in ends)
    text = (
        f"{first} in epoch {ends[0] + 1}, {last} in epoch {ends[1] + 1}; the paper observed nearly 1000 in early "
        "epochs of ResNet-18 on CIFAR-10. By eq. 12 from learning rates and the mean of v̂. Mean over seeds; band from "
        "lowest to highest."
    )
    return Picture(key, title, text, figure)
