"""`adai.jax`: the same rule as in torch, under every transformation of JAX and optax that people put around it."""

import importlib
import subprocess
import sys

import numpy as np
import pytest
import torch

from adai import Adai
from tests import snippets
from tests.test_rule import GRADIENTS, THETA

jax = pytest.importorskip("jax")
optax = pytest.importorskip("optax")
jnp, NamedSharding, P = jax.numpy, jax.sharding.NamedSharding, jax.sharding.PartitionSpec
ours = importlib.import_module("adai.jax")
AdaiState, adai, adaiw, share_mean = ours.AdaiState, ours.adai, ours.adaiw, ours.share_mean

# make test leaves jax out, make test-slow installs it.
pytestmark = pytest.mark.slow

jax.config.update("jax_num_cpu_devices", 4)  # before anything computes

STEPS = 200
SHAPES = {"a": (3, 4), "b": (), "c": (5,), "d": (0,), "e": (2, 3, 2)}

# options here, and those of adai.Adai that say the same
OPTIONS = {
    "plain": ({}, {}),
    "l2": ({"weight_decay": 0.03},) * 2,
    "decoupled": ({"weight_decay": 0.3, "decoupled_weight_decay": True, "warmup_steps": 30},) * 2,
    "floor": ({"min_inertia": 0.9, "warmup_steps": 30, "weight_decay": 0.01},) * 2,
    "adaiv2": ({"dampening": 0.9},) * 2,
    "sgd": ({"dampening": 0.0, "eps": 0.0},) * 2,
    "betas": ({"beta0": 1.0, "beta2": 0.0, "eps": 0.2}, {"betas": (1.0, 0.0), "eps": 0.2}),
}


@pytest.fixture
def float64():
    with jax.enable_x64(True):
        yield np.float64


def tree(seed=0, dtype=np.float32, shapes=SHAPES):
    rng = np.random.default_rng(seed)
    return {name: jnp.asarray(rng.standard_normal(shape), dtype) for name, shape in shapes.items()}


def gradients(steps, dtype=np.float32, shapes=SHAPES):
    """Random gradients of many sizes, the same at every call."""
    rng = np.random.default_rng(1)
    for _ in range(steps):
        yield {k: jnp.asarray(rng.standard_normal(s) * 10 ** rng.uniform(-2, 1), dtype) for k, s in shapes.items()}


def stepper(optimizer):
    @jax.jit
    def step(params, state, grads):
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    return step


def run(optimizer, params, grads):
    state, step = optimizer.init(params), stepper(optimizer)
    for g in grads:
        params, state = step(params, state, g)
    return params, state


def in_torch(params):
    return {name: torch.tensor(np.asarray(p)).requires_grad_() for name, p in params.items()}


def run_torch(params, grads, groups=None, each_step=lambda optimizer: None, **options):
    """The for-loop engine of adai.Adai on the same gradients; ``groups`` gives options to parameters by their name."""
    params = in_torch(params)
    groups = [{"params": [p], **(groups or {}).get(name, {})} for name, p in params.items()]
    optimizer = Adai(groups, foreach=False, fused=False, **options)
    for g in grads:
        for name, p in params.items():
            p.grad = None if g[name] is None else torch.tensor(np.asarray(g[name]))
        optimizer.step()
        each_step(optimizer)
    return {name: p.detach().numpy() for name, p in params.items()}, optimizer


def flat(params):
    return np.concatenate([np.asarray(params[name], np.float64).ravel() for name in sorted(params)])


def assert_close(params, expected, tolerance):
    """Both as vectors of all parameters, relative to their length."""
    a, b = flat(params), flat(expected)
    assert np.linalg.norm(a - b) <= tolerance * np.linalg.norm(b)


def assert_same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def state_of(state):
    (found,) = [s for s in jax.tree.leaves(state, is_leaf=lambda s: isinstance(s, AdaiState)) if hasattr(s, "exp_avg")]
    return found


# The rule


