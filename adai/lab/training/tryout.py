"""Takes one step with an optimizer before training, to check that it works, and whether it needs a closure."""

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
    """Take a step with random gradients on a copy of the model. The model and the random generators do not change.

    The optimizers of `RECIPES` need no closure; for them no step is taken.

    Args:
        recipe: makes the optimizer.
        model: the model.
        precision: the precision of the run.

    Returns:
        Whether a step needs a closure, as for L-BFGS and SAM.

    Raises:
        UserError: the optimizer cannot be made, cannot take a step, has none of the model's parameters, needs a closure
            although the precision is ``fp16``, or has a state that a checkpoint cannot hold.
    """
    if recipe.spec in RECIPES:
        return False
    device = next(model.parameters(), torch.empty(0)).device
    with random_state.untouched(device):
        own = copied(model)
        optimizer = recipe.build(own)
        if not {*map(id, own.parameters())} & {id(p) for group in optimizer.param_groups for p in group["params"]}:
            raise UserError(f"{recipe.label} has no parameter of the model; make it from the model that it is given")
        train(optimizer)
        with_closure = _step(optimizer, own, recipe.label)
        if with_closure and precision == "fp16":
            raise UserError(
                f"{recipe.label} evaluates each batch several times, which fp16 does not support; choose fp32 or bf16"
            )
        evaluate(optimizer)
        _check_state(optimizer, recipe, own)
    return with_closure


def train(optimizer: Optimizer) -> None:
    """Switch an optimizer with modes to training mode, in which schedule-free optimizers have other weights."""
    _mode(optimizer, "train")


def evaluate(optimizer: Optimizer) -> None:
    """Switch an optimizer that has modes to evaluation mode, before the model is evaluated or saved."""
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
    """The closure of a loss that depends only on the parameters, is easy to minimise, and has a random gradient."""
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
    """Check that a checkpoint can hold the state, and that a run can continue from it."""
    buffer = io.BytesIO()
    try:
        torch.save(optimizer.state_dict(), buffer)
        buffer.seek(0)
        recipe.build(model).load_state_dict(torch.load(buffer, weights_only=True))
    except UserError:
        raise
    except Exception as error:
        strange = re.search(r"GLOBAL (\S+)", str(error))  # torch's message is half a page long
        why = f"it holds {strange[1]}" if strange else in_a_line(error)
        raise UserError(
            f"{recipe.label} cannot be kept in a checkpoint ({why}): its state_dict() may hold only tensors, numbers "
            "and strings, and load_state_dict() has to take them"
        ) from error
