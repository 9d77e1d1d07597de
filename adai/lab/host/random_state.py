"""The global random generators that a model or a data set may use."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def seed(number: int) -> None:
    """Seed all generators."""
    torch.manual_seed(number)
    random.seed(number)
    np.random.seed(number % 2**32)


def get(device: torch.device) -> dict[str, Any]:
    """The state of all generators, as tensors, numbers and tuples."""
    generator = np.random.get_state(legacy=False)
    keys = torch.from_numpy(generator["state"]["key"].astype(np.int64))  # torch has no uint32 to save
    generator |= {"state": {**generator["state"], "key": keys}}
    state = {"torch": torch.get_rng_state(), "python": random.getstate(), "numpy": generator}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def put(state: dict[str, Any], device: torch.device) -> None:
    """Restore the state of all generators."""
    torch.set_rng_state(state["torch"])
    random.setstate(state["python"])
    generator = state["numpy"]
    keys = generator["state"]["key"].numpy().astype(np.uint32)
    np.random.set_state({**generator, "state": {**generator["state"], "key": keys}})
    if device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], device)


@contextmanager
def untouched(device: torch.device) -> Iterator[None]:
    """Restore the state of all generators when the block ends."""
    before = get(device)
    try:
        yield
    finally:
        put(before, device)
