"""What `torch.optim` users rely on."""

import copy
import inspect
import pickle
import re
from contextlib import nullcontext

import pytest
import torch
from torch._dynamo.testing import CompileCounter
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import gradcheck

from adai import Adai, AdaiW

CLASSES = [Adai, AdaiW]


def run(optimizer, params, tensors, steps=3):
    for t in range(steps):
        for p, fresh in zip(params, tensors([p.shape for p in params], dtype=params[0].dtype, seed=t), strict=True):
            p.grad = fresh.grad
        optimizer.step()
    return [p.detach().clone() for p in params]


# --- options ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": -1.0}, "Invalid learning rate: -1.0"),
        ({"lr": float("nan")}, "Invalid learning rate: nan"),
        ({"lr": float("inf")}, "Invalid learning rate: inf"),
        ({"lr": torch.tensor(-2.0)}, "Invalid learning rate: -2.0"),
        ({"lr": torch.ones(2)}, "Tensor lr must be 1-element, but it has 2 elements"),
        (
            {"lr": torch.tensor(0.1), "foreach": True},
            "lr as a Tensor is not supported for capturable=False and foreach=True; leave foreach at None",
        ),
        ({"betas": (0.0, 0.99)}, "Invalid beta parameter at index 0: 0.0"),
        ({"betas": (1.1, 0.99)}, "Invalid beta parameter at index 0: 1.1"),
        ({"betas": (0.1, 1.0)}, "Invalid beta parameter at index 1: 1.0"),
        ({"betas": (0.1, -0.1)}, "Invalid beta parameter at index 1: -0.1"),
        ({"eps": -1e-3}, "Invalid eps value: -0.001"),
        ({"eps": 1.0}, "Invalid eps value: 1.0"),
        ({"weight_decay": -1.0}, "Invalid weight_decay value: -1.0"),
        ({"weight_decay": float("nan")}, "Invalid weight_decay value: nan"),
        ({"dampening": 1.5}, "Invalid dampening value: 1.5"),
        ({"dampening": -0.5}, "Invalid dampening value: -0.5"),
        ({"min_inertia": -0.1}, "Invalid min_inertia value: -0.1"),
        ({"min_inertia": float("nan")}, "Invalid min_inertia value: nan"),
        (
            {"min_inertia": 0.95, "eps": 0.1},
            "Invalid min_inertia value: 0.95; it must be in [0, 1 - eps], with eps = 0.1",
        ),
        ({"warmup_steps": -1}, "Invalid warmup_steps value: -1"),
        ({"warmup_steps": 2.5}, "Invalid warmup_steps value: 2.5"),
        ({"max_grad_norm": -1.0}, "Invalid max_grad_norm value: -1.0"),
        ({"max_grad_norm": float("nan")}, "Invalid max_grad_norm value: nan"),
    ],
)
@pytest.mark.parametrize("cls", CLASSES)
def test_bad_options_name_their_value(cls, options, message):
    p = torch.zeros(1, requires_grad=True)
    with pytest.raises(ValueError, match=re.escape(message)):
        cls([p], **options)
    with pytest.raises(ValueError, match="Invalid|Tensor lr|lr as a Tensor"):
        cls([{"params": [p], **options}])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"betas": 0.9}, TypeError, "Invalid betas: 0.9; they must be two numbers, such as (0.1, 0.99)"),
        ({"betas": (0.1, 0.9, 0.99)}, ValueError, "Invalid betas: (0.1, 0.9, 0.99); they must be two numbers"),
        ({"betas": ("a", 0.99)}, TypeError, "Invalid betas: ('a', 0.99); 'a' is no number"),
        ({"weight_decay": "x"}, TypeError, "Invalid weight_decay: 'x'; 'x' is no number"),
        ({"lr": None}, TypeError, "Invalid lr: None; None is no number"),
        ({"max_grad_norm": "1"}, TypeError, "Invalid max_grad_norm: '1'; '1' is no number"),
    ],
)
def test_options_that_are_no_numbers(options, error, message):
    p = torch.zeros(1, requires_grad=True)
    for make in (lambda: Adai([p], **options), lambda: AdaiW([{"params": [p], **options}])):
        with pytest.raises(error, match=re.escape(message)):
            make()


