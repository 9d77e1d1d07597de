"""One record for each numbered result of the paper: printed, corrected, exact, when it is valid, and what is wrong.

The records of `adai.theory.ours`, which are not in the paper, come at the end. `adai theory` prints this table,
docs/theory.md is generated from it, and the tests check each record. Each formula is written out here, next to the
function that computes it.
"""

import numpy as np

from adai.theory import dynamics, escape, estimate, exact, passage, saddle, styblinski
from adai.theory.ours import OURS
from adai.theory.parabolas import share
from adai.theory.record import Formula, Result, Sweep

_MSD = "⟨Δθ²⟩"
_TAU = "τ, dynamical time"
_SADDLE = {"eta": 0.01, "beta1": 0.9, "beta3": 1.0, "B": 1.0, "H": -0.1, "T": 100}
_ESCAPE = {"eta": 0.02, "B": 1.0, "H_a": 2.0, "H_b": -1.0, "s": 1 / 3, "delta_L": 0.06}
_EXPONENT = "exp[2γMB/η ΔL (s/H_a + (1-s)/|H_b|)]"
_ADAM_EXPONENT = "exp[2√B/η ΔL (s/√H_a + (1-s)/√|H_b|)]"
_SGD = Formula(
    "η²C (1 - a^{2T})/(1 - a²), a = 1 - ηH, C = |H|/B",
    lambda eta, B, H, T: exact.sgd(eta, H, dynamics.noise_covariance(B, H), T),
)
_WARM = Formula(
    "eq. 6 with m_0 in equilibrium: S' = A S Aᵀ + C b bᵀ",
    lambda eta, beta1, beta3, B, H, T: exact.momentum(
        eta, beta1, beta3, H, dynamics.noise_covariance(B, H), T, "equilibrium"
    ),
)
_COLD = Formula(
    "eq. 6 with m_0 = 0: S' = A S Aᵀ + C b bᵀ",
    lambda eta, beta1, beta3, B, H, T: exact.momentum(eta, beta1, beta3, H, dynamics.noise_covariance(B, H), T, "cold"),
)
_ADAM = Formula("ideal Adam, m_0 in equilibrium: S' = A S Aᵀ + b bᵀ", exact.adam)
_ADAM_DEBIASED = Formula("ideal Adam, m_0 = 0, bias correction", exact.adam_debiased)

