"""Escape times of many replicas: each starts in the valley and stops when it has left."""

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from adai.simulate import rules
from adai.simulate.landscapes import Landscape, gradient
from adai.simulate.rules import Array, Rule

Steps = NDArray[np.int64]


class Times(NamedTuple):
    """The result of each replica, in iterations: ``exits`` and ``passages`` are the cap if it did not get there."""

    exits: Steps
    passages: Steps
    escaped: NDArray[np.bool_]

    def head(self, count: int) -> "Times":
        """The first ``count`` replicas."""
        return Times(self.exits[:count], self.passages[:count], self.escaped[:count])

    def joined(self, more: "Times") -> "Times":
        """These replicas followed by the others."""
        return Times(
            np.concatenate([self.exits, more.exits]),
            np.concatenate([self.passages, more.passages]),
            np.concatenate([self.escaped, more.escaped]),
        )


def replica_seeds(seed: int, stream: str, first: int, count: int) -> NDArray[np.uint32]:
    """Seeds of replicas first … first + count - 1 of a stream. They do not depend on what else runs, nor on the order.

    Args:
        seed: the user's seed.
        stream: a name of the simulation; other names give independent replicas.
        first: index of the first replica.
        count: the number of seeds.
    """
    key = tuple(stream.encode())
    sequence = np.random.SeedSequence(seed, spawn_key=key)
    return sequence.generate_state(first + count)[first:].astype(np.uint32)


def escape_times(landscape: Landscape, rule: Rule, seeds: NDArray[np.uint32], *, cap: int, warm: bool = False) -> Times:
    """Run one replica for each seed, without holding the global interpreter lock.

    Args:
        landscape: from `adai.simulate.landscapes`.
        rule: from `adai.simulate.rules`.
        seeds: one per replica, from `replica_seeds`.
        cap: iterations after which a replica is stopped; it then counts as censored.
        warm: start with a settled v and no bias correction, like a run that has been in the valley for a long time;
            otherwise with a new optimizer.

    Raises:
        ValueError: the cap is below 1.
    """
    if cap < 1:
        raise ValueError(f"cap = {cap}, but has to be at least 1")
    exits = np.full(seeds.size, cap, dtype=np.int64)
    passages, escaped = exits.copy(), np.zeros(seeds.size, dtype=np.bool_)
    _run(landscape, rule, seeds, cap, warm, exits, passages, escaped)
    return Times(exits, passages, escaped)


@njit(nogil=True, cache=True)
def _run(
    landscape: Landscape,
    rule: Rule,
    seeds: NDArray[np.uint32],
    cap: int,
    warm: bool,
    exits: Steps,
    passages: Steps,
    escaped: NDArray[np.bool_],
) -> None:
    n = landscape.start.size
    theta, g, m, v, c = np.zeros(n), np.zeros(n), np.zeros(n), np.zeros(n), np.zeros(n)
    for replica in range(seeds.size):
        np.random.seed(seeds[replica])  # each thread has its own generator, so no other replica uses it
        theta[:] = landscape.start
        m[:], v[:], c[:], age = 0, 0, 0, 0.0
        if warm:
            v[:], c[:], age = landscape.first_v, 1, 1e12  # far beyond any bias correction
        for step in range(1, cap + 1):
            gradient(landscape, theta, g)
            rules.step(rule, theta, g, m, v, c, age + step)
            furthest = _furthest(theta, landscape.exits)
            if furthest >= landscape.bound and passages[replica] == cap:
                passages[replica] = step
            if furthest >= landscape.exit:
                exits[replica] = step
                escaped[replica] = True
                break


@njit(nogil=True, cache=True)
def _furthest(theta: Array, exits: int) -> float:
    furthest = -np.inf
    for i in range(exits):
        furthest = max(furthest, theta[i])
    return furthest