@pytest.mark.parametrize("cls", CLASSES)
def test_a_momentum_in_the_place_of_beta0_is_a_warning(cls, recwarn):
    p = torch.zeros(1, requires_grad=True)
    cls([p])
    assert not recwarn
    for make in (lambda: cls([p], betas=(0.9, 0.999)), lambda: cls([{"params": [p], "betas": (0.9, 0.999)}])):
        with pytest.warns(UserWarning, match=r"betas\[0\] is not a momentum here.* here they are \(0.9, 0.999\)"):
            make()


def test_a_process_group_that_is_none():
    p = torch.zeros(1, requires_grad=True)
    with pytest.raises(TypeError, match=r"must be a torch.distributed.ProcessGroup, but got object"):
        Adai([p], process_group=object())
    with pytest.raises(ValueError, match="this process is not a member of it; give a group that it is in, or None"):
        Adai([p], process_group=torch.distributed.GroupMember.NON_GROUP_MEMBER)
    to_do = r"give it to the constructor.* needs optimizer_class=functools.partial\(Adai, process_group=...\)"
    with pytest.raises(ValueError, match=f"process_group is an option of the whole optimizer, .*{to_do}"):
        Adai([{"params": [p], "process_group": None}])


@pytest.mark.parametrize("other", ["foreach", "differentiable"])
def test_fused_excludes(other):
    with pytest.raises(RuntimeError, match=f"`fused` and `{other}` cannot be `True` together; leave one of them out"):
        Adai([torch.zeros(1, requires_grad=True)], fused=True, **{other: True})


def test_foreach_does_not_differentiate():
    with pytest.raises(RuntimeError, match="`foreach` does not support `differentiable`; leave foreach at None"):
        Adai([torch.zeros(1, requires_grad=True)], foreach=True, differentiable=True)


@pytest.mark.parametrize("cls", CLASSES)
def test_every_option_is_in_defaults_and_survives_copies(cls):
    p = torch.zeros(1, requires_grad=True)
    whole = {
        "state_dtype": torch.bfloat16,
        "rounding_seed": 3,
        "stochastic_rounding": True,
        "mean": "previous",
    }  # of the optimizer, not of a group
    names = set(inspect.signature(Adai).parameters) - {"params", "process_group", "coupling", *whole}
    given = {"lr": 0.3, "betas": (0.2, 0.9), "eps": 0.01, "weight_decay": 0.1, "dampening": 0.8, "foreach": False}
    optimizer = cls([p], **given, **whole, maximize=True)
    assert set(optimizer.defaults) == names
    p.grad = torch.ones(1)
    optimizer.step()
    for copied in (copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))):
        assert copied.defaults == optimizer.defaults
        assert {name: getattr(copied, name) for name in whole} == whole
        group = copied.param_groups[0]
        assert {k: group[k] for k in names} == optimizer.defaults
        q = group["params"][0]
        q.grad = torch.ones(1)
        copied.step()
        assert copied.state[q]["step"] == 2


@pytest.mark.parametrize("cls", CLASSES)
def test_setstate_fills_in_missing_options(cls):
    p = torch.zeros(1, requires_grad=True)
    optimizer = cls([p], lr=0.5)
    saved = optimizer.state_dict()
    for name in (
        "min_inertia",
        "warmup_steps",
        "dampening",
        "foreach",
        "maximize",
        "capturable",
        "differentiable",
        "fused",
        "max_grad_norm",
    ):
        del saved["param_groups"][0][name]
    optimizer.load_state_dict(saved)
    assert {k: v for k, v in optimizer.param_groups[0].items() if k != "params"} == optimizer.defaults