@pytest.mark.parametrize("case", OPTIONS)
def test_equal_to_torch_in_float32(case):
    here, there = OPTIONS[case]
    params, state = run(adai(0.05, **here), tree(), gradients(STEPS))
    expected, optimizer = run_torch(tree(), gradients(STEPS), lr=0.05, **there)
    assert_close(params, expected, 1e-6)
    assert float(optax.tree.get(state, "v_mean")) == pytest.approx(optimizer.v_mean(), rel=1e-5)


@pytest.mark.parametrize("case", OPTIONS)
def test_equal_to_torch_in_float64(case, float64):
    here, there = OPTIONS[case]
    params, state = run(adai(0.05, **here), tree(dtype=float64), gradients(STEPS, float64))
    expected, optimizer = run_torch(tree(dtype=float64), gradients(STEPS, float64), lr=0.05, **there)
    assert_close(params, expected, 1e-12)
    assert float(optax.tree.get(state, "v_mean")) == pytest.approx(optimizer.v_mean(), rel=1e-12)
    assert int(state_of(state).count) == STEPS


def test_printed_trajectory(float64):
    optimizer, params = adai(0.1), jnp.zeros(4)
    state, step = optimizer.init(params), stepper(optimizer)
    for g, theta in zip(GRADIENTS, THETA, strict=True):
        params, state = step(params, state, jnp.array(g, float64))
        np.testing.assert_allclose(params, theta, rtol=0, atol=5.1e-10)


def test_adaiw_is_adai_with_decoupled_decay():
    params, _ = run(adaiw(0.1), tree(), gradients(5))
    expected, _ = run(adai(0.1, weight_decay=5e-3, decoupled_weight_decay=True), tree(), gradients(5))
    assert_same(params, expected)


def test_a_schedule_multiplies_the_warm_up(float64):
    params, _ = run(
        adai(optax.cosine_decay_schedule(0.1, 50), warmup_steps=10), tree(dtype=float64), gradients(50, float64)
    )
    rates = iter([float(optax.cosine_decay_schedule(0.1, 50)(t)) for t in range(51)])

    def next_rate(optimizer):
        rate = next(rates)
        for group in optimizer.param_groups:
            group["lr"] = rate

    start = next(rates)
    expected, _ = run_torch(tree(dtype=float64), gradients(50, float64), lr=start, warmup_steps=10, each_step=next_rate)
    assert_close(params, expected, 1e-12)


@pytest.mark.parametrize("eps", [0.0, 1e-3])
def test_gradients_of_zero_change_nothing_until_the_first_other_one(eps):
    optimizer, params = adai(0.1, weight_decay=0.1, decoupled_weight_decay=True, warmup_steps=3, eps=eps), tree()
    zeros = [optax.tree.zeros_like(params)] * 3
    still, state = run(optimizer, params, zeros)
    assert_same(still, params)
    assert_same(state_of(state), state_of(optimizer.init(params)))
    assert_same(run(optimizer, params, [*zeros, *gradients(4)])[0], run(optimizer, params, gradients(4))[0])


def test_the_bias_correction_ends_at_one():
    """As an average it would get stuck below 1 in float32, where the inertia is at its bound."""
    optimizer, params = adai(0.0), jnp.zeros(2)

    def step(_, state):
        return optimizer.update(jnp.array([1.0, 0.0]), state, params)[1]

    state = jax.jit(lambda state: jax.lax.fori_loop(0, 18_000, step, state))(optimizer.init(params))
    assert (state_of(state).bias_correction == 1).all()


def test_a_nan_spreads_to_all_parameters():
    grads = tree(seed=1)
    grads["b"] = jnp.asarray(np.nan)
    params, state = run(adai(0.1), tree(), [grads])
    assert np.isnan(flat(params)).all()
    assert np.isnan(optax.tree.get(state, "v_mean"))


