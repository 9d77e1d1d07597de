"""One step of an optimizer, taken before any training: whether it works with this model, and what it needs."""

import io
import re
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from adai.errors import UserError
from adai.lab.host import random_state
from adai.lab.host.boundary import in_a_line
from adai.lab.models.copies import copied
from adai.lab.optimizers.recipes import RECIPES, Recipe


class Needs(NamedTuple):
    """What an optimizer needs of the training loop.

    Attributes:
        closure: whether it evaluates loss and gradients by itself.
    """

    closure: bool = False


def needs(recipe: Recipe, model: nn.Module, precision: str = "fp32") -> Needs:
    """Take a step with random gradients, on a copy of the model; model and random generators stay as they are.

    Recipes of this package need nothing, which their tests say. An optimizer needs a closure if its step fails without
    one.

    Raises:
        UserError: the optimizer cannot be made, cannot take a step, has none of the model's parameters, needs a closure
            with ``fp16``, or its state cannot be kept in a checkpoint and put back.
    """
    if recipe.spec in RECIPES:
        return Needs()
    device = next(model.parameters(), torch.empty(0)).device
    with random_state.untouched(device):
        own = copied(model)
        optimizer = recipe.build(own)
        if not {*map(id, own.parameters())} & {id(p) for group in optimizer.param_groups for p in group["params"]}:
            raise UserError(f"{recipe.label} has no parameter of the model; make it of the model that it is given")
        train(optimizer)
        found = Needs(_step(optimizer, own, recipe.label))
        if found.closure and precision == "fp16":
            raise UserError(f"{recipe.label} evaluates each batch several times; fp16 cannot, so choose fp32 or bf16")
        evaluate(optimizer)
        _check_state(optimizer, recipe, own)
    return found


def train(optimizer: Optimizer) -> None:
    """Tell an optimizer that training begins, where it wants to know: schedule-free ones then have other weights."""
    _mode(optimizer, "train")


def evaluate(optimizer: Optimizer) -> None:
    """Tell it that the model is evaluated, or kept."""
    _mode(optimizer, "eval")


def _mode(optimizer: Optimizer, name: str) -> None:
    if callable(getattr(optimizer, "train", None)) and callable(switch := getattr(optimizer, "eval", None)):
        switch = switch if name == "eval" else optimizer.train  # type: ignore[attr-defined]
        switch()


def _step(optimizer: Optimizer, model: nn.Module, label: str) -> bool:
    """Take it; whether that needs a closure."""
    closure = _gradients(model)
    closure()
    try:
        optimizer.step()
    except Exception as without:
        closure()
        try:
            optimizer.step(closure)  # type: ignore[arg-type]  # which torch takes to return a float
        except Exception as error:
            why = in_a_line(error)
            also = "" if (first := in_a_line(without)) == why else f"; without a closure {first}"
            raise UserError(f"{label} cannot take a step with this model: {why}{also}") from error
        return True
    return False


def _gradients(model: nn.Module) -> Callable[[], Tensor]:
    """A loss of the parameters alone, that is easy to minimise, and whose gradient is random at first."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    targets = [p.detach() + 0.01 * torch.randn_like(p) for p in parameters]

    def closure() -> Tensor:
        with torch.enable_grad():
            loss = torch.stack([(p - t).abs().square().sum() for p, t in zip(parameters, targets, strict=True)]).sum()
            for p in parameters:
                p.grad = None
            loss.backward()
        return loss

    return closure


def _check_state(optimizer: Optimizer, recipe: Recipe, model: nn.Module) -> None:
    """See to it that a checkpoint can hold the state, and that a run can go on from it."""
    buffer = io.BytesIO()
    try:
        torch.save(optimizer.state_dict(), buffer)
        buffer.seek(0)
        recipe.build(model).load_state_dict(torch.load(buffer, weights_only=True))
    except UserError:
        raise
    except Exception as error:
        strange = re.search(r"GLOBAL (\S+)", str(error))  # torch has half a page to say of it
        why = f"it holds {strange[1]}" if strange else in_a_line(error)
        raise UserError(
            f"{recipe.label} cannot be kept in a checkpoint ({why}): its state_dict() has to hold tensors, numbers and "
            "texts alone, and load_state_dict() has to take them"
        ) from error