def test_what_was_saved_without_floor_and_warm_up_goes_on_without():
    p = torch.zeros(1, requires_grad=True)
    saved = Adai([p]).state_dict()
    for name in ("min_inertia", "warmup_steps"):
        del saved["param_groups"][0][name]
    optimizer = Adai([p], min_inertia=0.9, warmup_steps=100)
    optimizer.load_state_dict(saved)
    group = optimizer.param_groups[0]
    assert (group["min_inertia"], group["warmup_steps"]) == (0, 0)


def test_defaults():
    p = torch.zeros(1, requires_grad=True)
    adai, adaiw = Adai([p]).defaults, AdaiW([p]).defaults
    assert (adai["lr"], adai["betas"], adai["eps"], adai["weight_decay"]) == (0.1, (0.1, 0.99), 1e-3, 0.0)
    assert (adaiw["lr"], adaiw["betas"], adaiw["eps"], adaiw["weight_decay"]) == (0.1, (0.1, 0.99), 1e-3, 5e-3)
    assert not adai["decoupled_weight_decay"]
    assert adaiw["decoupled_weight_decay"]


def test_named_parameters():
    model = torch.nn.Linear(2, 2)
    assert Adai(model.named_parameters()).param_groups[0]["param_names"] == ["weight", "bias"]


# --- steps -----------------------------------------------------------------------------------------------------------


def test_maximize_ascends_also_per_group(engine, tensors):
    (a, b), (c, d) = tensors(((3,), (4,))), tensors(((3,), (4,)))
    Adai([{"params": [a], "maximize": True}, {"params": [b]}], weight_decay=0.1, **engine).step()
    c.grad = -c.grad
    Adai([c, d], weight_decay=0.1, **engine).step()
    torch.testing.assert_close([a, b], [c, d], rtol=1e-14, atol=0)
    p = torch.zeros(1, requires_grad=True)
    p.grad = torch.ones(1)
    Adai([p], maximize=True, **engine).step()
    assert p.item() > 0


def test_gradients_are_never_written_into(engine, tensors):
    for options in ({"weight_decay": 0.1}, {"maximize": True}, {"weight_decay": 0.1, "maximize": True}):
        params = tensors()
        kept = [p.grad.clone() for p in params]
        optimizer = Adai(params, **options, **engine)
        optimizer.step()
        optimizer.step()
        for p, g in zip(params, kept, strict=True):
            assert torch.equal(p.grad, g)


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
def test_complex_parameters_are_pairs_of_real_ones(cls, engine, dtype):
    torch.manual_seed(0)
    z = torch.randn(3, 2, dtype=dtype, requires_grad=True)
    x = torch.randn(4, dtype=z.real.dtype, requires_grad=True)
    pairs = torch.view_as_real(z.detach()).clone().requires_grad_()
    y = x.detach().clone().requires_grad_()
    a, b = cls([z, x], weight_decay=0.1, **engine), cls([pairs, y], weight_decay=0.1, **engine)
    for _ in range(4):
        z.grad, x.grad = torch.randn_like(z), torch.randn_like(x)
        pairs.grad, y.grad = torch.view_as_real(z.grad).clone(), x.grad.clone()
        a.step()
        b.step()
        torch.testing.assert_close(torch.view_as_real(z), pairs)
        torch.testing.assert_close(x, y)
    assert a.state[z]["exp_avg"].dtype == dtype


OLD_SCHEDULERS = not hasattr(torch.optim.lr_scheduler, "_update_param_group_val")


@pytest.mark.parametrize(
    "shape",
    [
        (),
        pytest.param(
            (1,), marks=pytest.mark.skipif(OLD_SCHEDULERS, reason="this torch's schedulers take 0-dim lr alone")
        ),
    ],
)
def test_tensor_lr_is_kept_and_obeyed(tensors, shape):
    lr = torch.full(shape, 0.2, dtype=torch.float64)
    a, b = tensors(), tensors()
    with_tensor, with_float = AdaiW(a, lr=lr), AdaiW(b, lr=0.2)
    scheduler = torch.optim.lr_scheduler.StepLR(with_tensor, 1, gamma=0.5)
    run(with_tensor, a, tensors, steps=1)
    run(with_float, b, tensors, steps=1)
    torch.testing.assert_close(a, b)
    scheduler.step()
    assert with_tensor.param_groups[0]["lr"] is lr
    assert lr.item() == 0.1
    with_float.param_groups[0]["lr"] = 0.1
    run(with_tensor, a, tensors, steps=1)
    run(with_float, b, tensors, steps=1)
    torch.testing.assert_close(a, b)