@pytest.mark.parametrize("scale", [1e-15, 1e-6, 1e6, 1e15])
def test_scale_equivariance(scale):
    params = optax.tree.zeros_like(tree())
    one, _ = run(adai(0.1), params, gradients(5))
    other, _ = run(adai(0.1), params, [optax.tree.scale(scale, g) for g in gradients(5)])
    assert_close({k: flat({k: p}) / scale for k, p in other.items()}, one, 1e-5)


def test_half_precision_keeps_state_in_float32_and_the_dtype_of_updates():
    optimizer, params = adai(0.05, weight_decay=0.1), tree(dtype=jnp.bfloat16)
    update = jax.jit(optimizer.update)
    updates, state = update(tree(seed=1, dtype=jnp.bfloat16), optimizer.init(params), params)
    assert {u.dtype for u in jax.tree.leaves(updates)} == {jnp.dtype(jnp.bfloat16)}
    for each in (state, optimizer.init(params)):
        assert {v.dtype for v in jax.tree.leaves(state_of(each)[1:])} == {jnp.dtype(jnp.float32)}
    wide = jax.tree.map(lambda x: x.astype(jnp.float32), (tree(seed=1, dtype=jnp.bfloat16), params))
    expected, _ = update(wide[0], optimizer.init(wide[1]), wide[1])
    assert_same(updates, jax.tree.map(lambda u: u.astype(jnp.bfloat16), expected))


def test_complex_parameters_are_refused_or_split():
    params = {"z": jnp.array([1 + 2j, 3 - 1j], jnp.complex64), "x": jnp.array([1.0])}
    with pytest.raises(TypeError, match="split_real_and_imaginary"):
        adai(0.1).init(params)
    split = optax.contrib.split_real_and_imaginary(adai(0.1))
    grads = {"z": jnp.array([0.1 - 1j, 2 + 0.5j], jnp.complex64), "x": jnp.array([0.3])}
    expected, _ = run_torch(params, [grads] * 3, lr=0.1)
    for name, p in run(split, params, [grads] * 3)[0].items():
        np.testing.assert_allclose(p, expected[name], rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "value"),
    [
        ({"learning_rate": -1.0}, "-1.0"), ({"learning_rate": float("nan")}, "nan"), ({"beta0": 0.0}, "0.0"),
        ({"beta2": 1.0}, "1.0"), ({"eps": 1.0}, "1.0"), ({"min_inertia": 0.9999}, "0.9999"),
        ({"warmup_steps": 2.5}, "2.5"), ({"weight_decay": -0.1}, "-0.1"), ({"dampening": 1.5}, "1.5"),
    ],
)  # fmt: skip
def test_an_option_out_of_range_is_named_with_its_value(options, value):
    with pytest.raises(ValueError, match=f"Invalid {next(iter(options))}: {value};"):
        adai(**{"learning_rate": 0.1, **options})


# Trees


def test_none_and_empty_leaves_count_for_nothing():
    params, grads = tree(), list(gradients(3))
    expected, _ = run(adai(0.1), params, grads)
    with_none = [{**g, "none": None, "more": jnp.zeros((0, 3))} for g in grads]
    got, _ = run(adai(0.1), {**params, "none": None, "more": jnp.zeros((0, 3))}, with_none)
    assert got.pop("none") is None
    assert got.pop("more").shape == (0, 3)
    assert_same(got, expected)
    updates, _ = adai(0.1, weight_decay=0.1).update({}, adai(0.1, weight_decay=0.1).init({}), {})
    assert updates == {}


def test_a_parameter_without_gradient_keeps_its_state_and_is_in_no_mean(float64):
    """In torch's rule too, where it had its gradient in every other step from the first on."""
    grads = list(gradients(4, float64))
    grads[3]["c"] = None
    optimizer = adai(0.1, weight_decay=0.1, decoupled_weight_decay=True)
    params, state = run(optimizer, tree(dtype=float64), grads[:3])
    updates, after = jax.jit(optimizer.update)(grads[3], state, params)
    assert updates.pop("c") is None
    assert_same(state_of(after).exp_avg["c"], state_of(state).exp_avg["c"])
    assert_same(state_of(after).exp_avg_sq["c"], state_of(state).exp_avg_sq["c"])
    expected, _ = run_torch(tree(dtype=float64), grads, lr=0.1, weight_decay=0.1, decoupled_weight_decay=True)
    assert_close({**params, **{k: params[k] + u for k, u in updates.items()}}, expected, 1e-12)


