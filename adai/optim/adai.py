"""The optimizer classes: options, state, and `step`, which picks an engine for each parameter group."""

from collections.abc import Callable, Sequence
from typing import Any, Self, overload

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer, ParamsT

from adai.optim.engines.batch import Batch
from adai.optim.options import (
    DEFAULT_EPS,
    TENSOR_LR,
    check,
    check_beta0,
    check_capturable,
    check_coupled,
    check_fused,
    check_group,
    check_mean,
    check_process_group,
    check_rounding,
    tensor_lr_is_refused,
    warn_of_momentum,
)
from adai.optim.saving.checkpoints import loaded_in_full, saved_strictly
from adai.optim.saving.from_sgd import WARMUP_STEPS, groups_from_sgd
from adai.optim.saving.state import fresh, modernise
from adai.optim.shared.coupling import Coupling
from adai.optim.shared.inertia import inertia, v_mean
from adai.optim.shared.parts import warn_of_padding, warn_of_parts, warn_of_steps_in_backward
from adai.optim.shared.sharding import Sharing
from adai.optim.step import Engines, Work, carry_out, mark_as_begun, work_of_group
from adai.optim.torch_private import check_capture, use_grad_for_differentiable


class Adai(Optimizer):
    r"""Adaptive Inertia: one learning rate for all parameters, and an inertia (momentum) for each of their elements.

    .. math::
        v_t &= \beta_2 v_{t-1} + (1 - \beta_2) g_t^2, \qquad \hat v_t = v_t / (1 - \beta_2^t) \\
        \mu_t &= \mathrm{clip}(1 - \beta_0 \hat v_t / \mathrm{mean}(\hat v_t),\ \mu_\mathrm{min},\ 1 - \epsilon) \\
        m_t &= \mu_t m_{t-1} + (1 - \mu_t) g_t, \qquad \hat m_t = m_t / (1 - \textstyle\prod_{z \le t} \mu_z) \\
        \theta_t &= \theta_{t-1} - \eta \min(1,\ t / (N + 1)) \, \hat m_t

    The mean is over all elements of all parameters that have a gradient, in all groups. Elements with large gradients
    get little inertia, and elements with small gradients get much, up to :math:`1 - \epsilon`. The paper's rule has
    :math:`\mu_\mathrm{min} = 0` and no warm-up, :math:`N = 0`; these are the defaults.

    **When to use it.** For networks that are usually trained with SGD and momentum, above all convolutional ones, if
    the test error matters more than the first epochs. The authors report a lower test error than with SGD and with
    optimizers of Adam's family on CIFAR-10, CIFAR-100 and ImageNet. **When not to.** The authors report that it falls
    behind Adam on Transformers: keep AdamW where it is the usual choice. Like SGD, it needs a tuned learning rate.

    **Learning rate.** It has the scale of SGD without momentum: ten times the rate of SGD with momentum 0.9, and 1 for
    the paper's networks on CIFAR. `from_sgd` converts a tuned SGD. The L2 penalty is the same as for SGD.

    **If it diverges.** Adai can diverge where SGD does not, for two reasons. First, its first steps have full size,
    because :math:`\hat m_1 = g_1`: set ``warmup_steps=100``. Second, a direction with large gradients has no inertia,
    so it is stable only up to a curvature of :math:`2 / \eta`, a nineteenth of the limit with momentum 0.9 at the same
    rate: set ``min_inertia`` to the momentum that you would give to SGD. `from_sgd` does both. If that is not enough,
    reduce ``lr`` or set ``max_grad_norm=1``.

    The update is equivariant: gradients multiplied by a give steps multiplied by a, at every scale at which float32 can
    represent the squared gradients (|g| above about 1e-19). As long as all gradients have been zero, a step changes
    nothing.

    Args:
        params: parameters, named parameters, or dicts that define parameter groups, as in `torch.optim`.
        lr: learning rate, a finite number >= 0 or a tensor with one element. A tensor is used as it is, not copied.
        betas: ``(beta0, beta2)``. ``beta0`` in (0, 1] is the average of :math:`1 - \mu`; ``beta2`` in [0, 1) is the
            decay of the average of squared gradients.
        eps: the inertia bound, in [0, 1): inertia is at most 1 - eps. It does not guard a division.
        weight_decay: strength >= 0 of the L2 penalty, or of the decoupled decay.
        min_inertia: the lower bound of inertia, :math:`\mu_\mathrm{min}`, in [0, 1 - eps]. On a quadratic, steps are
            stable if no curvature exceeds :math:`2 (1 + \mu_\mathrm{min}) / ((1 - \mu_\mathrm{min}) \eta)`, which is
            2 / lr at 0 and 38 / lr at 0.9.
        warmup_steps: N >= 0. The learning rate rises linearly to ``lr`` over the first N steps, without a scheduler or
            in addition to one. Each parameter counts its own steps: one that gets its first gradient later warms up
            later.
        decoupled_weight_decay: multiply parameters by 1 - lr * weight_decay instead of adding an L2 penalty.
        dampening: 1 is the paper's rule. Values below 1, down to 0, give the authors' AdaiV2: v̂ / mean has the exponent
            1 / (3 - 2 d), the gradient the weight (1 - mu)^d, and the step the factor beta0^(1 - d).
        foreach: use the multi-tensor engine. False uses the for-loop. None uses the multi-tensor engine on CUDA if the
            fused engine is not available.
        maximize: maximize the objective instead of minimizing it.
        capturable: keep every number on the device, so that a CUDA graph can replay the step.
        differentiable: let autograd differentiate through `step`.
        fused: use the compiled kernels, which access memory the least: C on CPUs, and Triton on CUDA devices if it is
            installed. They take float32, float64, bfloat16 and float16 parameters in any dense memory layout. None uses
            them wherever the tensors of a group allow it, unless ``foreach`` is given. True raises an error where they
            do not, and makes `torch.amp.GradScaler` leave unscaling to the step. `torch.compile` always uses another
            engine.
        process_group: the processes that hold the other parts of the parameters, if the parameters here are only a part
            of the model's: FullyShardedDataParallel, ZeRO, or plain shards of any kind. Every process of the group then
            has to take every step, even without a gradient. Leave it at None for DTensors (``fully_shard``, tensor
            parallel), which carry this information, for DistributedDataParallel, and for a single process.
        max_grad_norm: clip the joint norm of the gradients of all groups to this value. The result is the same as if
            `torch.nn.utils.clip_grad_norm_` were called just before the step, but the gradients are not written to, and
            the fused kernels need no additional pass over them. The norm is of the raw gradients, without weight decay.
            None does not clip.
        state_dtype: ``torch.bfloat16`` stores ``exp_avg``, ``exp_avg_sq`` and ``bias_correction`` of tensors with 4,096
            elements or more in bfloat16, with stochastic rounding. This halves the memory, and the fused engines move
            fewer bytes; the others make float32 copies during the step. Arithmetic stays in float32, and the state of
            float64 and complex parameters stays as it is. None and ``torch.float32`` store no state in less than
            float32.
        rounding_seed: a whole number that selects the random bits of stochastic rounding. The bits depend on it, the
            step, and an element's place in the whole tensor, but not on the number of threads or of DTensor shards. It
            is not saved: to continue bit for bit, give the same seed again.
        stochastic_rounding: round bfloat16 parameters stochastically, with the bits that ``rounding_seed`` selects. A
            step that is small compared to a parameter, below about 1 / 500 of it, is lost when bfloat16 is rounded to
            nearest; so training of a model that is in bfloat16 as a whole stalls. Rounded stochastically, the parameter
            takes the step on average. Not for parameters under `torch.autocast`, which are float32. It is not saved.
        mean: ``"current"`` is the paper's rule. ``"previous"`` divides v̂ by the mean of the step before, over those
            parameters of this step that have taken a step before; the first step uses its own mean. This approximates
            the rule, because the mean changes slowly: it averages over about 1 / (1 - beta2) steps. The first parameter
            can then move before all gradients are read, so if the fused engine takes all groups, a step is one pass
            over memory; with ``max_grad_norm`` it also needs a pass over the gradients. Other engines gain nothing. On
            a GPU the host waits for the mean in each step, unless the fused engine takes all parameters, all are on one
            GPU, and none is sharded; ``capturable`` works only then. It does not work with `torch.compile`, and is not
            saved.
        coupling: an `adai.optim.Coupling` that the optimizers of one model share, if each of them has only a part of
            the parameters. They then divide v̂ by the mean of the round before over all of these parameters. It does not
            work with ``process_group``, DTensors, ``max_grad_norm``, ``dampening`` below 1, ``capturable`` or
            ``differentiable``.

    The state of a parameter consists of ``step`` (0-dim) and, with the parameter's shape, ``exp_avg`` (m),
    ``exp_avg_sq`` (v) and ``bias_correction`` (1 - Π mu). ``bias_correction`` is removed once it must be 1 up to
    rounding for any gradients: after ln(2^-25) / ln(1 - eps) steps in float32, which is 17,321 at the default eps. This
    assumes that eps has not changed during training. Half-precision parameters have float32 state unless
    ``state_dtype`` says otherwise, and are updated in float32 arithmetic. You may edit or replace state between steps,
    but not through ``.data`` or NumPy, which torch does not track. All engines share this state: each can continue
    from any other's.

    Raises:
        ValueError: an option is outside its range; the message contains the value.
        ValueError: in `step`, if a scheduler mistakes ``betas[0]`` for a momentum and cycles it.
        RuntimeError: a gradient is sparse, ``fused=True`` is not possible, ``differentiable`` is used with shards, or a
            gradient or a state tensor has another shape than its parameter.
        TypeError: an option has the wrong type, such as a string in place of a number.

    Warns:
        UserWarning: beta0 is 0.5 or more, as if it were the momentum of Adam's ``betas``.
        UserWarning: the optimizer has only a part of the parameters, but the mean of v has to be over all of them.
            Either FullyShardedDataParallel, ZeroRedundancyOptimizer or DeepSpeed shards them and ``process_group`` is
            None, or each parameter has its own optimizer, as with ``step`` in the backward pass or torchao's CPU
            offload.

    Source: Xie et al., Adai: Separating the Effects of Adaptive Learning Rate and Momentum Inertia, arXiv 2006.15815,
    Algorithm 2 (ICML 2022 as "Adaptive Inertia: Disentangling the Effects of Adaptive Learning Rate and Momentum").

    Example:
        >>> optimizer = Adai(model.parameters(), lr=1.0, weight_decay=5e-4, min_inertia=0.9, warmup_steps=100)
    """

    process_group: Any = None
    state_dtype: torch.dtype | None = None
    rounding_seed = 0
    stochastic_rounding = False
    mean = "current"
    coupling: Coupling | None = None
    _sharing = Sharing([], None)
    _beta0s: tuple[float, ...] = ()
    """beta0 of each group at the last step, to notice a scheduler that cycles it."""

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 0.1,
        betas: tuple[float, float] = (0.1, 0.99),
        eps: float = DEFAULT_EPS,
        weight_decay: float = 0.0,
        *,
        min_inertia: float = 0.0,
        warmup_steps: int = 0,
        decoupled_weight_decay: bool = False,
        dampening: float = 1.0,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        process_group: Any = None,
        max_grad_norm: float | None = None,
        state_dtype: torch.dtype | None = None,
        rounding_seed: int = 0,
        stochastic_rounding: bool = False,
        mean: str = "current",
        coupling: Coupling | None = None,
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "min_inertia": min_inertia,
            "warmup_steps": warmup_steps,
            "decoupled_weight_decay": decoupled_weight_decay,
            "dampening": dampening,
            "foreach": foreach,
            "maximize": maximize,
            "capturable": capturable,
            "differentiable": differentiable,
            "fused": fused,
            "max_grad_norm": max_grad_norm,
        }
        check(defaults)
        check_mean(mean)
        check_process_group(process_group)
        # These are not among the defaults, which are saved with the state: strict loaders would miss the first three in
        # other optimizers' checkpoints, and a process group cannot be saved.
        self.state_dtype, self.rounding_seed, self.mean = state_dtype, rounding_seed, mean
        self.stochastic_rounding = stochastic_rounding
        self.coupling = coupling
        super().__init__(params, defaults)
        warn_of_momentum(self.param_groups)
        self.process_group = process_group
        self._sharing = Sharing([], process_group)
        if coupling is not None:
            coupling.join(self)
        elif process_group is None:
            warn_of_parts(self)
        self._engines: Engines = {}

    @classmethod
    def from_sgd(cls, sgd: torch.optim.SGD, **options: Any) -> Self:
        """Create an optimizer that replaces a tuned `torch.optim.SGD`, with fresh state.

        It keeps the groups, their weight decay and ``maximize``, and your own keys in them, such as ``lr_scale``. The
        learning rate becomes lr * (1 - dampening) / (1 - momentum): SGD's momentum adds gradients up to a step of this
        length, while Adai's momentum averages them. The conversion uses the current learning rates of the groups, so
        convert before a scheduler changes them.

        Two settings, which the paper does not have, let Adai train what SGD trains. ``min_inertia`` is SGD's momentum,
        so that the largest stable curvature is SGD's, 2 (1 + momentum) / lr. The first 100 steps are a
        warm-up, because Adai's first steps have full size, while SGD's momentum builds up. Give ``min_inertia=0`` and
        ``warmup_steps=0`` for the paper's rule.

        Args:
            sgd: the optimizer to replace.
            options: further options of the constructor, such as ``betas``. ``min_inertia`` and ``warmup_steps`` replace
                the settings above. Other options that come from the groups are not replaced.

        Raises:
            TypeError: ``sgd`` is not a `torch.optim.SGD`.
            ValueError: a group has momentum 1 or more.

        Example:
            >>> params = model.parameters()
            >>> optimizer = Adai.from_sgd(torch.optim.SGD(params, lr=0.1, momentum=0.9, weight_decay=5e-4))
        """
        return cls(groups_from_sgd(sgd, options), **{"warmup_steps": WARMUP_STEPS, **options})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a parameter group, as `torch.optim.Optimizer` does, and check its options as the constructor does."""
        if isinstance(param_group, dict):
            options = check_group(param_group, self.defaults)
            check_rounding(self.state_dtype, self.rounding_seed, self.stochastic_rounding, options)
            if self.coupling is not None:
                check_coupled(options)
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        group["betas"] = tuple(group["betas"])  # a configuration's own kind of list could not be loaded with the state
        self._beta0s = (*self._beta0s, group["betas"][0])
        check_fused(group)

    def __getstate__(self) -> dict[str, Any]:
        """The attributes that are pickled and copied."""
        if self.process_group is not None:
            raise TypeError(f"{type(self).__name__} with a process_group cannot be copied; copy its state_dict()")
        if self.coupling is not None:
            raise TypeError(f"{type(self).__name__} with a coupling cannot be copied; copy its state_dict()")
        own = {"state_dtype": self.state_dtype, "rounding_seed": self.rounding_seed, "mean": self.mean}
        own["stochastic_rounding"] = self.stochastic_rounding
        return {**super().__getstate__(), **own}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a pickle or a checkpoint, of this class, of an earlier version, or of the authors' own optimizers."""
        super().__setstate__(state)
        self._engines = {}
        for group in self.param_groups:
            modernise(group, self.state, self.defaults)
        self._beta0s = tuple(group["betas"][0] for group in self.param_groups)

    def state_dict(self) -> dict[str, Any]:
        """Return the state and the options of all groups.

        Every parameter has a ``bias_correction``; if it has been removed from the state, it is saved as ones. So the
        keys are always the same, and strict loaders such as `torch.distributed.checkpoint` can load it on any number of
        processes.
        """
        if self.coupling is not None:
            self.coupling.complete()
        with saved_strictly(self):
            return super().state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state dict of this class, or of the authors' Adai, AdaiW and AdaiV2.

        Unlike `torch.optim.Optimizer`, it keeps the state of half-precision parameters in float32 or ``state_dtype``,
        and shares no memory with the given dict. ``state_dtype`` is not saved: this optimizer keeps its own,
        whatever dtype it loads.

        Raises:
            ValueError: the state dict belongs to another optimizer or another model; the message names the parameter
                and the shapes or dtypes. The optimizer is left unchanged.
        """
        with loaded_in_full(self, self.state_dtype):
            super().load_state_dict(state_dict)

    def _share_out(self) -> None:
        """Find out how parameters are sharded, if they are not the same as before."""
        if not self._sharing.fits(self.param_groups):
            rounds_params = self.stochastic_rounding
            seed = self.rounding_seed if self.state_dtype == torch.bfloat16 or rounds_params else None
            self._sharing = Sharing(
                self.param_groups, self.process_group, self._sharing, seed, rounds_params=rounds_params
            )
            if self.coupling is not None and not self._sharing.alone:
                raise RuntimeError("coupling is not possible with DTensors or a process_group; leave it at None")
            if self.process_group is not None:
                warn_of_padding(self)
            elif self.coupling is None:
                warn_of_parts(self)

    def _init_group(
        self,
        group: dict[str, Any],
        params: list[Tensor],
        grads: list[Tensor],
        exp_avgs: list[Tensor],
        exp_avg_sqs: list[Tensor],
        bias_corrections: list[Tensor | None],
        steps: list[Tensor],
        shares: list[int],
        numbers: list[int],
        states: list[dict[str, Any]] | None,
    ) -> bool:
        """Append the group's tensors that have a gradient, their shares and numbers; return whether any is complex.

        ``states`` gets the states of the parameters; it is None under `torch.compile`.

        NOTE torch.compile finds this by its name and runs it outside the graph. It passes empty lists, and expects
        tensors and constants in them, and a constant as the result.
        """
        if tensor_lr_is_refused(group):
            raise RuntimeError(TENSOR_LR)
        if group is self.param_groups[0]:
            self._beta0s = check_beta0(self.param_groups, self._beta0s, type(self).__name__)
            self._share_out()
        has_complex, differentiable, all_states = False, group["differentiable"], self.state
        found: list[dict[str, Any]] = []
        for param in group["params"]:
            grad = param.grad
            if grad is None:
                continue
            if grad.is_sparse:
                raise RuntimeError(f"{type(self).__name__} does not support sparse gradients; use dense gradients")
            state = all_states[param]
            if not state:
                state.update(fresh(param, group, self.state_dtype))
            if differentiable and state["step"].requires_grad:
                raise RuntimeError("`requires_grad` is not supported for `step` in differentiable mode; detach it")
            has_complex |= param.is_complex()
            params.append(param)
            grads.append(grad)
            found.append(state)
        exp_avgs += [state["exp_avg"] for state in found]
        exp_avg_sqs += [state["exp_avg_sq"] for state in found]
        bias_corrections += [state.get("bias_correction") for state in found]
        steps += [state["step"] for state in found]
        shares += self._sharing.of(params)
        numbers += map(self._sharing.numbers.__getitem__, map(id, params))
        if states is not None:
            states += found
        return has_complex

    @property
    def _step_supports_amp_scaling(self) -> bool:
        """Whether `torch.amp.GradScaler` leaves unscaling and skipping to `step`: with ``fused=True`` only.

        `step` respects ``grad_scale`` and ``found_inf`` with every engine. But if this is true, the gradients are still
        scaled before the step, where the caller may want to clip them, so the caller has to ask for it. With plain
        shards it is false: ShardedGradScaler makes the processes agree, before the step.
        """
        return self.process_group is None and all(group["fused"] for group in self.param_groups)

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @use_grad_for_differentiable
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Perform a single optimization step.

        Args:
            closure: reevaluates the model and returns the loss. It runs with gradients enabled.
        """
        check_capture(self)
        check_capturable(self.param_groups)
        if not torch.compiler.is_compiling() and self.coupling is None:
            warn_of_steps_in_backward(self)
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()

        self._move(list(enumerate(self.param_groups)), self._engines)
        return loss

    def _move(self, groups: Sequence[tuple[int, dict[str, Any]]], engines: Engines) -> None:
        """Step the parameters of some groups, each with its group's position, together."""
        work: list[Work] = []
        moving: list[Tensor] = []
        for index, group in groups:
            batch = Batch.empty()
            shares: list[int] = []
            numbers: list[int] = []
            states: list[dict[str, Any]] = []
            kept = None if torch.compiler.is_compiling() else states
            has_complex = self._init_group(group, *batch.tensors(), shares, numbers, kept)
            moving += batch.params
            batch.places.extend(map(self._sharing.places.__getitem__, numbers))
            work += work_of_group(self, index, batch, states, shares, self._sharing, engines, has_complex=has_complex)
        if work or not self._sharing.alone:
            coupled = None if self.coupling is None else self.coupling.enter(moving)
            carry_out(self, work, self._sharing, previous=self.mean == "previous", coupled=coupled)
            mark_as_begun(self)

    def v_mean(self) -> float:
        r"""Return :math:`\mathrm{mean}(\hat v_t)`, the mean that couples all parameters, from the current state.

        v̂ of a parameter is computed with the ``beta2`` of its group and its own step count. The mean is over all
        elements of all parameters that have taken a step. It equals the mean of the last step if all of these had a
        gradient in that step. It is 0 before the first step, and nan if the state contains a nan.

        This reads every ``exp_avg_sq`` and waits for the device: call it occasionally, not in every step. If parameters
        are sharded (DTensors, ``process_group``), every process has to call it, as with `step`.

        Example:
            >>> optimizer.v_mean()
        """
        self._share_out()
        return v_mean(self, self._sharing)

    def inertia(self, param: Tensor, v_mean: float | None = None) -> Tensor:
        r"""Return the inertia :math:`\mu` of each element of a parameter, as the last step used it.

        It is computed from the current state as :math:`1 - \mathrm{clip}(\beta_0 \hat v_t / \mathrm{mean}(\hat v_t),
        \epsilon, 1 - \mu_\mathrm{min})`, so it is also available after loading a checkpoint. It differs from what the
        last step used if some parameters had no gradient in that step, because then the mean differs (see `v_mean`),
        or if options of the group have changed since.

        If parameters are sharded (DTensors, ``process_group``), every process has to make the same call. Alternatively
        call `v_mean` on every process, and pass the result.

        Args:
            param: one of the optimizer's parameters.
            v_mean: the result of `v_mean`. Pass it if you ask for several parameters, so that it is computed only once.

        Returns:
            A new tensor with the parameter's shape, in [min_inertia, 1 - eps]; nan where v is nan. It is in float32, or
            in float64 for a float64 parameter, and a DTensor if the parameter is one. For a complex parameter it is
            complex, with the inertia of the real parts in its real parts, and of the imaginary parts in its imaginary
            parts.

        Raises:
            ValueError: ``param`` is not one of this optimizer's parameters.
            RuntimeError: ``param`` has not taken a step yet.

        Example:
            >>> mean = optimizer.v_mean()
            >>> least = min(optimizer.inertia(p, mean).min() for p in model.parameters())
        """
        return inertia(self, param, self.v_mean() if v_mean is None else v_mean)