@pytest.mark.parametrize("name", ["OneCycleLR", "CyclicLR"])
def test_a_scheduler_that_would_cycle_beta0_is_refused(tensors, name):
    """By default they do: betas[0] is Adam's momentum."""
    given = {"max_lr": 1.0} | ({"total_steps": 5} if name == "OneCycleLR" else {"base_lr": 0.1})
    scheduler = getattr(torch.optim.lr_scheduler, name)
    params = tensors()
    optimizer = AdaiW(params)
    optimizer.add_param_group({"params": torch.zeros(2, requires_grad=True), "betas": (0.3, 0.9)})
    cycling = scheduler(optimizer, **given)
    for _ in range(2):
        with pytest.raises(ValueError, match="cycles betas\\[0\\] of AdaiW.*cycle_momentum=False"):
            optimizer.step()
        assert [group["betas"] for group in optimizer.param_groups] == [(0.1, 0.99), (0.3, 0.9)]
        cycling.step()  # all the same: it is refused again
    with pytest.raises(ValueError, match="cycles"):
        optimizer.step()
    cycle = scheduler(optimizer, **given, cycle_momentum=False)  # which is what the message says to do
    for _ in range(3):
        optimizer.step()
        cycle.step()
    assert [group["betas"] for group in optimizer.param_groups] == [(0.1, 0.99), (0.3, 0.9)]


def test_sparse_gradients_are_refused(engine):
    p = torch.zeros(4, 2, requires_grad=True)
    optimizer = Adai([p], **engine)
    p.grad = torch.sparse_coo_tensor([[1]], torch.ones(1, 2), (4, 2))
    with pytest.raises(RuntimeError, match="Adai does not support sparse gradients"):
        optimizer.step()


def test_closure_runs_with_gradients_and_its_loss_is_returned(engine):
    p = torch.tensor([3.0], requires_grad=True)
    optimizer = Adai([p], lr=0.25, **engine)

    def closure():
        optimizer.zero_grad()
        assert torch.is_grad_enabled()
        loss = (p**2).sum()
        loss.backward()
        return loss

    with torch.no_grad():
        assert optimizer.step(closure).item() == 9
        assert not torch.is_grad_enabled()
    assert p.item() == 1.5
    assert Adai([p]).step() is None


def test_hooks_run(tensors):
    optimizer = Adai(tensors())
    calls = []
    optimizer.register_step_pre_hook(lambda *_: calls.append("before"))
    optimizer.register_step_post_hook(lambda *_: calls.append("after"))
    optimizer.step()
    assert calls == ["before", "after"]


def test_step_is_a_0_dim_tensor(tensors):
    params = tensors()
    optimizer = Adai(params)
    optimizer.step()
    for p in params:
        step = optimizer.state[p]["step"]
        assert isinstance(step, torch.Tensor)
        assert step.shape == ()
        assert step == 1


def test_capturable_wants_an_accelerator():
    p = torch.zeros(1, requires_grad=True)
    p.grad = torch.ones(1)
    with pytest.raises(RuntimeError, match="capturable=True needs parameters on an accelerator, but one is on cpu"):
        Adai([p], capturable=True).step()