def test_masked_takes_the_mean_over_what_it_trains():
    trains = {name: name in "ae" for name in SHAPES}
    params, _ = run(optax.masked(adai(0.1), trains), tree(), gradients(1))
    few = {name: SHAPES[name] for name in "ae"}
    expected, _ = run(adai(0.1), {n: tree()[n] for n in few}, [{n: g[n] for n in few} for g in gradients(1)])
    for name in few:
        assert_same(params[name], expected[name])


@pytest.mark.parametrize("decoupled", [False, True])
def test_the_mask_says_what_decays(decoupled, float64):
    mask = {name: name in "ac" for name in SHAPES}
    expected, _ = run_torch(
        tree(dtype=float64), gradients(20, float64), {name: {"weight_decay": 0.2} for name in "ac"},
        lr=0.1, decoupled_weight_decay=decoupled,
    )  # fmt: skip
    for given in (mask, lambda params: mask):
        optimizer = adai(0.1, weight_decay=0.2, mask=given, decoupled_weight_decay=decoupled)
        params, _ = run(optimizer, tree(dtype=float64), gradients(20, float64))
        assert_close(params, expected, 1e-12)


GROUPS = {
    "first": {"learning_rate": 0.3, "beta0": 1.0, "beta2": 0.9, "eps": 0.2, "weight_decay": 0.01},
    "second": {"learning_rate": 0.01, "beta2": 0.95, "min_inertia": 0.5, "warmup_steps": 7},
}
LABELS = {"a": "first", "b": "second", "c": "first", "d": "second", "e": "second"}


def groups():
    return optax.multi_transform({name: adai(**options) for name, options in GROUPS.items()}, LABELS)


def test_groups_share_one_mean(float64):
    """Also where one of them has nothing but zeros at first."""
    grads = list(gradients(STEPS, float64))
    for name in "ac":
        grads[0][name] = jnp.zeros_like(grads[0][name])

    def in_torch_words(learning_rate, beta0=0.1, beta2=0.99, **options):
        return {"lr": learning_rate, "betas": (beta0, beta2), **options}

    expected, optimizer = run_torch(
        tree(dtype=float64), grads, {name: in_torch_words(**GROUPS[label]) for name, label in LABELS.items()}
    )
    params, state = run(share_mean(groups()), tree(dtype=float64), grads)
    assert_close(params, expected, 1e-12)
    for _, mean in optax.tree.get_all_with_path(state, "v_mean"):
        assert float(mean) == pytest.approx(optimizer.v_mean(), rel=1e-12)
    apart, _ = run(groups(), tree(dtype=float64), grads)
    assert np.abs(flat(apart) - flat(expected)).max() > 1e-3


def test_sharing_the_mean_costs_nothing_when_compiled():
    def operations(optimizer):
        params = {name: jnp.ones((100, 100)) for name in SHAPES}
        return (
            jax.jit(optimizer.update).lower(params, optimizer.init(params), params).compile().cost_analysis()["flops"]
        )

    assert operations(share_mean(groups())) == pytest.approx(operations(groups()), rel=1e-3)


def test_share_mean_of_one_changes_nothing_and_of_none_raises():
    assert_close(run(share_mean(adai(0.1)), tree(), gradients(5))[0], run(adai(0.1), tree(), gradients(5))[0], 1e-6)
    with pytest.raises(ValueError, match="neither adai nor adaiw"):
        share_mean(optax.sgd(0.1)).init(tree())


# What people put around it


def numbers():
    return {
        "learning_rate": 0.1, "beta0": 0.2, "beta2": 0.95, "eps": 0.01, "weight_decay": 0.1, "min_inertia": 0.3,
        "warmup_steps": 3, "dampening": 0.9,
    }  # fmt: skip


