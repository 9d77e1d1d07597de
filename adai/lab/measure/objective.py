"""The mean loss of a model over fixed data, as a function of its parameters, with derivatives.

Curvature and gradient noise are properties of a loss. `Objective` combines a model, a loss and data into one.
"""

import contextlib
import copy
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vjp, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import cross_entropy
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode

from adai.errors import UserError
from adai.lab.host.precision import float32_products
from adai.lab.models.copies import copied
from adai.lab.tasks.targets import Counted, Loss

BatchNorm = Literal["running", "batch"]
Prepare = Callable[[Tensor], Tensor]
Progress = Callable[[str, int, int], None]  # called with the name of the work, the units just done, and their total


def silent(what: str, done: int, total: int) -> None:
    """Show no progress."""


_TOGETHER = 32  # columns of the whole Hessian that are computed at a time


class Objective:
    """L(θ) = Σ_i w_i loss(model(x_i; θ), y_i) / Σ_i w_i, θ being the model's trainable parameters in one vector.

    Use it for the loss that training minimises, without augmentation, dropout or weight decay. Everything is summed
    over minibatches, so memory does not grow with the number of samples. The caller's model is copied and never
    changed. Dropout is off. Frozen parameters are constants.

    The weights are those of `adai.lab.tasks.targets.Counted`: 1 for each sample, unless the loss weights classes or
    ignores targets. Samples whose targets are all ignored are removed and do not count in n.

    Args:
        model: maps inputs to the outputs that the loss takes.
        inputs: (n, …), on any device; ``prepare`` is applied to one minibatch at a time.
        targets: (n, …).
        loss: the mean loss over a minibatch, from its outputs and targets. Default: cross-entropy in nats.
        prepare: converts stored inputs to the model's inputs, for example bytes to normalised floats. Default: no
            conversion.
        batch_norm: ``running``: use the statistics gathered in training, as at inference, so each sample has a loss of
            its own. ``batch``: use those of each minibatch, as in training; the loss then depends on ``batch``. A layer
            that gathers no statistics uses those of the minibatch in either mode.
        batch: samples per minibatch. It trades memory for speed; with ``batch_norm="batch"`` it also changes the loss.
        dtype: the dtype to compute in. Default: the model's own.

    Raises:
        ValueError: the numbers of inputs and targets differ or are 0, there is no trainable parameter, or ``batch`` is
            below 1.
        UserError: all targets are ignored; the same θ and data give two different losses; the loss or gradient is not
            finite; or with batch statistics a minibatch has only one sample.
    """

    def __init__(
        self,
        model: nn.Module,
        inputs: Tensor,
        targets: Tensor,
        *,
        loss: Loss = cross_entropy,
        prepare: Prepare | None = None,
        batch_norm: BatchNorm = "running",
        batch: int = 256,
        dtype: torch.dtype | None = None,
    ) -> None:
        if not len(inputs) or len(inputs) != len(targets):
            raise ValueError(f"needs as many targets as inputs, at least 1, but got {len(inputs)} and {len(targets)}")
        if batch < 1 or batch_norm not in ("running", "batch"):
            raise ValueError(
                f"batch = {batch} and batch_norm = {batch_norm!r}: batch has to be above 0, and batch_norm running or "
                "batch"
            )
        self._model = copied(model).eval().to(dtype)
        self._has_batch_norm, self._by_minibatch = _set_batch_norm(self._model, batch_norm)
        named = {name: p.detach() for name, p in self._model.named_parameters() if p.requires_grad}
        if not named:
            raise ValueError("the model has no parameter that requires a gradient")
        self._parameters = {name: p for name, p in self._model.named_parameters() if p.requires_grad}
        for p in self._parameters.values():
            p.grad = None
        self._shapes = {name: p.shape for name, p in named.items()}
        self._loss = Counted(copy.deepcopy(loss).to(dtype) if isinstance(loss, nn.Module) else loss)
        self._uneven = self._loss.may_leave_out(targets)
        if self._uneven:
            some = self._loss.counts(targets).view(len(targets), -1).any(dim=1)
            if not some.any():
                raise UserError(f"the loss ignores all {len(targets)} targets; take others")
            if not some.all():
                inputs, targets = inputs[some.to(inputs.device)], targets[some]
        self._inputs, self._targets, self._prepare = inputs, targets, prepare
        # NOTE cuDNN has no second derivative of recurrent layers, nor a first one in evaluation.
        self._has_recurrence = any(isinstance(module, nn.RNNBase) for module in self._model.modules())
        self._weight_norm = _WeightNorm()
        self._whole_weight = float(self._loss.weight(targets))
        self.theta: Tensor = _joined(list(named.values()))
        self.batch = batch
        self._vectorises = True  # until vmap fails
        if self._by_minibatch and 1 in (batch, self.samples % batch):
            raise UserError(
                f"{self.samples} samples in minibatches of {batch} leave a minibatch of one, which has no statistics; "
                "take another number of samples"
            )
        self._check_deterministic()

    @property
    def size(self) -> int:
        """The number of parameters."""
        return self.theta.numel()

    @property
    def samples(self) -> int:
        """The number of samples, n."""
        return len(self._targets)

    def about(self) -> dict[str, Any]:
        """The settings of the computation, to be written into every result."""
        mode = f"statistics of each minibatch of {self.batch}" if self._by_minibatch else "running statistics"
        return {
            "parameters": self.size,
            "samples": self.samples,
            "dtype": str(self.theta.dtype).removeprefix("torch."),
            "batch_norm": mode if self._has_batch_norm else "the model has none",
        }

    def split(self, vector: Tensor) -> dict[str, Tensor]:
        """A vector (…, size) as tensors of the parameters' shapes, by name."""
        parts = vector.split([shape.numel() for shape in self._shapes.values()], dim=-1)
        return {
            name: part.reshape(*vector.shape[:-1], *shape)
            for (name, shape), part in zip(self._shapes.items(), parts, strict=True)
        }

    @torch.no_grad()
    def loss(self, theta: Tensor | None = None) -> float:
        """L(θ), by default at the model's own parameters; summed in float64."""
        at = self.theta if theta is None else theta
        return sum(self._plain_loss(at, *xy).item() * self._share(xy[1]) for xy in self._minibatches())

    def gradient(self, theta: Tensor | None = None, progress: Callable[[int], None] = lambda samples: None) -> Tensor:
        """∇L(θ), (size,).

        Args:
            theta: by default the model's own parameters.
            progress: called with the number of samples just done.
        """
        at = self.theta if theta is None else theta
        total = torch.zeros_like(at)
        for xy in self._minibatches():
            total += self._gradient(at, *xy) * self._share(xy[1])
            progress(len(xy[1]))
        return total

    def hvp(self, vectors: Tensor) -> Tensor:
        """H v for v (size,), or for each row of (k, size): the gradient of vᵀ∇L, H = ∇²L being symmetric.

        Several vectors share the forward pass and the computation of ∇L, which is almost half of the work.

        Source: B. Pearlmutter, Fast Exact Multiplication by the Hessian, Neural Computation 6 (1994).
        """
        vectors = vectors.to(self.theta)
        total = torch.zeros_like(vectors)
        for xy in self._minibatches():
            back = self._minibatch_products(*xy)
            products = torch.stack([back(v) for v in vectors.view(-1, self.size)])
            total += products.view_as(total) * self._share(xy[1])
        return total

    def hessian(self, progress: Callable[[int], None] = lambda columns: None) -> Tensor:
        """H, (size, size), symmetric: for nets of up to about 10,000 parameters, where it takes 800 MB in float64.

        Args:
            progress: called with the number of columns just done.
        """
        H = torch.empty(self.size, self.size, dtype=self.theta.dtype, device=self.theta.device)
        for start in range(0, self.size, _TOGETHER):
            rows = slice(start, min(start + _TOGETHER, self.size))
            units = torch.zeros(rows.stop - start, self.size).to(self.theta)
            units[range(len(units)), range(start, rows.stop)] = 1
            H[rows] = 0
            for xy in self._minibatches():
                H[rows] += self._rows(units, xy) * self._share(xy[1])
            progress(len(units))
        return (H + H.T).div_(2)

    def _rows(self, units: Tensor, xy: tuple[Tensor, Tensor]) -> Tensor:
        """H v of the minibatch's loss for every row v; all at once if the model's derivatives can be vectorised."""
        if self._vectorises:
            try:
                with float32_products():
                    rows: Tensor = vmap(self._vectorised_products(*xy))(units)
                return rows
            except (RuntimeError, NotImplementedError):
                self._vectorises = False
        return torch.stack(list(map(self._minibatch_products(*xy), units)))

    def sample_gradients(self, rows: int | None = None) -> Iterator[Tensor]:
        """The gradient g_i of each sample's own loss, in blocks of up to (``rows``, size), in the data's order.

        If samples have different weights, g_i is the gradient of w_i l_i n / Σ w, so the mean of all g_i is always ∇L.

        Args:
            rows: samples per block; by default such that a block has 16 million numbers, and at most ``batch``.

        Raises:
            UserError: batch norm uses the minibatch's statistics, so a single sample has no loss of its own.
        """
        if self._by_minibatch:
            raise UserError("with batch statistics no sample has a gradient of its own; use batch_norm='running'")
        rows = rows or max(1, min(self.batch, 2**24 // self.size))
        for x, y in self._minibatches(rows):
            gradients = self._own_gradients(x, y)
            if self._uneven:
                weights = torch.stack([torch.as_tensor(self._loss.weight(one.unsqueeze(0))) for one in y])
                gradients = gradients * (weights.to(gradients) * (self.samples / self._whole_weight)).unsqueeze(1)
            yield gradients

    def _own_gradients(self, x: Tensor, y: Tensor) -> Tensor:
        """The gradients all at once if the model's derivatives can be vectorised; recurrent layers cannot."""
        if self._vectorises:
            one = grad(lambda theta, x, y: self._minibatch_loss(theta, x.unsqueeze(0), y.unsqueeze(0)))
            try:
                with float32_products():
                    gradients: Tensor = vmap(one, in_dims=(None, 0, 0))(self.theta, x, y)
                return gradients
            except (RuntimeError, NotImplementedError):
                self._vectorises = False
        return torch.stack([self._gradient(self.theta, *xy) for xy in zip(x.split(1), y.split(1), strict=True)])

    def minibatch_gradient(self, where: Tensor) -> Tensor:
        """∇ of the mean loss over the samples with these indices, (size,), in a single forward pass."""
        return self._gradient(self.theta, *self._at(where))

    def _minibatches(self, batch: int | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        for start in range(0, self.samples, batch or self.batch):
            yield self._at(slice(start, start + (batch or self.batch)))

    def _at(self, where: Tensor | slice) -> tuple[Tensor, Tensor]:
        x, y = (_part(tensor, where).to(self.theta.device) for tensor in (self._inputs, self._targets))
        x = x if self._prepare is None else self._prepare(x)
        x = x.to(self.theta.dtype) if x.is_floating_point() else x
        return x, y.to(self.theta.dtype) if y.is_floating_point() else y

    def _share(self, y: Tensor) -> float:
        """The minibatch's share of the total weight."""
        return float(self._loss.weight(y)) / self._whole_weight

    def _minibatch_loss(self, theta: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """The loss as a function of θ, for `torch.func`."""
        return self._loss_of(lambda: functional_call(self._model, self.split(theta), (x,)), y)

    def _loss_of(self, outputs: Callable[[], Any], y: Tensor) -> Tensor:
        with self._differentiable():
            return (self._loss if self._uneven else self._loss.loss)(outputs(), y)

    @contextlib.contextmanager
    def _differentiable(self) -> Iterator[None]:
        """Make torch use only operators whose second derivative is right, also when backward recomputes a layer.

        TF32 is off: curvature in float32 is not to be that of rounded products.
        """
        cudnn = torch.backends.cudnn.flags(enabled=False) if self._has_recurrence else contextlib.nullcontext()
        norm = self._weight_norm if self._weight_norm.seen else contextlib.nullcontext()
        with float32_products(), sdpa_kernel(SDPBackend.MATH), cudnn, norm:  # fused attention has no second derivative
            yield

    def _plain_loss(self, theta: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """The loss with θ copied into the model's parameters, where layers that backward recomputes find it."""
        with torch.no_grad():
            for name, part in self.split(theta).items():
                self._parameters[name].copy_(part)
        return self._loss_of(lambda: self._model(x), y)

    def _gradient(self, theta: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """∇ of the minibatch's loss."""
        return self._loss_and_gradient(theta, x, y)[1].detach()

    def _loss_and_gradient(self, theta: Tensor, x: Tensor, y: Tensor, *, again: bool = False) -> tuple[Tensor, Tensor]:
        """Loss and gradient by plain autograd, which handles every net that trains; `torch.func` refuses many of them.

        ``again``: the gradient can be differentiated again with respect to the parameters.
        """
        with torch.enable_grad(), self._differentiable():
            loss = self._plain_loss(theta, x, y)
            if not loss.requires_grad:
                return loss, torch.zeros_like(theta)
            gradients = torch.autograd.grad(
                loss, list(self._parameters.values()), create_graph=again, materialize_grads=True
            )
            return loss.detach(), _joined(gradients)

    def _minibatch_products(self, x: Tensor, y: Tensor) -> Callable[[Tensor], Tensor]:
        """v ↦ H v of the minibatch's loss."""
        # Reverse over reverse, because forward over reverse fails if torch treats a tangent as zero (2.13: mse_loss).
        _, gradient = self._loss_and_gradient(self.theta, x, y, again=True)

        def product(v: Tensor) -> Tensor:
            if not gradient.requires_grad:  # the loss is linear
                return torch.zeros_like(v)
            with self._differentiable():
                return _joined(
                    torch.autograd.grad(
                        gradient, list(self._parameters.values()), v, retain_graph=True, materialize_grads=True
                    )
                )

        return product

    def _vectorised_products(self, x: Tensor, y: Tensor) -> Callable[[Tensor], Tensor]:
        """v ↦ H v of the minibatch's loss, in a form that `vmap` accepts."""
        back = vjp(lambda theta: grad(self._minibatch_loss)(theta, x, y), self.theta)[1]

        def product(v: Tensor) -> Tensor:
            (Hv,) = back(v)
            return cast(Tensor, Hv)

        return product

    def _check_deterministic(self) -> None:
        """Compute loss and gradient of the first minibatch twice: a random part of the model makes them differ.

        Then check that the loss over all samples is finite.
        """
        where = torch.arange(min(self.batch, self.samples))
        with self._weight_norm, torch.no_grad():
            self._plain_loss(self.theta, *self._at(where[: 1 + self._by_minibatch]))
        (a, g), (b, h) = (self._loss_and_gradient(self.theta, *self._at(where)) for _ in range(2))
        if not torch.isfinite(a):
            raise UserError(f"the loss is {a.item()} at these parameters; take a checkpoint from before it blew up")
        if not torch.isfinite(g).all():
            raise UserError(f"the loss, {a.item():.6g}, has no finite gradient at these parameters; take others")
        if not (torch.allclose(a, b, rtol=1e-5) and torch.allclose(g, h, rtol=1e-3, atol=1e-5 * float(g.abs().max()))):
            difference = float((g - h).norm() / g.norm())
            raise UserError(
                f"the same parameters and data give {a.item():.8g}, then {b.item():.8g} (gradients differ by "
                f"{difference:.1e}); remove what is random: stochastic layers, augmentation in prepare"
            )
        whole = self.loss()
        if not math.isfinite(whole):
            raise UserError(f"the loss over all {self.samples} samples is {whole}; take out those that are not finite")


class _WeightNorm(TorchFunctionMode):
    """Computes weight normalisation by its formula, v g / ‖v‖. ``seen`` says whether the model has any.

    NOTE torch 2.13: the second derivative of ``torch._weight_norm``, which both of torch's weight norms use, is wrong
    (`torch.autograd.gradgradcheck` shows it), and torch raises no error.
    """

    seen = False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is not torch._weight_norm:
            return func(*args, **(kwargs or {}))
        self.seen = True
        return _weight_norm(*args, **(kwargs or {}))


def _weight_norm(v: Tensor, g: Tensor, dim: int = 0) -> Tensor:
    others = [other for other in range(v.dim()) if other != dim]
    norm = v.norm() if dim == -1 else v.norm(dim=others, keepdim=True)
    normalised: Tensor = v * (g / norm)
    return normalised


def _joined(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


def _part(tensor: Tensor, where: Tensor | slice) -> Tensor:
    """A copy, so that in-place changes by a model or ``prepare`` do not reach the caller's data."""
    return tensor[where].clone() if isinstance(where, slice) else tensor[where.to(tensor.device)]


def _set_batch_norm(model: nn.Module, mode: BatchNorm) -> tuple[bool, bool]:
    """Make batch norm use the statistics of each minibatch if that is the mode.

    A layer without running statistics uses the minibatch's, also in evaluation mode, so it never writes a buffer.

    Returns:
        Whether the model has batch norm, and whether any layer uses the minibatch's statistics.
    """
    layers = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    for layer in layers if mode == "batch" else []:
        layer.running_mean = layer.running_var = layer.num_batches_tracked = None
    return bool(layers), any(layer.running_mean is None for layer in layers)
