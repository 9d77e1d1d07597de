"""The claims, in the order of the paper's argument: what users ask first comes first."""

from adai.paper.claims import simulated, trained
from adai.paper.claims.claim import Claim

_ALONG = tuple(f"{name}/config.json" for name in trained.MEASURED)
_FLATNESS = ("adai compare --option adai.min_inertia=0 --flatness 3", "adai paper table1 --scale small")
_ESCAPE = tuple(f"adai escape --setting {name}" for name in ("paper", "double-well", "matched"))
_TABLE1 = ("adai paper table1 --scale small",)
_HIGHER = (
    "adai compare --dataset cifar10 --model resnet8 --epochs 6 --batch 128 --augment --channels-last "
    "--optimizers adai-paper sgd ema --lr adai-paper=3 sgd=0.3 ema=3 --seeds 4"
)
_SMALL = (f"{trained.TABLE1[0]}/config.json",)

CLAIMS = (
    Claim(
        "better-than-sgd",
        "“Adai can generalize better than SGD with Momentum”",
        "Section 5, Table 1",
        trained.better_than_sgd,
        (*_SMALL, f"{trained.HIGHER}/config.json"),
        (*_TABLE1, _HIGHER),
    ),
    Claim(
        "better-than-adaptive",
        "Adai generalizes better than Adam and its variants",
        "Section 5, Table 1",
        trained.better_than_adaptive,
        _SMALL,
        _TABLE1,
    ),
    Claim(
        "as-fast-as-adam",
        "“while maintaining similarly fast convergence” as Adam",
        "Section 5, Figure 4",
        trained.as_fast_as_adam,
        _ALONG,
        _FLATNESS,
    ),
    Claim(
        "robust",
        "Adai trains at ten times SGD's learning rate without further tuning",
        "Appendix D",
        trained.robust,
        (trained.BLOW_UPS,),
        ("python benchmarks/blow_up.py",),
        theory=("stability-floor", "stability-start"),
    ),
    Claim(
        "hyperparameters",
        "“Without introducing extra hyperparameters”",
        "Sections 4 and 6",
        trained.no_more_hyperparameters,
        (trained.BLOW_UPS,),
        ("python benchmarks/blow_up.py",),
        theory=("stability-floor", "stability-start"),
    ),
    Claim(
        "as-flat-as-sgd",
        "Adai “favors flat minima as well as SGD”",
        "Section 1",
        trained.as_flat_as_sgd,
        _ALONG,
        _FLATNESS,
    ),
    Claim(
        "flatter-than-adam",
        "Adam does not favor flat minima as much as SGD and Adai",
        "Section 1",
        trained.flatter_than_adam,
        _ALONG,
        _FLATNESS,
    ),
    Claim(
        "drift",
        "The momentum drift of Adai “is observed to dominate Adam by nearly 1000 times”",
        "Section 4",
        trained.drift,
        _ALONG,
        _FLATNESS,
        theory=("eq12",),
    ),
    Claim(
        "noise-is-hessian",
        "The gradient noise follows the Hessian: C = H/B",
        "Eq. 5, Figure 7",
        simulated.hessian_noise,
        (simulated.FIGURE7,),
        ("adai paper figure7",),
        theory=("eq5",),
    ),
    Claim(
        "noise-is-gaussian",
        "Gradient noise is Gaussian across minibatches",
        "Appendix C, Figure 6",
        simulated.gaussian,
        (simulated.FIGURE6,),
        ("adai paper figure6",),
    ),
    Claim(
        "theorem-2.1",
        "How far SGD gets from a saddle point",
        "Theorem 2.1",
        simulated.sgd_at_a_saddle,
        (simulated.SADDLE,),
        ("adai saddle",),
        theory=("thm2.1",),
    ),
    Claim(
        "theorem-3.1",
        "How far SGD with momentum gets from a saddle point",
        "Theorem 3.1",
        simulated.momentum_at_a_saddle,
        (simulated.SADDLE,),
        ("adai saddle",),
        theory=("thm3.1",),
    ),
    Claim(
        "theorem-3.2",
        "How long SGD with momentum stays in a minimum",
        "Theorem 3.2",
        simulated.momentum_escape,
        (simulated.MATCHED,),
        _ESCAPE[2:],
        theory=("thm3.2",),
    ),
    Claim(
        "proposition-1",
        "Adam's displacement at a saddle point does not depend on the Hessian",
        "Proposition 1",
        simulated.adam_drift,
        (simulated.SADDLE,),
        ("adai saddle",),
        theory=("prop1",),
    ),
    Claim(
        "proposition-3",
        "Adai's momentum drift at a saddle point does not depend on the Hessian",
        "Proposition 3",
        simulated.adai_drift,
        (simulated.SADDLE,),
        ("adai saddle",),
        theory=("prop3",),
    ),
    Claim(
        "figure-5-adam",
        "Adam's escape time depends on the square root of the sharpness alone: log τ = O(1/√H)",
        "Proposition 2, Figure 5",
        simulated.adam_escape,
        tuple(simulated.VALLEYS.values()),
        _ESCAPE,
        theory=("prop2",),
    ),
    Claim(
        "figure-5-adai",
        "Adai's and momentum's escape times depend on the sharpness itself: log τ = O(1/H)",
        "Proposition 4, Figure 5",
        simulated.adai_escape,
        tuple(simulated.VALLEYS.values()),
        _ESCAPE,
        theory=("thm3.2", "prop4"),
    ),
    Claim(
        "slightly-faster",
        "“Adai can escape loss valleys even slightly fast than Momentum as we predicted”",
        "Section 4, Figure 5",
        simulated.slightly_faster,
        (simulated.WELL,),
        _ESCAPE[1:2],
        theory=("prop4",),
    ),
)
