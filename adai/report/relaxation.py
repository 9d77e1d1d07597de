"""How the directions of a minimum relax, with one inertia for all parameters and with Adai's."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from torch.optim import SGD

from adai import Adai
from adai.report.axes import plain
from adai.simulate.relaxation import mean_path
from adai.theory import damping, exact
from adai.theory.bounds import Array
from adai.theory.record import Result

END = 7.0  # of ηHT
SETTLE = 1000
DOTS = 18


def drawn(result: Result, replicas: int = 200) -> Figure:
    """The figure for the example of the result ``damping``: lines for frozen averages, dots for noisy optimizers."""
    eta, beta0, H = (np.asarray(result.inputs[name]) for name in ("eta", "beta0", "H_all"))
    lr, momentum = float(eta), 1 - float(beta0)
    makers: dict[str, tuple[Any, Array]] = {
        f"EMA momentum, β1 = {momentum:g}": (
            lambda params: SGD(params, lr=lr, momentum=momentum, dampening=momentum),
            np.full(H.shape, momentum),
        ),
        f"Adai, β0 = {beta0:g}": (
            lambda params: Adai(params, lr=lr, betas=(float(beta0), 0.99), eps=result.inputs["eps"]),
            exact.adai_inertia(beta0, H, result.inputs["eps"]),
        ),
    }
    T = int(np.ceil(END / (lr * H.min())))
    picture = Figure(figsize=(9, 4), layout="constrained")
    for ax, (title, (make, mu)) in zip(picture.subplots(1, 2, sharey=True), makers.items(), strict=True):
        lines = damping.relaxation(eta, mu, H, T)
        dots = mean_path(make, H, B=1.0, T=T, settle=SETTLE, replicas=replicas)
        ratios = damping.ratio(eta, mu, 1 - mu, H)
        for i, h in enumerate(H):
            last = int(END / (lr * h))
            shown = np.unique(np.rint(np.linspace(0, last, DOTS)).astype(int))
            label = f"H = {h:g}, ζ = {ratios[i]:.2f}"
            ax.plot(lr * h * np.arange(last + 1), lines[: last + 1, i], f"C{i}", label=label)
            ax.plot(lr * h * shown, dots[shown, i], f"C{i}o", markersize=4)
        ax.axhline(0, color="k", linewidth=0.8)
        ax.set(title=title, xlabel="ηHT, iterations in units of each direction's 1/(ηH)")
        ax.legend(frameon=False)
        plain(ax)
    picture.axes[0].set_ylabel("θ_T / θ_0")
    return picture
