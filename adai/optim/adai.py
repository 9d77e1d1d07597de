"""The optimizer classes: options, state, and `step`, which picks an engine for each parameter group."""

from collections.abc import Callable
from typing import Any, Self, overload

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer, ParamsT

from adai.optim.engines.batch import Batch
from adai.optim.engines.choice import missing
from adai.optim.hyper import TENSOR_LR, check, check_beta0, check_mean, check_state_dtype, tensor_lr_is_refused
from adai.optim.saving.checkpoints import loaded_in_full, saved_strictly
from adai.optim.saving.from_sgd import WARMUP_STEPS, groups_from_sgd
from adai.optim.saving.state import fresh, modernise
from adai.optim.shared.inertia import inertia, v_mean
from adai.optim.shared.parts import warn_of_parts, warn_of_steps_in_backward
from adai.optim.shared.sharding import Sharing, check_process_group
from adai.optim.step import Engines, Work, carry_out, mark_as_begun, work_of_group
from adai.optim.torch_private import check_capture, use_grad_for_differentiable

DEFAULT_EPS = 1e-3


class Adai(Optimizer):
    r"""Adaptive Inertia: one learning rate for all parameters, and a momentum of its own for each.

    .. math::
        v_t &= \beta_2 v_{t-1} + (1 - \beta_2) g_t^2, \qquad \hat v_t = v_t / (1 - \beta_2^t) \\
        \mu_t &= \mathrm{clip}(1 - \beta_0 \hat v_t / \mathrm{mean}(\hat v_t),\ \mu_\mathrm{min},\ 1 - \epsilon) \\
        m_t &= \mu_t m_{t-1} + (1 - \mu_t) g_t, \qquad \hat m_t = m_t / (1 - \textstyle\prod_{z \le t} \mu_z) \\
        \theta_t &= \theta_{t-1} - \eta \min(1,\ t / (N + 1)) \, \hat m_t

    The mean is over every element of every parameter of every group that has a gradient. Parameters whose gradients
    are large get little inertia, those whose gradients are small get much, up to :math:`1 - \epsilon`. The paper has
    :math:`\mu_\mathrm{min} = 0` and no warm-up, :math:`N = 0`.

    **When to use it.** For networks that are usually trained with SGD and momentum, convolutional ones above all,
    where test error matters more than the first epochs: the authors find lower test error than with SGD and with
    Adam's family on CIFAR-10, CIFAR-100 and ImageNet. **When not.** The authors report that on Transformers it falls
    behind Adam; where AdamW is the habit, keep it. It needs a tuned learning rate as SGD does.

    **Learning rate.** It is plain SGD's: ten times that of SGD with momentum 0.9 (`from_sgd` converts a tuned one), 1
    for the paper's networks on CIFAR. The L2 penalty is the same as for SGD.

    **If it diverges.** Two things make Adai blow up where SGD does not. :math:`\hat m_1 = g_1`, so the first steps are
    full-size: set ``warmup_steps=100``. And where gradients are large there is no inertia, so that such a direction
    stands a curvature of :math:`2 / \eta` only, a nineteenth of what it stands under momentum 0.9 at the same rate: set
    ``min_inertia`` to the momentum that you would give SGD. `from_sgd` does both. If that is not
    enough, take a smaller ``lr`` or ``max_grad_norm=1``.

    The update is equivariant: gradients times a make the steps times a, at every scale whose squares float32 can hold
    (|g| above about 1e-19). A step on which every gradient so far has been zero changes nothing.

    Args:
        params: parameters, named parameters, or dicts that define parameter groups, as in `torch.optim`.
        lr: learning rate, a finite number >= 0 or a tensor with one element, which stays the very same tensor.
        betas: ``(beta0, beta2)``. ``beta0`` in (0, 1] is the average of :math:`1 - \mu`; ``beta2`` in [0, 1) is the
            decay of the average of squared gradients.
        eps: the inertia bound, in [0, 1): inertia is at most 1 - eps. It does not guard a division.
        min_inertia: the inertia's floor :math:`\mu_\mathrm{min}`, in [0, 1 - eps]. On a quadratic, every step is stable
            where no direction is curved by more than :math:`2 (1 + \mu_\mathrm{min}) / ((1 - \mu_\mathrm{min}) \eta)`:
            2 / lr at 0, 38 / lr at 0.9.
        warmup_steps: N >= 0: over the first N steps the learning rate rises linearly to ``lr``, of itself, without a
            scheduler and on top of one. A parameter that gets its first gradient later warms up then.
        weight_decay: strength >= 0 of the L2 penalty, or of the decoupled decay.
        decoupled_weight_decay: shrink parameters by 1 - lr * weight_decay instead of adding an L2 penalty.
        dampening: 1 is the paper's rule. Below 1, in [0, 1], the authors' AdaiV2: v̂ / mean enters to the power
            1 / (3 - 2 d), the gradient with the weight (1 - mu)^d, the step with the factor beta0^(1 - d).
        foreach: use the multi-tensor engine; None does so on CUDA where the fused one is not to be had. False is the
            for-loop.
        maximize: ascend instead of descend.
        capturable: keep every number on the device, so that a CUDA graph can replay the step.
        differentiable: let autograd differentiate through `step`.
        fused: use the compiled kernels, which move the least memory: C on CPUs, Triton on CUDA devices where it is
            installed. They take float32, float64, bfloat16 and float16 parameters in any dense memory layout. None
            uses them wherever a group's tensors allow, unless ``foreach`` is given; True raises where they do not, and
            makes `torch.amp.GradScaler` leave scaling to the step. Under `torch.compile` another engine takes it.
        process_group: says that the parameters here are a share of the whole, and that the processes of this group
            hold the rest: FullyShardedDataParallel, ZeRO, any plain shards. Every process of the group then has to take
            each step, also one without a gradient. None for DTensors (``fully_shard``, tensor parallel), which say by
            themselves what they are, for DistributedDataParallel, and for a single process.
        max_grad_norm: clip the gradients of all groups to this norm together, as `torch.nn.utils.clip_grad_norm_`
            called just before would, but within the step: the gradients are not written, and the fused kernels need
            no further pass over them. None does not clip. The norm is of the raw gradients, before any decay.
        state_dtype: ``torch.bfloat16`` keeps ``exp_avg``, ``exp_avg_sq`` and ``bias_correction`` of tensors with 4,096
            elements or more in bfloat16, with stochastic rounding: half the memory, and on CPUs with the fused engine
            fewer bytes to move. Arithmetic stays in float32. None and ``torch.float32``: no state in less than float32.
            State of float64 and complex parameters stays as it is. On CUDA devices the foreach engine takes it, which
            makes float32 copies for the time of the step.
        rounding_seed: a whole number from which the random bits of the rounding follow, together with the step and the
            element's place in the whole tensor: they are the same for any number of threads and of DTensor shards. It
            is not saved. To continue bit for bit, give the same one.
        mean: ``"current"`` is the paper's rule. ``"previous"`` divides v̂ by the mean of the step before, over the
            parameters of this step that have moved before, and by its own in the first step. This is an approximation,
            since that mean is an average over about 1 / (1 - beta2) steps. Then no gradient has to be read before the
            first parameter moves: on CPUs, where the fused engine takes all groups, a step is one pass over memory,
            and a second one over the gradients only with ``max_grad_norm``, which clips as ever. Other engines save
            nothing, and on a GPU the host waits for the device in each step. Not for ``capturable`` or
            `torch.compile`. It is not saved.

    State of a parameter: ``step`` (0-dim), and with the parameter's shape ``exp_avg`` (m), ``exp_avg_sq`` (v) and
    ``bias_correction`` (1 - Π mu). The last is dropped once it is 1 to rounding whatever the gradients were, which is
    after ln(2^-25) / ln(1 - eps) steps in float32, 17,321 at the default eps; eps is taken to have been the same all
    along. Half-precision parameters keep their state in float32 unless ``state_dtype`` says otherwise, and are computed
    with in float32.
    State may be edited or replaced between steps, but not through ``.data`` or NumPy, which torch does not see.
    Every engine continues from every other's state.

    Raises:
        ValueError: an option is outside its range; the message names the value.
        ValueError: at a step, a scheduler takes ``betas[0]`` for a momentum and cycles it.
        RuntimeError: a gradient is sparse, ``fused=True`` is not possible, ``differentiable`` meets shards, or a
            gradient or a state tensor has another shape than its parameter.
        TypeError: ``process_group`` is something else.

    Warns:
        UserWarning: FullyShardedDataParallel, ZeroRedundancyOptimizer or DeepSpeed share the parameters out, and
            ``process_group`` is None; or each parameter has an optimizer of its own, as with ``step`` in the backward
            pass or torchao's CPU offload: the mean of v over a part of the parameters is another rule.

    Source: Xie et al., Adai: Separating the Effects of Adaptive Learning Rate and Momentum Inertia, arXiv 2006.15815,
    Algorithm 2 (ICML 2022 as "Adaptive Inertia: Disentangling the Effects of Adaptive Learning Rate and Momentum").

    Example:
        >>> optimizer = Adai(model.parameters(), lr=1.0, weight_decay=5e-4, min_inertia=0.9, warmup_steps=100)
    """

    process_group: Any = None
    state_dtype: torch.dtype | None = None
    rounding_seed = 0
    mean = "current"
    _sharing = Sharing([], None)
    _beta0s: tuple[float, ...] = ()
    """beta0 of each group, as no scheduler has cycled it."""

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
        mean: str = "current",
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
        # Not among the defaults: strict loaders would miss them in what another optimizer has saved.
        self.state_dtype, self.rounding_seed, self.mean = state_dtype, rounding_seed, mean
        super().__init__(params, defaults)
        # Not one of the defaults: those are saved with the state, and a process group cannot be.
        self.process_group = process_group
        self._sharing = Sharing([], process_group)
        if process_group is None:
            warn_of_parts(self)
        self._engines: Engines = {}

    @classmethod
    def from_sgd(cls, sgd: torch.optim.SGD, **options: Any) -> Self:
        """The optimizer that takes over from a tuned `torch.optim.SGD`, with fresh state.

        Groups, weight decay and ``maximize`` stay, and so do keys of your own in the groups, say ``lr_scale``.
        The learning rate becomes lr * (1 - dampening) / (1 - momentum),
        the length of the step that SGD's momentum adds up to, because Adai's momentum is an average. It is read off
        the groups as they are now: convert before a scheduler changes it.

        What SGD trains has to train with this too. So the inertia is nowhere less than SGD's momentum, which makes
        the largest stable curvature SGD's, 2 (1 + momentum) / lr; and the first 100 steps are a warm-up, because Adai's
        are full-size from the first on, where SGD's momentum builds up. The paper has neither: give ``min_inertia=0``
        and ``warmup_steps=0`` for its rule.

        Args:
            sgd: the optimizer to replace.
            options: further options of the constructor, say ``betas``; ``min_inertia`` and ``warmup_steps`` take the
                place of those said above, other options that come from the groups are not overridden.

        Raises:
            TypeError: not a `torch.optim.SGD`.
            ValueError: a group has momentum 1 or more.

        Example:
            >>> params = model.parameters()
            >>> optimizer = Adai.from_sgd(torch.optim.SGD(params, lr=0.1, momentum=0.9, weight_decay=5e-4))
        """
        groups = groups_from_sgd(sgd, most_inertia=1 - options.get("eps", DEFAULT_EPS))
        if "min_inertia" in options:
            for group in groups:
                del group["min_inertia"]
        return cls(groups, **{"warmup_steps": WARMUP_STEPS, **options})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a parameter group, as `torch.optim.Optimizer` does; its options are checked as the constructor's are."""
        if isinstance(param_group, dict):
            for name in ("process_group", "state_dtype", "rounding_seed", "mean"):
                if name in param_group:
                    raise ValueError(f"{name} is an option of the whole optimizer, not of a parameter group")
            options = {**self.defaults, **param_group}
            check(options)
            check_state_dtype(self.state_dtype, self.rounding_seed, options)
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        self._beta0s = (*self._beta0s, group["betas"][0])
        for device in {param.device for param in group["params"]} if group["fused"] else ():
            reason = missing(device)
            if reason is not None:
                raise RuntimeError(f"fused=True is not possible: {reason}; leave fused at None for another engine")

    def __getstate__(self) -> dict[str, Any]:
        """What is pickled and copied."""
        if self.process_group is not None:
            raise TypeError(f"{type(self).__name__} with a process_group cannot be copied; copy its state_dict()")
        own = {"state_dtype": self.state_dtype, "rounding_seed": self.rounding_seed, "mean": self.mean}
        return {**super().__getstate__(), **own}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take over a pickle or a checkpoint, also an older one or one of the authors' own optimizer."""
        super().__setstate__(state)
        self._engines = {}
        for group in self.param_groups:
            modernise(group, self.state, self.defaults)
        self._beta0s = tuple(group["betas"][0] for group in self.param_groups)

    def state_dict(self) -> dict[str, Any]:
        """The state and the options of all groups.

        Every parameter has a ``bias_correction``, ones where it has been dropped, so that the keys are always the same:
        strict loaders such as `torch.distributed.checkpoint` load what was saved from any number of processes on any
        other.
        """
        with saved_strictly(self):
            return super().state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state dict of this class or of the authors' Adai, AdaiW and AdaiV2.

        Unlike its base class it keeps the state in float32, or in ``state_dtype``, where the parameters have less, and
        shares no memory with ``state_dict``.
        ``state_dtype`` is not saved: this optimizer keeps its own, whatever dtype it loads.

        Raises:
            ValueError: it is that of another optimizer, or of another model: the message names the parameter and the
                shapes or dtypes. The optimizer stays as it was.
        """
        with loaded_in_full(self, self.state_dtype):
            super().load_state_dict(state_dict)

    def v_mean(self) -> float:
        r"""The mean :math:`\mathrm{mean}(\hat v_t)` that couples all parameters, from the state as it is now.

        Each parameter's v̂ is with its group's ``beta2`` and its own step count. The mean is over all elements of all
        parameters that have taken a step, so it is the last step's wherever all of them had a gradient in it. Before
        the first step it is 0. A nan in the state makes it nan.

        It reads every ``exp_avg_sq`` and waits for the device: call it now and then, not in every step. Where
        parameters are shared out (DTensors, ``process_group``) every process has to call it, as with `step`.

        Example:
            >>> optimizer.v_mean()
        """
        self._share_out()
        return v_mean(self, self._sharing)

    def inertia(self, param: Tensor, v_mean: float | None = None) -> Tensor:
        r"""The inertia :math:`\mu` of each element of a parameter, as the last step used it.

        It follows from the state as it is now, :math:`1 - \mathrm{clip}(\beta_0 \hat v_t / \mathrm{mean}(\hat v_t),
        \epsilon, 1 - \mu_\mathrm{min})`, so it is there after loading a checkpoint too. Where some parameters had no
        gradient in the last step the mean is another, see `v_mean`; and options of the group that have been changed
        since count as they are now.

        Args:
            param: one of the optimizer's parameters.
            v_mean: what `v_mean` returned. Give it to ask for many parameters, so that it is not computed for each.

        Returns:
            A new float32 tensor with the parameter's shape, in [min_inertia, 1 - eps]; nan where v is nan. It is a
            DTensor where the parameter is one. Of a complex parameter it is complex64: the inertia of the real parts,
            and of the imaginary parts.

        Raises:
            ValueError: ``param`` is not one of this optimizer's parameters.
            RuntimeError: ``param`` has taken no step yet.

        Where parameters are shared out (DTensors, ``process_group``) every process has to call this alike; or call
        `v_mean` on every process, and give the result.

        Example:
            >>> mean = optimizer.v_mean()
            >>> least = min(optimizer.inertia(p, mean).min() for p in model.parameters())
        """
        return inertia(self, param, self.v_mean() if v_mean is None else v_mean)

    def _share_out(self) -> None:
        """Find what each parameter is on this process, where parameters are new."""
        if not self._sharing.fits(self.param_groups):
            seed = self.rounding_seed if self.state_dtype == torch.bfloat16 else None
            self._sharing = Sharing(self.param_groups, self.process_group, self._sharing, seed)
            if self.process_group is None:
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
        """Fill the lists with the group's tensors that have a gradient, their shares and numbers; is one complex?

        ``states`` are those of the parameters, or None under `torch.compile`.

        NOTE torch.compile runs this outside the graph, by its name: empty lists in, tensors and constants appended, a
        constant out.
        """
        if tensor_lr_is_refused(group):
            raise RuntimeError(TENSOR_LR)
        if group is self.param_groups[0]:
            self._beta0s = check_beta0(self.param_groups, self._beta0s, type(self).__name__)
            self._share_out()
        has_complex, differentiable, sharing = False, group["differentiable"], self._sharing
        share_of, number_of = sharing.by_id, sharing.numbers  # once, and not for each parameter
        for param in group["params"]:
            grad = param.grad
            if grad is None:
                continue
            if grad.is_sparse:
                raise RuntimeError(f"{type(self).__name__} does not support sparse gradients; use dense ones")
            state = self.state[param]
            if not state:
                state.update(fresh(param, group, self.state_dtype))
            if differentiable and state["step"].requires_grad:
                raise RuntimeError("`requires_grad` is not supported for `step` in differentiable mode")
            has_complex |= param.is_complex()
            params.append(param)
            grads.append(grad)
            exp_avgs.append(state["exp_avg"])
            exp_avg_sqs.append(state["exp_avg_sq"])
            bias_corrections.append(state.get("bias_correction"))
            steps.append(state["step"])
            shares.append(share_of.get(id(param), 0))
            numbers.append(number_of[id(param)])
            if states is not None:
                states.append(state)
        return has_complex

    @property
    def _step_supports_amp_scaling(self) -> bool:
        """Whether `torch.amp.GradScaler` leaves dividing and skipping to `step`: with ``fused=True``, like torch.optim.

        `step` obeys ``grad_scale`` and ``found_inf`` in every engine. But a caller that finds this true must not
        change gradients between the passes, to clip them say, so nobody gets it who has not asked for it. With plain
        shards it is ShardedGradScaler that makes the processes agree, and it does so before the step.
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
            closure: reevaluates the model and returns the loss; it runs with gradients enabled.
        """
        check_capture(self)
        self._check_capturable()
        if not torch.compiler.is_compiling():
            warn_of_steps_in_backward(self)
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()

        work: list[Work] = []
        for index, group in enumerate(self.param_groups):
            batch = Batch.empty()
            shares: list[int] = []
            numbers: list[int] = []
            states: list[dict[str, Any]] = []
            kept = None if torch.compiler.is_compiling() else states
            has_complex = self._init_group(group, *batch[:-1], shares, numbers, kept)
            batch.places.extend(map(self._sharing.places.__getitem__, numbers))
            work += work_of_group(
                self, index, batch, states, shares, self._sharing, self._engines, has_complex=has_complex
            )
        if work or not self._sharing.alone:
            carry_out(self, work, self._sharing, previous=self.mean == "previous")
            mark_as_begun(self)
        return loss

    def _check_capturable(self) -> None:
        if torch.compiler.is_compiling():  # which sets capturable by itself, on the CPU too
            return
        for group in self.param_groups:
            for param in group["params"] if group["capturable"] else ():
                if param.device.type == "cpu":
                    raise RuntimeError("capturable=True needs parameters on an accelerator, but one is on cpu")


class AdaiW(Adai):
    """Adai with decoupled weight decay, and the paper's settings for it (Appendix D.1) as defaults.

    The same as `Adai` with ``decoupled_weight_decay=True``: each step first shrinks the parameters by the factor
    1 - lr * weight_decay, and the decay enters neither momentum nor inertia. **When to use it.** Where `Adai` fits and
    decay should not depend on the size of the gradients. To replace a tuned SGD as it is, take `Adai` with L2 decay.

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
        mean: str = "current",
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
            mean=mean,
        )

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for group in self.param_groups:
            group["decoupled_weight_decay"] = True