RESULTS: tuple[Result, ...] = (
    Result(
        key="eq5",
        name="Noise follows the Hessian",
        reference="eq. 5",
        kind="T",
        printed=Formula("D = ηC/2 ≈ η/(2B) [H]⁺,  [H]⁺ = Uᵀ diag(|H_i|) U, eigenvectors in the columns of U"),
        corrected=Formula("D = η/(2B) [H]⁺,  [H]⁺ = U diag(|H_i|) Uᵀ", dynamics.diffusion),
        valid="Fisher information = Hessian: negative log-likelihood in nats, true model, batches drawn with "
        "replacement",
        note="Uᵀ diag U needs the eigenvectors in rows. At a saddle |H| is an assumption: L = (y - w1 w2 x)²/2 at w = "
        "0 has eigenvalues ±1 but no noise. If batches are drawn without replacement, C is smaller by (N-B)/(N-1).",
        quantity="D",
        inputs={"eta": 0.01, "B": 10, "H": -2.0},
    ),
    Result(
        key="eq6",
        name="SGD-style momentum",
        reference="below eq. 6",
        kind="T",
        printed=Formula("β3 = 0 in SGD-style momentum"),
        corrected=Formula("β3 = 1"),
        valid="torch.optim.SGD with momentum is eq. 6 with β3 = 1; its dampening is not eq. 6 with β3 < 1",
        note="β3 = 0 removes the gradient; eq. 31 has β3 = 1. torch does not dampen the first gradient, which "
        "shifts θ permanently by -η(1-β3)g_1(1-β1^T)/(1-β1).",
    ),
    Result(
        key="eq7",
        name="Force",
        reference="below eq. 7",
        kind="T",
        printed=Formula("r_t = -m_t,  F = g_t"),
        corrected=Formula("r_t = -m_t,  F = -g_t"),
        valid="always",
        note="The sign is wrong; with the corrected sign eq. 9 follows.",
    ),
    Result(
        key="eq8",
        name="Damping of a momentum method",
        reference="eqs. 8-10",
        kind="OK",
        printed=Formula("γ = (1-β1)/η,  M = η/β3,  γM = (1-β1)/β3", dynamics.friction),
        valid="always; γM is 1 for an EMA and 1 - β1 for SGD-style momentum",
        note="In equilibrium the velocity has variance D/(γM²).",
        quantity="γM",
        inputs={"beta1": 0.9, "beta3": 1.0},
    ),
    Result(
        key="thm2.1",
        name="SGD at a saddle",
        reference="Theorem 2.1, eqs. 22 and 23",
        kind="A",
        printed=Formula("sign(H) η/(2B) (1 - e^{-2HηT})", saddle.sgd_printed),
        exact=(_SGD,),
        valid="η|H| ≪ 1 and, for H < 0, η²H²T ≪ 1",
        note="Exact for the continuous eq. 2. For the algorithm it misses the factor 1 - ηH/2 at a minimum, and about "
        "e^{η²H²T} at a saddle. Eq. 13 lacks the inverse of Σ; before eq. 23, D = η|H|/(2B) lacks the bars.",
        quantity=_MSD,
        inputs={"eta": 0.1, "B": 10, "H": -2.0, "T": 20},
        sweep=Sweep("eta", 1e-3, 0.5),
    ),
    Result(
        key="thm2.1-taylor",
        name="SGD at a saddle, expanded",
        reference="Theorem 2.1",
        kind="A",
        printed=Formula("|H| η² T/B", saddle.sgd_taylor_printed),
        exact=(_SGD,),
        valid="|H|ηT ≪ 1",
        note="The paper calls it second order, but it is first order in |H|ηT; the next term is -sign(H) H²η³T²/B.",
        quantity=_MSD,
        inputs={"eta": 0.01, "B": 10, "H": -2.0, "T": 100},
        sweep=Sweep("T", 1, 1000),
    ),
    Result(
        key="thm3.1",
        name="Momentum at a saddle",
        reference="Theorem 3.1, eq. 29",
        kind="R",
        printed=Formula("D/(γ³M²)(1 - e^{-γt})² + D/(γMH)(1 - e^{-2Ht/(γM)})", saddle.momentum_printed),
        corrected=Formula(
            "φ(t)² D/(γM²) + 2D/M² ∫₀ᵗφ²,  Mφ'' = -γMφ' - Hφ, φ(0) = 0, φ'(0) = 1",
            lambda eta, beta1, beta3, B, H, T: exact.langevin(*dynamics.motion(eta, beta1, beta3, B, H, T)),
        ),
        exact=(_WARM, _COLD),
        valid="printed: γt ≫ 1 and |H| ≪ γ²M; corrected: η → 0, any t, any H",
        note="The equilibrium velocity is counted twice. The formula adds the overdamped diffusion to the drift of an "
        "equilibrium velocity, but that diffusion already contains this drift; the diffusion from a fixed velocity "
        "should be added instead. On a plane, with x = γt, the excess is D/(γ³M²)(1 - e^{-x})(3 - e^{-x}), which is a "
        "factor 2/x for small x. In the paper's own model inertia makes the displacement smaller than that of SGD with "
        "the same ηβ3/(1-β1). At a minimum the drift term never decays. A.2's |H| ≪ γM should be |H| ≪ γ²M, and both "
        "densities there lack the inverse of Σ.",
        quantity=_MSD,
        inputs=_SADDLE,
        sweep=Sweep("T", 1, 1000),
    ),
    Result(
        key="thm3.1-taylor",
        name="Momentum at a saddle, expanded",
        reference="Theorem 3.1, eqs. 30 and 31",
        kind="R",
        printed=Formula("|H|β3²η²/(2(1-β1)³B)(1 - e^{-x})² + |H|β3²η²T/(B(1-β1)²)", saddle.momentum_taylor_printed),
        corrected=Formula(
            "|H|β3²η²/(2(1-β1)³B)[(1 - e^{-x})² + (2x - 3 + 4e^{-x} - e^{-2x})],  x = (1-β1)T", saddle.momentum_taylor
        ),
        exact=(_WARM,),
        valid="|H|ηTβ3/(1-β1) ≪ 1, not |H|ηT ≪ 1 as printed; corrected also 1 - β1 ≪ 1",
        note="It counts the equilibrium velocity twice, as Theorem 3.1 does. The remainder is "
        "-sign(H)H²η³T²β3³/(B(1-β1)³): the O() of eq. 31 hides (1-β1)⁻³, a factor 1000 at β1 = 0.9.",
        quantity=_MSD,
        inputs=_SADDLE,
        sweep=Sweep("T", 1, 1000),
    ),
    Result(
        key="a2",
        name="Variance in the proof of Theorem 3.1",
        reference="A.2, the list before Step I",
        kind="T",
        printed=Formula(
            "σ² = 2D/(γMH)(1 - e^{-Ht/(γM)})",
            lambda eta, beta1, beta3, B, H, T: saddle.overdamped_printed(*dynamics.motion(eta, beta1, beta3, B, H, T)),
        ),
        corrected=Formula(
            "σ² = D/(γMH)(1 - e^{-2Ht/(γM)})  (eq. 28)",
            lambda eta, beta1, beta3, B, H, T: saddle.overdamped(*dynamics.motion(eta, beta1, beta3, B, H, T)),
        ),
        valid="as diffusion without inertia: |H| ≪ γ²M and γt ≫ 1",
        note="Both agree at first order in t; at a minimum the printed one ends at twice the stationary variance.",
        quantity="σ²",
        inputs={**_SADDLE, "H": 0.1},
        sweep=Sweep("T", 1, 10000),
    ),
    Result(
        key="eq11",
        name="Effective diffusion",
        reference="eqs. 11 and 55",
        kind="A",
        printed=Formula(
            "D̂/D = (1 - √(1-y))/(y/2),  y = 4H/(γ²M)",
            lambda eta, beta1, beta3, H: escape.effective_diffusion(
                H, dynamics.damping(eta, beta1), dynamics.mass(eta, beta3)
            ),
        ),
        valid="y ≤ 1: at every saddle, not at a sharp minimum (H > γ²M/4), where it is complex",
        note="Computed as 2/(1 + √(1-y)), the same without cancellation.",
        quantity="D̂/D",
        inputs={"eta": 0.02, "beta1": 0.9, "beta3": 0.1, "H": -1.0},
    ),
    Result(
        key="thm3.2",
        name="Momentum leaves a minimum",
        reference="Theorem 3.2, eq. 63",
        kind="R",
        printed=Formula(f"π [√(1 + 4|H_b|/(γ²M)) + 1]/|H_b| {_EXPONENT}", escape.momentum_printed),
        corrected=Formula(f"γM π [√(1 + 4|H_b|/(γ²M)) + 1]/H_a {_EXPONENT}", escape.momentum),
        valid="exponent ≫ 1, s in (0, 1); noise constant on each side of the junction",
        note="The factor γM = (1-β1)/β3 is missing. It is 1 for an EMA; for SGD-style momentum with β1 = 0.9 the "
        "printed time is 10 times too long. Proof: SGD-style with η and EMA with η/(1-β1) follow the same path, but "
        "the formula gives them different numbers of iterations; in eq. 8, 1/|H| is not a time, γM/|H| is. Origin: "
        "eq. 42 needs D̂/(γM)², eqs. 40 and 58 need (2π/(γM))^{n/2}. H_a replaces |H_b|: see eq47. 'Reduces to SGD' "
        "holds only with the factor.",
        quantity=_TAU,
        inputs={**_ESCAPE, "eta": 0.002, "beta1": 0.9, "beta3": 1.0},
        sweep=Sweep("H_a", 0.5, 4),
    ),
    Result(
        key="eq47",
        name="Density where the noise jumps",
        reference="eqs. 47 and 63 for SGD",
        kind="R",
        printed=Formula(
            "P(s-) = P(s+):  τ = 2π/|H_b| exp[2B/η ΔL (s/H_a + (1-s)/|H_b|)]",
            lambda eta, B, H_a, H_b, delta_L: escape.sgd(eta, B, H_a, H_b, share(H_a, H_b), delta_L).times(-H_a / H_b),
        ),
        corrected=Formula(
            "D P continuous:  τ = 2π/H_a exp[2B/η ΔL (s/H_a + (1-s)/|H_b|)]",
            lambda eta, B, H_a, H_b, delta_L: escape.sgd(eta, B, H_a, H_b, share(H_a, H_b), delta_L),
        ),
        exact=(
            Formula("eq. 2 on two parabolas: first-passage integral", passage.parabolas_continuous),
            Formula("eq. 1 on two parabolas: integral equation", passage.parabolas_discrete),
        ),
        valid="exponent ≫ 1 on either side of the junction; two parabolas, s = |H_b|/(H_a + |H_b|)",
        note="Eq. 2 is an Itô equation. The factor |H_b|/H_a is 1 if both curvatures are equal. Taken literally, "
        "C = |L''|/B vanishes at the inflexion point, so nothing ever escapes. Appendix E records the first passage of "
        "b itself, which for SGD takes half of this time.",
        quantity=_TAU,
        inputs={"eta": 0.02, "B": 1.0, "H_a": 2.0, "H_b": -1.0, "delta_L": 0.06},
        sweep=Sweep("H_a", 0.5, 4),
    ),
    Result(
        key="a3",
        name="Slips in the proof of Theorem 3.2",
        reference="eqs. 34, 40-43, 49, 50, 58 and Appendix B",
        kind="R",
        printed=Formula(
            "J = D ∇[…] in eqs. 41-43, 49, 50;  (2πγM)^{n/2} in eqs. 40, 58;  D⁻¹ in eq. 43;  S_a in eq. 34"
        ),
        corrected=Formula("J = -D ∇[…];  (2π/(γM))^{n/2};  D̂⁻¹ with D̂/(γM)² in eq. 42;  S_b"),
        valid="always",
        note="The powers of γM do not cancel: here Theorem 3.2 loses its factor. Appendix B's 6-sigma rule, "
        "ΔL > 3D/(γM), is 2.45 sigma on one side.",
    ),
    Result(
        key="prop1",
        name="Adam at a saddle",
        reference="Proposition 1",
        kind="R",
        printed=Formula("D/(γ²M)(1 - e^{-γt})² + D/(γMH)(1 - e^{-2Ht/(γM)}),  η C^{-1/2} for η", saddle.adam_printed),
        corrected=Formula(
            "Theorem 3.1 as corrected, η C^{-1/2} for η",
            lambda eta, beta1, B, H, T: exact.langevin(*dynamics.adam_motion(eta, beta1, B, H, T)),
        ),
        exact=(_ADAM, _ADAM_DEBIASED),
        valid="ideal preconditioner (Assumption 4); printed: (1-β1)T ≫ 1",
        note="It counts the equilibrium velocity twice, as Theorem 3.1 does. D/(γ²M) should be D/(γ³M²), which is the "
        "same because γM = 1 for Adam.",
        quantity=_MSD,
        inputs={"eta": 0.001, "beta1": 0.9, "B": 128, "H": -1.0, "T": 100},
        sweep=Sweep("T", 1, 500),
    ),
    Result(
        key="prop1-taylor",
        name="Adam at a saddle, expanded",
        reference="Proposition 1",
        kind="R",
        printed=Formula("η²/(2(1-β1))(1 - e^{-x})² + η²T", saddle.adam_taylor_printed),
        corrected=Formula(
            "η²/(2(1-β1))[(1 - e^{-x})² + (2x - 3 + 4e^{-x} - e^{-2x})],  x = (1-β1)T", saddle.adam_taylor
        ),
        exact=(_ADAM, _ADAM_DEBIASED),
        valid="√(B|H|) ηT ≪ 1, not |H|ηT ≪ 1 as printed",
        note="It counts the equilibrium velocity twice, as Theorem 3.1 does. The true condition is stricter by "
        "√(B/|H|): at B = 128, |H| = 1, η = 0.001 and T = 300, where |H|ηT = 0.3, the exact value is 59 times larger.",
        quantity=_MSD,
        inputs={"eta": 0.001, "beta1": 0.9, "B": 128, "H": -1.0, "T": 300},
        sweep=Sweep("T", 1, 500),
    ),
    Result(
        key="prop2",
        name="Adam leaves a minimum",
        reference="Proposition 2",
        kind="R",
        printed=Formula(
            f"π [√(1 + 4η√(B|H_b|)/(1-β1)) + 1] |det(H_a⁻¹H_b)|^{{1/4}}/|H_b| {_ADAM_EXPONENT}", escape.adam_printed
        ),
        corrected=Formula("printed × (|H_b|/H_a)^{β1/(1+β1)}", escape.adam),
        valid="ideal preconditioner, exponent ≫ 1, η → 0; a real Adam with β2 = 0.999 does not follow V(θ) while it "
        "escapes",
        note="m is averaged before it is divided by √C, and the two are correlated. This gives θ a drift unless β1 = 0 "
        "or H_a = |H_b|. τ is in the adaptive time of the saddle: iterations are τ/(η√(B/|H_b|)), not τ/η.",
        quantity=_TAU,
        inputs={**_ESCAPE, "beta1": 0.9},
        sweep=Sweep("H_a", 0.25, 4),
    ),
    Result(
        key="eq67",
        name="Adam leaves a minimum, in the proof",
        reference="eq. 67",
        kind="T",
        printed=Formula(
            f"π [√(1 + 4η√B|H_b|/(1-β1)) + 1] |det(H_a⁻¹H_b)|^{{1/4}}/|H_b| {_ADAM_EXPONENT}", escape.adam_eq67
        ),
        corrected=Formula("√(B|H_b|) for √B|H_b|, as in the main text", escape.adam_printed),
        valid="as Proposition 2",
        note="The two are equal only if |H_b| = 1.",
        quantity=_TAU,
        inputs={"eta": 0.005, "beta1": 0.9, "B": 100, "H_a": 10.0, "H_b": -25.0, "s": 0.3, "delta_L": 0.01},
        sweep=Sweep("H_b", -0.5, -50),
    ),
    Result(
        key="eq12",
        name="Total drift of momentum",
        reference="eq. 12",
        kind="A",
        printed=Formula("⟨Δθ⟩² = |H|η²/(2(1-β1)B)", saddle.total_drift),
        corrected=Formula("⟨Δθ²⟩ = |H|η²/(2(1-β1)B)", saddle.total_drift),
        exact=(
            Formula(
                "η²C β1²/((1-β1)(1+β1)), C = |H|/B",
                lambda eta, beta1, B, H: exact.total_drift(eta, beta1, dynamics.noise_covariance(B, H)),
            ),
        ),
        valid="1 - β1 ≪ 1, EMA, T → ∞ on a plane",
        note="The square of the mean, as printed, is 0.",
        quantity=_MSD,
        inputs={"eta": 0.1, "beta1": 0.9, "B": 10, "H": -2.0},
        sweep=Sweep("beta1", 0.3, 0.99),
    ),
    Result(
        key="prop3",
        name="Adai at a saddle",
        reference="Proposition 3",
        kind="R",
        printed=Formula("⟨Δθ⟩² = Σ|H_i| η²/(β0 n B)", saddle.adai_drift_printed),
        corrected=Formula("⟨Δθ_i²⟩ = Σ|H_i| η²/(2 β0 n B)", saddle.adai_drift),
        exact=(
            Formula(
                "η²V_i μ_i²/(1 - μ_i²), V = |H|/B, μ_i = 1 - β0 V_i/mean(V) in [0, 1-ε]",
                lambda eta, beta0, B, H_all, eps: exact.adai_drift(
                    eta, beta0, dynamics.noise_covariance(B, H_all), eps
                ),
            ),
        ),
        valid="1 - μ_i ≪ 1 and no clipping; only then is the drift independent of the Hessian",
        note="The printed value is twice that of eq. 12 with 1 - μ_i = n β0 V_i/‖V‖₁. The dynamics is Adai's, not that "
        "of SGD with momentum.",
        quantity="⟨Δθ_i²⟩",
        inputs={"eta": 0.1, "beta0": 0.1, "B": 10, "H_all": (4.0, 1.0, 0.5, 0.01), "eps": 0.001},
        sweep=Sweep("beta0", 0.001, 0.3),
    ),
    Result(
        key="prop4",
        name="Adai leaves a minimum",
        reference="Proposition 4, eq. 70",
        kind="R",
        printed=Formula(
            "π [√(1 + 4η Σ|H_bi|/(β0 n)) + 1]/|H_b| exp[2B/η ΔL (s/H_a + (1-s)/|H_b|)]", escape.adai_printed
        ),
        corrected=Formula("printed × |H_b|/H_a", escape.adai),
        valid="exponent ≫ 1, V proportional to |H| at b, no clipping",
        note="No γM is missing here, because it is 1. The prefactor is that of Theorem 3.2: see eq47. 'Slightly "
        "accelerated' holds if the escape direction is sharper than the mean; in the paper's test function it is "
        "flatter. With n = 1 Adai is EMA momentum.",
        quantity=_TAU,
        inputs={**_ESCAPE, "beta0": 0.1, "H_all": (-1.0, 0.1, 0.1, 0.4)},
        sweep=Sweep("H_a", 0.5, 4),
    ),
    Result(
        key="eq71",
        name="Escape rate",
        reference="eq. 71",
        kind="OK",
        printed=Formula("Γ̂ = (n-2)/S: E Γ̂/Γ = (n-2)/(n-1)", lambda n: estimate.bias(n, "paper")),
        exact=(Formula("unbiased: (n-1)/S", lambda n: estimate.bias(n, "mvue")),),
        valid="exponential escape times, none censored",
        note="This is neither the maximum likelihood estimate (n/S) nor the unbiased one ((n-1)/S), but the one with "
        "the least mean squared error.",
        quantity="E Γ̂/Γ",
        inputs={"n": 100},
    ),
    Result(
        key="eq72",
        name="Interval of the escape rate",
        reference="eq. 72",
        kind="A",
        printed=Formula("Γ̂ (1 ± 1.96/√n), 'the 95 % interval'", lambda n: np.full(np.shape(n), 0.95)),
        corrected=Formula("[χ²_{.025,2n}, χ²_{.975,2n}]/(2S)", lambda n: np.full(np.shape(n), 0.95)),
        exact=(Formula("coverage of the printed interval", estimate.coverage_printed),),
        valid="n ≫ 100, exponential escape times, none censored",
        note="The printed interval is normal and symmetric: it misses on the high side four times as often as on the "
        "low side. Escape times that are not exponential (Adam from Appendix E's start, sharp valleys) need the "
        "bootstrap.",
        quantity="coverage",
        inputs={"n": 100},
        sweep=Sweep("n", 3, 1000),
    ),
    Result(
        key="alg1",
        name="Adam's guard against division by zero",
        reference="Algorithm 1",
        kind="T",
        printed=Formula("η m̂/√(v̂ + ε); first step η g/√(g² + ε)", dynamics.adam_first_step_printed),
        corrected=Formula("η m̂/(√v̂ + ε); first step η g/(|g| + ε)", dynamics.adam_first_step),
        valid="g² ≫ ε",
        note="In Kingma and Ba and in torch ε is outside the root. Inside the root, 1e-8 acts like 1e-4.",
        quantity="θ_0 - θ_1",
        inputs={"eta": 0.001, "g": 1e-4, "eps": 1e-8},
        sweep=Sweep("g", 1e-8, 1),
    ),
    Result(
        key="appendix-e",
        name="The valley of the escape experiment",
        reference="Appendix E",
        kind="R",
        printed=Formula(
            "x ~ N(0, sd²), sd = 2; minimum at u = -2.903534, saddle at 0.156731",
            lambda sd: np.full(np.shape(sd), styblinski.PRINTED_MINIMUM),
        ),
        corrected=Formula("the left root of 2u³ + (6 sd² - 16)u + 5/2", styblinski.minimum),
        valid="printed: sd = 0. Two valleys: sd² < 1.9357",
        note="The mean over the samples adds 3 sd² u². With sd = 2 the loss is convex and its only minimum is at u = "
        "-0.3054, so the experiment measures a relaxation and the crossing of a level, not of a barrier. k only "
        "rescales the learning rate.",
        quantity="left minimum u",
        inputs={"sd": 2.0},
        sweep=Sweep("sd", 0.1, 2.5),
    ),
    *OURS,
)


def find(key: str) -> Result:
    """The record with this key.

    Raises:
        ValueError: no result has this key; the message lists the keys.
    """
    for result in RESULTS:
        if result.key == key:
            return result
    raise ValueError(f"no result {key!r}; choose from {', '.join(result.key for result in RESULTS)}")
