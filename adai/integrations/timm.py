"""Adai by name in timm: ``create_optimizer_v2(model, "adai")``, and ``--opt adai`` in its training script."""

try:
    from timm.optim import OptimInfo
    from timm.optim._optim_factory import default_registry  # which timm.optim does not export
except ImportError as error:
    if error.name not in ("timm", "timm.optim"):
        raise
    raise type(error)(
        "adai.integrations.timm needs timm 1.0.12 or later; install it with: pip install 'timm>=1.0.12'",
        name=error.name,
    ) from None

from adai import Adai, AdaiW

# has_eps=False: timm hands over an eps of 1e-8 for a division, and ours is the bound of the inertia.
_INFOS = (
    OptimInfo("adai", Adai, "Adaptive Inertia with L2 weight decay", has_eps=False, has_betas=True),
    OptimInfo("adaiw", AdaiW, "Adaptive Inertia with decoupled weight decay", has_eps=False, has_betas=True),
)


def register() -> None:
    """Make the names ``adai`` and ``adaiw`` known to timm. A second call changes nothing.

    timm then passes learning rate, weight decay, betas, parameter groups and further keywords on to `Adai` and `AdaiW`,
    but neither ``momentum`` nor ``eps``: the inertia bound stays 1e-3. As always in timm, the weight decay is 0 unless
    you give it, and does not apply to biases and norms. Needs timm 1.0.12 or later.

    Example:
        >>> register()
        >>> options = {"weight_decay": 5e-4, "min_inertia": 0.9, "warmup_steps": 100}
        >>> optimizer = timm.optim.create_optimizer_v2(model, "adai", lr=1.0, **options)
    """
    known = default_registry.list_optimizers()
    for info in _INFOS:
        if info.name not in known or default_registry.get_optimizer_info(info.name) != info:
            default_registry.register(info)