class AdaiW(Adai):
    """Adai with decoupled weight decay, with the paper's settings for it (Appendix D.1) as defaults.

    It is `Adai` with ``decoupled_weight_decay=True``: each step first multiplies the parameters by
    1 - lr * weight_decay, and the decay affects neither momentum nor inertia. **When to use it.** If `Adai` fits and
    the decay should not depend on the size of the gradients. To replace a tuned SGD, use `Adai`, which has L2 decay.

    Args: as for `Adai`.

    Example:
        >>> optimizer = AdaiW(model.parameters(), lr=0.1, weight_decay=5e-3, min_inertia=0.9, warmup_steps=100)
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 0.1,
        betas: tuple[float, float] = (0.1, 0.99),
        eps: float = DEFAULT_EPS,
        weight_decay: float = 5e-3,
        *,
        min_inertia: float = 0.0,
        warmup_steps: int = 0,
        dampening: float = 1.0,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        process_group: Any = None,
        max_grad_norm: float | None = None,
        state_dtype: torch.dtype | None = None,
        rounding_seed: int = 0,
        stochastic_rounding: bool = False,
        mean: str = "current",
        coupling: Coupling | None = None,
    ) -> None:
        super().__init__(
            params,
            lr,
            betas,
            eps,
            weight_decay,
            min_inertia=min_inertia,
            warmup_steps=warmup_steps,
            decoupled_weight_decay=True,
            dampening=dampening,
            foreach=foreach,
            maximize=maximize,
            capturable=capturable,
            differentiable=differentiable,
            fused=fused,
            process_group=process_group,
            max_grad_norm=max_grad_norm,
            state_dtype=state_dtype,
            rounding_seed=rounding_seed,
            stochastic_rounding=stochastic_rounding,
            mean=mean,
            coupling=coupling,
        )

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for group in self.param_groups:
            group["decoupled_weight_decay"] = True