# --- differentiable --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [{}, {"weight_decay": 0.1}, {"weight_decay": 0.1, "decoupled_weight_decay": True}, {"dampening": 0.7, "eps": 0.05},
     {"maximize": True}, {"min_inertia": 0.3, "warmup_steps": 8}],
)  # fmt: skip
def test_gradcheck_through_step(options):
    """With respect to parameter, gradient, learning rate and the whole state."""

    def step(p, g, lr, m, v, c):
        q = p.clone()
        q.grad = g
        optimizer = Adai([q], lr=lr, differentiable=True, **options)
        state = {"step": torch.tensor(3.0), "exp_avg": m.clone(), "exp_avg_sq": v.clone(), "bias_correction": c.clone()}
        optimizer.state[q].update(state)
        optimizer.step()
        return q, *(optimizer.state[q][key] for key in ("exp_avg", "exp_avg_sq", "bias_correction"))

    rng = torch.Generator().manual_seed(0)
    p, g, m = (torch.randn(6, generator=rng, dtype=torch.float64, requires_grad=True) for _ in range(3))
    v, c = (torch.rand(6, generator=rng, dtype=torch.float64).add(0.1).requires_grad_() for _ in range(2))
    lr = torch.tensor(0.1, dtype=torch.float64, requires_grad=True)
    assert gradcheck(step, (p, g, lr, m, v, c))


def test_unrolled_steps_are_differentiable(tensors):
    lr = torch.tensor(0.1, dtype=torch.float64, requires_grad=True)
    start, target = tensors(((4,),))[0].detach(), torch.arange(4.0, dtype=torch.float64)

    def loss_after(lr):
        q = start.clone().requires_grad_()
        (q,) = [q.clone()]
        optimizer = Adai([q], lr=lr, differentiable=True)
        for _ in range(3):
            q.grad = 2 * (q.clone() - target)
            optimizer.step()
        return ((q - target) ** 2).sum()

    (slope,) = torch.autograd.grad(loss_after(lr), lr)
    h = 1e-6
    numeric = (loss_after(lr.detach() + h) - loss_after(lr.detach() - h)) / (2 * h)
    torch.testing.assert_close(slope, numeric.detach(), rtol=1e-6, atol=0)


# --- torch.compile ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("options", [{}, {"warmup_steps": 3, "min_inertia": 0.5}], ids=["plain", "warm-up"])
def test_compiled_step_equals_eager_and_compiles_once(cls, engine, tensors, options):
    """The compiled step takes the path for capture: every number a tensor, no value read by the host."""
    torch._dynamo.reset()
    counter = CompileCounter()
    shapes = ((3, 4), (5,), ())
    a, b = tensors(shapes), tensors(shapes)
    compiled, eager = (cls(x, weight_decay=0.01, **options, **engine) for x in (a, b))
    step = torch.compile(compiled.step, backend=counter)
    frames = []
    for t in range(5):
        for p, q, fresh in zip(a, b, tensors(shapes, seed=t), strict=True):
            p.grad, q.grad = fresh.grad.clone(), fresh.grad
        step()
        eager.step()
        frames.append(counter.frame_count)
    torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)
    assert frames == [1] * 5


def test_compiled_step_survives_zero_gradients(engine, tensors):
    torch._dynamo.reset()
    a, b = tensors(), tensors()
    compiled, eager = Adai(a, **engine), Adai(b, **engine)
    step = torch.compile(compiled.step, backend="eager")
    for p in a:
        p.grad = torch.zeros_like(p)
    step()
    for p, q in zip(a, b, strict=True):
        assert torch.equal(p, q)
        assert compiled.state[p]["step"] == 0
        assert not compiled.state[p]["bias_correction"].any()
        p.grad = q.grad.clone()
    step()
    eager.step()
    torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("options", [{}, {"weight_decay": 0.1, "max_grad_norm": 1.0}, {"foreach": False}], ids=str)
@pytest.mark.parametrize("kind", ["fake", "meta"])
def test_tensors_without_numbers_step(kind, options):
    """For estimates of memory; the state has the size that it has on real ones."""
    states = []
    for mode, device in ((FakeTensorMode() if kind == "fake" else nullcontext(), kind), (nullcontext(), "cpu")):
        with mode:
            net = torch.nn.Linear(4, 3, device="meta" if device == "meta" else "cpu")
            optimizer = Adai(net.parameters(), **options)
            for _ in range(3):
                net(torch.ones(2, 4, device=net.weight.device)).sum().backward()
                optimizer.step()
            states.append([(k, t.shape, t.dtype) for s in optimizer.state.values() for k, t in s.items()])
    assert states[0] == states[1]