@pytest.mark.parametrize("make", [adai, adaiw])
def test_inject_hyperparams(make):
    optimizer = optax.inject_hyperparams(make)(**numbers())
    params, state = run(optimizer, tree(), gradients(6))
    assert set(state.hyperparams) == set(numbers())
    assert_close(params, run(make(**numbers()), tree(), gradients(6))[0], 1e-5)


def test_nothing_compiles_again():
    """Neither over steps with a schedule, nor where an injected number is set, nor with groups."""
    schedule = optax.warmup_cosine_decay_schedule(0.0, 0.1, 3, 9)
    injected = optax.inject_hyperparams(adai)(**numbers())
    for optimizer in (adai(schedule, weight_decay=0.1), adaiw(0.1), injected, share_mean(groups())):
        params = tree()
        state, step = optimizer.init(params), stepper(optimizer)
        for g in gradients(6):
            if optimizer is injected:
                state.hyperparams["learning_rate"] = jnp.asarray(0.9 * state.hyperparams["learning_rate"])
            params, state = step(params, state, g)
        assert step._cache_size() == 1


@pytest.mark.parametrize("make", [adai, adaiw])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("target", ["parabola", "rosenbrock"])
def test_it_finds_the_minimum(make, dtype, target):
    """The targets of optax's tests of its optimizers."""

    def parabola(x):
        return jnp.sum((x - jnp.array([1.0, -1.0, 1.0], x.dtype)) ** 2)

    def rosenbrock(x):
        return (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2

    loss, start, end, lr = {
        "parabola": (parabola, [-1.0, 10.0, 1.0], [1.0, -1.0, 1.0], 0.1),
        "rosenbrock": (rosenbrock, [0.0, 0.0], [1.0, 1.0], 1e-3),
    }[target]
    with jax.enable_x64(dtype == "float64"):
        optimizer, params = make(lr, weight_decay=0.0), jnp.array(start, dtype)
        state = optax.tree.map_params(optimizer, lambda v: v, optimizer.init(params))

        @jax.jit
        def train(params, state):
            def step(_, both):
                params, state = both
                updates, state = optimizer.update(jax.grad(loss)(params), state, params)
                return optax.apply_updates(params, updates), state

            return jax.lax.fori_loop(0, 20_000, step, (params, state))[0]

        np.testing.assert_allclose(train(params, state), end, rtol=3e-2, atol=3e-2)


def test_vmap_trains_each_net_with_its_own_mean():
    optimizer = adai(0.1, weight_decay=0.1)
    nets = [tree(seed) for seed in range(3)]
    grads = [tree(seed + 10) for seed in range(3)]
    together = jax.tree.map(lambda *leaves: jnp.stack(leaves), *nets)
    updates, _ = jax.jit(jax.vmap(optimizer.update))(
        jax.tree.map(lambda *leaves: jnp.stack(leaves), *grads), jax.vmap(optimizer.init)(together), together
    )
    for i, (params, g) in enumerate(zip(nets, grads, strict=True)):
        alone, _ = jax.jit(optimizer.update)(g, optimizer.init(params), params)
        assert_close({k: u[i] for k, u in updates.items()}, alone, 1e-6)


def test_state_from_abstract_parameters():
    optimizer = adai(0.1)
    assert jax.tree.map(jax.typeof, jax.eval_shape(optimizer.init, tree())) == jax.tree.map(
        jax.typeof, optimizer.init(jax.eval_shape(tree))
    )


@pytest.mark.parametrize(
    "wrap",
    [
        lambda tx: optax.chain(optax.clip_by_global_norm(1.0), tx),
        lambda tx: optax.MultiSteps(tx, 1).gradient_transformation(),
        lambda tx: optax.apply_if_finite(tx, 3),
    ],
    ids=["clip", "MultiSteps", "apply_if_finite"],
)
def test_wrappers_of_optax(wrap):
    small = [optax.tree.scale(1e-3, g) for g in gradients(5)]
    assert_close(run(wrap(adai(0.1)), tree(), small)[0], run(adai(0.1), tree(), small)[0], 1e-6)


# Four devices

SPLIT = {"a": (8, 3), "b": (4,), "c": (4, 0), "e": (12, 2)}


def mesh(axis_type):
    assert jax.device_count() == 4
    return jax.make_mesh((4,), ("x",), axis_types=(axis_type,))


@pytest.fixture
def unsharded():
    return run(adai(0.1, weight_decay=0.1, min_inertia=0.3), tree(shapes=SPLIT), gradients(10, shapes=SPLIT))[0]


@pytest.mark.parametrize("axis_type", [jax.sharding.AxisType.Auto, jax.sharding.AxisType.Explicit])
def test_jit_with_sharded_arrays(axis_type, unsharded):
    """No axis name: the compiler sums over the devices by itself. One leaf is on every device in full."""
    devices = mesh(axis_type)
    where = {name: NamedSharding(devices, P() if name == "b" else P("x")) for name in SPLIT}
    optimizer = adai(0.1, weight_decay=0.1, min_inertia=0.3)
    grads = [jax.device_put(g, where) for g in gradients(10, shapes=SPLIT)]
    params, state = run(optimizer, jax.device_put(tree(shapes=SPLIT), where), grads)
    assert_close(params, unsharded, 1e-6)
    assert state_of(state).exp_avg_sq["a"].sharding.is_equivalent_to(where["a"], 2)


def test_shard_map_with_an_axis_name(unsharded):
    def trained(axis_name):
        optimizer = adai(0.1, weight_decay=0.1, min_inertia=0.3, axis_name=axis_name)
        params = tree(shapes=SPLIT)
        state = optimizer.init(params)
        split = jax.tree.map(lambda x: P("x") if x.ndim else P(), (params, state))
        # Without a name the means differ between the devices, which is what check_vma would find.
        step = jax.shard_map(
            stepper(optimizer), mesh=mesh(jax.sharding.AxisType.Auto), in_specs=(*split, P("x")), out_specs=split,
            check_vma=axis_name is not None,
        )  # fmt: skip
        for g in gradients(10, shapes=SPLIT):
            params, state = jax.jit(step)(params, state, g)
        return params

    assert_close(trained("x"), unsharded, 1e-6)
    assert np.abs(flat(trained(None)) - flat(unsharded)).max() > 1e-3


def test_pmap_with_an_axis_name(unsharded):
    optimizer = adai(0.1, weight_decay=0.1, min_inertia=0.3, axis_name="x")

    def rows(whole):
        return jax.tree.map(lambda x: x.reshape(4, x.shape[0] // 4, *x.shape[1:]), whole)

    params = rows(tree(shapes=SPLIT))
    state = jax.pmap(optimizer.init)(params)
    step = jax.pmap(stepper(optimizer), axis_name="x")
    for g in gradients(10, shapes=SPLIT):
        params, state = step(params, state, rows(g))
    assert_close(params, unsharded, 1e-6)


# The package


def test_it_does_without_torch():
    code = "import adai.jax, sys; assert 'torch' not in sys.modules, 'adai.jax imports torch'"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("module", ["__init__", "mean", "optimizers"])
def test_the_examples_of_docstrings_run(module):
    params = {"kernel": jnp.ones((3, 2)), "scale": jnp.ones(3)}
    for example in filter(None, snippets.blocks(snippets.ROOT / "adai" / "jax" / f"{module}.py")):
        names = {
            "optax": optax,
            "params": params,
            "grads": params,
            **{name: getattr(ours, name) for name in ours.__all__},
        }
        exec(example, names)
        names["optimizer"].init(params)


@pytest.mark.parametrize("number", range(len(snippets.blocks(snippets.ROOT / "docs" / "jax.md"))))
def test_the_page_runs(number):
    exec(snippets.blocks(snippets.ROOT / "docs" / "jax.md")[number], {})
