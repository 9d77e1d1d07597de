"""One step of an optimizer before any training, to see whether it works with the model and needs a closure."""

import io
import re
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from adai.errors import UserError
from adai.lab.host import random_state
from adai.lab.host.boundary import in_a_line
from adai.lab.models.copies import copied
from adai.lab.optimizers.recipes import RECIPES, Recipe


def needs_closure(recipe: Recipe, model: nn.Module, precision: str = "fp32") -> bool:
    """Take a step with random gradients on a copy of the model. Model and random generators stay as they are.

    It is not tried with the recipes of `RECIPES`, none of which needs a closure.

    Returns:
        Whether a step fails without a closure, as those of L-BFGS and SAM do.

    Raises:
        UserError: the optimizer cannot be made, cannot take a step, has none of the model's parameters, needs a closure
            with ``fp16``, or has a state that a checkpoint cannot hold.
    """
    if recipe.spec in RECIPES:
        return False
    device = next(model.parameters(), torch.empty(0)).device
    with random_state.untouched(device):
        own = copied(model)
        optimizer = recipe.build(own)
        if not {*map(id, own.parameters())} & {id(p) for group in optimizer.param_groups for p in group["params"]}:
            raise UserError(f"{recipe.label} has no parameter of the model; make it of the model that it is given")
        train(optimizer)
        with_closure = _step(optimizer, own, recipe.label)
        if with_closure and precision == "fp16":
            raise UserError(f"{recipe.label} evaluates each batch several times; fp16 cannot, so choose fp32 or bf16")
        evaluate(optimizer)
        _check_state(optimizer, recipe, own)
    return with_closure


def train(optimizer: Optimizer) -> None:
    """Put an optimizer that has modes into training mode. Schedule-free optimizers train with other weights."""
    _mode(optimizer, "train")


def evaluate(optimizer: Optimizer) -> None:
    """Put an optimizer that has modes into evaluation mode, before the model is evaluated or saved."""
    _mode(optimizer, "eval")


def _mode(optimizer: Optimizer, name: str) -> None:
    if callable(getattr(optimizer, "train", None)) and callable(switch := getattr(optimizer, "eval", None)):
        switch = switch if name == "eval" else optimizer.train  # type: ignore[attr-defined]
        switch()


def _step(optimizer: Optimizer, model: nn.Module, label: str) -> bool:
    """Take a step; returns whether it needed a closure."""
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
