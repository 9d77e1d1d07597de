"""Algorithm 2 of the paper, transcribed line by line into numpy: independent of the package, for tests alone.

``min_inertia`` and ``warmup_steps``, which the paper does not have, take their place in it.
"""

import numpy as np


class Transcription:
    """Adai over groups of numpy arrays; every group is a dict with ``params`` and its options."""

    def __init__(self, groups):
        self.groups = groups
        self.state = [[None] * len(group["params"]) for group in groups]

    def step(self, gradients):
        """One step; ``gradients[i][j]`` belongs to parameter j of group i and is None where it has none."""
        hats = []
        for group, states, gs in zip(self.groups, self.state, gradients, strict=True):
            beta2 = group["betas"][1]
            for j, g in enumerate(gs):
                if g is None:
                    continue
                g = -g if group.get("maximize") else g
                if not group.get("decoupled"):
                    g = g + group["weight_decay"] * group["params"][j]
                if states[j] is None:
                    zeros = np.zeros_like(g)
                    states[j] = {"t": 0, "v": zeros, "m": zeros, "prod": np.ones_like(g)}
                s = states[j]
                s["t"] += 1
                s["g"] = g
                s["v"] = beta2 * s["v"] + (1 - beta2) * g**2
                s["v_hat"] = s["v"] / (1 - beta2 ** s["t"])
                hats.append(s["v_hat"].ravel())
        v_bar = np.concatenate(hats).mean()
        for group, states, gs in zip(self.groups, self.state, gradients, strict=True):
            beta0, eps, lr, d = group["betas"][0], group["eps"], group["lr"], group.get("dampening", 1.0)
            for j, g in enumerate(gs):
                if g is None:
                    continue
                s = states[j]
                w = beta0 * (s["v_hat"] / v_bar) ** (1 / (3 - 2 * d))
                s["mu"] = mu = np.clip(1 - w, group.get("min_inertia", 0), 1 - eps)
                s["m"] = mu * s["m"] + (1 - mu) ** d * s["g"]
                s["prod"] = s["prod"] * mu
                m_hat = s["m"] / (1 - s["prod"])
                theta = group["params"][j]
                rate = lr * min(1, s["t"] / (group.get("warmup_steps", 0) + 1))
                if group.get("decoupled"):
                    theta = theta * (1 - rate * group["weight_decay"])
                group["params"][j] = theta - rate * beta0 ** (1 - d) * m_hat
