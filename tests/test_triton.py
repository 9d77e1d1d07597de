"""The Triton kernels, on the CPU by Triton's interpreter: equal to the for-loop, whatever the options and tensors."""

import copy
import math
import os
import subprocess
import sys
import weakref
from types import SimpleNamespace

import pytest
import torch

from adai import Adai, AdaiW
from adai.optim import adai as optimizers
from adai.optim import engine as engines
from adai.optim import foreach
from adai.optim import triton as gpu
from adai.optim.triton import table
from tests.conftest import ENGINES
from tests.test_engines import assert_close, train

pytestmark = pytest.mark.slow

if torch.cuda.is_available():
    pytest.skip("the interpreter is for machines without a GPU; see test_cuda.py", allow_module_level=True)
interpreter = pytest.importorskip("triton.runtime.interpreter", reason="Triton is not installed")
kernels = pytest.importorskip("adai.optim.triton.kernels", reason="Triton is not installed")

SHAPES = ((3, 4), (70,))
ODD_SHAPES = ((), (0,), (2, 3, 2, 5), (0, 3))
GPU = {"fused": True}
CAPTURABLE = {"fused": True, "capturable": True}


@pytest.fixture(autouse=True)
def interpreted(monkeypatch):
    """``fused=True`` selects the Triton engine, and ``capturable`` is allowed, on the CPU."""
    own = optimizers.choose

    def choose(group, batch, states, last=None):
        if not group["fused"] or torch.compiler.is_compiling():
            return own(group, batch, states, last)
        reason = gpu.refusal(batch, group)
        if reason is not None:
            raise RuntimeError(reason)
        return gpu.Fused(batch, states, group)

    monkeypatch.setattr(optimizers, "choose", choose)
    monkeypatch.setattr(Adai, "_check_capturable", lambda _: None)

    # NOTE the interpreter (3.7) patches the whole language again at each call from kernel to function, which takes
    # most of its time, and the launch has done so.
    call = interpreter.InterpretedFunction.__call__

    def call_patched(self, *args, **kwargs):
        if self.fn.__module__ == kernels.__name__:
            return self.rewrite()(*args, **kwargs)
        return call(self, *args, **kwargs)

    monkeypatch.setattr(interpreter.InterpretedFunction, "__call__", call_patched)


@pytest.fixture
def launches(monkeypatch):
    """The names of the kernels that are launched."""
    names = []

    class Counting:
        def __getattr__(self, name):
            found = getattr(kernels, name)
            if name not in ("read", "collect", "accumulate", "step"):
                return found

            class Kernel:
                def __getitem__(self, grid):
                    names.append(name)
                    return found[grid]

            return Kernel()

    monkeypatch.setattr(gpu, "_kernels", Counting)
    return names


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"weight_decay": 0.1, "maximize": True, "betas": (1.0, 0.0)},
        {"weight_decay": 0.1, "decoupled_weight_decay": True, "eps": 0.0},
        {"dampening": 0.7, "lr": torch.tensor(0.03, dtype=torch.float64)},
        {"max_grad_norm": 1.0, "eps": 0.6},
        {"max_grad_norm": 1.0, "weight_decay": 0.1, "maximize": True, "dampening": 0.0},
    ],
    ids=str,
)
@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float64, 1e-12), (torch.float32, 2e-6)])
def test_20_steps_equal_the_loop(tensors, options, dtype, rtol):
    """eps 0.6 drops the bias correction of float32 tensors on the way."""
    params, expected = tensors(SHAPES, dtype), tensors(SHAPES, dtype)
    train(params, 20, dtype, **options, **GPU)
    train(expected, 20, dtype, **options, **ENGINES["loop"])
    assert_close(params, expected, rtol)


@pytest.mark.parametrize("options", [{}, {"max_grad_norm": 1.0, "weight_decay": 0.1}], ids=str)
def test_tensors_of_several_chunks_equal_the_loop(tensors, options, monkeypatch):
    """Lengths around the multiples of block and chunk."""
    monkeypatch.setattr(table, "CHUNK", 32)
    monkeypatch.setattr(gpu, "CHUNK", 32)
    monkeypatch.setattr(gpu, "BLOCK", 16)
    shapes = ((31,), (32,), (33,), (80,), (0,), (1,))
    params, expected = tensors(shapes), tensors(shapes)
    optimizer, reference = train(params, 2, **options, **GPU), train(expected, 2, **options, **ENGINES["loop"])
    for p in params:
        optimizer.state[p]["exp_avg_sq_sum"].zero_()  # of no step: Σ v has to be taken anew, over the chunks too
    train(params, 2, seed=1, optimizer=optimizer)
    train(expected, 2, seed=1, optimizer=reference)
    assert_close(params, expected, 1e-13)
    for p in params:
        state = optimizer.state[p]
        torch.testing.assert_close(state["exp_avg_sq_sum"][0], state["exp_avg_sq"].sum(), rtol=1e-13, atol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_equals_the_loop(tensors, dtype):
    params, expected = tensors(SHAPES, dtype), tensors(SHAPES, dtype)
    optimizer = train(params, 1, dtype, **GPU)
    reference = train(expected, 1, dtype, **ENGINES["loop"])
    assert_close(params, expected, 2 * torch.finfo(dtype).eps)
    for p, q in zip(params, expected, strict=True):
        assert optimizer.state[p]["exp_avg"].dtype == torch.float32
        torch.testing.assert_close(optimizer.state[p]["exp_avg_sq"], reference.state[q]["exp_avg_sq"])


@pytest.mark.parametrize("options", [GPU, CAPTURABLE], ids=str)
def test_tensors_without_dimensions_or_elements(tensors, options):
    params, expected = tensors(ODD_SHAPES), tensors(ODD_SHAPES)
    optimizer = train(params, 3, **options)
    train(expected, 3, **ENGINES["loop"])
    assert_close(params, expected, 1e-13)
    assert all(optimizer.state[p]["step"] == 3 for p in params)


@pytest.mark.parametrize("layout", ["channels_last", "permuted", "odd gradient"])
def test_dense_layouts(layout):
    torch.manual_seed(0)
    base, grad = torch.randn(4, 3, 5, 2).double(), torch.randn(4, 3, 5, 2).double()
    q = base.clone().requires_grad_()
    if layout == "channels_last":
        p, g = base.to(memory_format=torch.channels_last), grad.to(memory_format=torch.channels_last)
    elif layout == "permuted":
        p = base.permute(2, 0, 3, 1).contiguous().permute(1, 3, 0, 2)
        g = torch.empty_like(p).copy_(grad)
    else:
        p, g = base.clone(), grad.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0)
    p = p.requires_grad_()
    p.grad, q.grad = g, grad
    a, b = Adai([p], weight_decay=0.1, **GPU), Adai([q], weight_decay=0.1, **ENGINES["loop"])
    for _ in range(2):
        a.step()
        b.step()
    assert_close([p], [q], 1e-13)


def test_gradients_of_another_layout_from_one_step_to_the_next():
    p, q = (torch.ones(3, 4, dtype=torch.float64, requires_grad=True) for _ in range(2))
    a, b = Adai([p], **GPU), Adai([q], **ENGINES["loop"])
    memory = torch.arange(12.0, dtype=torch.float64)
    for g in (memory.view(3, 4), memory.view(4, 3).t()):  # at the same address
        p.grad = q.grad = g
        a.step()
        b.step()
    assert_close([p], [q], 1e-13)


def test_a_parameter_without_dense_memory_is_refused():
    p = torch.zeros(4, 6, requires_grad=True)[:, ::2].detach().requires_grad_()
    p.grad = torch.ones(4, 3)
    with pytest.raises(RuntimeError, match="a parameter of shape \\(4, 3\\) has strides"):
        Adai([p], **GPU).step()
    assert torch.equal(p, torch.zeros(4, 3))


def test_a_parameter_of_another_class_is_refused():
    class Wrapped(torch.Tensor):
        def data_ptr(self):
            raise RuntimeError("no storage")

    p = torch.zeros(3).as_subclass(Wrapped).requires_grad_()
    p.grad = torch.ones(3)
    with pytest.raises(RuntimeError, match="a parameter or gradient is a Wrapped on cpu"):
        Adai([p], **GPU).step()


def test_complex_parameters():
    torch.manual_seed(0)
    z = torch.randn(3, 2, dtype=torch.complex128, requires_grad=True)
    y = z.detach().clone().requires_grad_()
    a, b = Adai([z], **GPU), Adai([y], **ENGINES["loop"])
    for _ in range(3):
        z.grad = torch.randn_like(z)
        y.grad = z.grad.clone()
        a.step()
        b.step()
    torch.testing.assert_close(z, y, rtol=1e-13, atol=0)


# --- launches and what is kept between steps -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, 3),
        ({"weight_decay": 0.1}, 3),
        ({"max_grad_norm": 1.0}, 4),
        ({"max_grad_norm": 1.0, "weight_decay": 0.1}, 5),
        ({"capturable": True}, 3),
    ],
    ids=str,
)
def test_launches_do_not_depend_on_the_number_of_tensors(tensors, launches, options, expected):
    for shapes in (((3,),), ((3,), (4,), (), (0,), (5,))):
        launches.clear()
        train(tensors(shapes), 1, **options, **GPU)
        assert len(launches) == expected


def test_each_combination_of_dtypes_has_its_launches(launches):
    params = [torch.ones(n, dtype=dtype) for n, dtype in ((2, torch.float32), (3, torch.float64), (4, torch.float32))]
    twins = [p.clone() for p in params]
    for p in (*params, *twins):
        p.grad = torch.arange(1.0, 1 + len(p)).to(p)
    Adai(params, **GPU).step()
    assert len(launches) == 6
    Adai(twins, **ENGINES["loop"]).step()
    assert_close(params, twins, 1e-6)


def test_the_plan_is_kept_while_sizes_and_layouts_stay(tensors, monkeypatch):
    made = []
    part = table._part
    monkeypatch.setattr(table, "_part", lambda *args: made.append(1) or part(*args))
    params = tensors()
    optimizer = train(params, 3, **GPU)  # every step has new gradients
    assert len(made) == 1
    params[0].data = params[0].data.clone()
    train(params, 2, optimizer=optimizer)
    assert len(made) == 2
    params[1].grad = None
    optimizer.step()
    assert len(made) == 3


def test_state_that_was_moved_in_place_is_found(tensors):
    a, b = tensors(), tensors()
    first, second = train(a, 2, **GPU), train(b, 2, **GPU)
    for p in a:
        for key in ("exp_avg", "exp_avg_sq", "bias_correction"):
            first.state[p][key].data = first.state[p][key].data.clone()
    train(a, 2, seed=1, optimizer=first)
    train(b, 2, seed=1, optimizer=second)
    assert_close(a, b, 0)


def test_the_default_device_does_not_matter(tensors):
    params, expected = tensors(), tensors()
    optimizer, reference = Adai(params, **GPU), Adai(expected, **GPU)
    with torch.device("meta"):
        optimizer.step()
        optimizer.step()
    reference.step()
    reference.step()
    assert_close(params, expected, 0)


def test_results_are_the_same_at_every_run(tensors):
    a, b = tensors(SHAPES, torch.float32), tensors(SHAPES, torch.float32)
    for params in (a, b):
        train(params, 2, torch.float32, weight_decay=0.1, max_grad_norm=1.0, **GPU)
    assert_close(a, b, 0)


def test_gradients_are_not_kept_alive():
    p = torch.zeros(3, 4, requires_grad=True)
    optimizer = Adai([p], **GPU)
    p.grad = torch.ones(4, 3).t()
    gradient = weakref.ref(p.grad)
    optimizer.step()
    optimizer.zero_grad()
    assert gradient() is None


def test_memory_that_a_captured_copy_reads_is_pinned_before_and_held(monkeypatch):
    capturing = []
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: bool(capturing))
    monkeypatch.setattr(table, "_pinned", torch.empty)
    reserve, held = [], []

    def memory(reserve):
        return table._host_memory(5, torch.device("cuda"), reserve, held)

    for _ in range(9):
        memory(reserve)
    assert len(reserve) == 4
    assert held == []
    laid_in = reserve[-1]
    capturing.append(True)
    assert memory(reserve) is laid_in
    assert held[0] is laid_in
    assert len(reserve) == 3
    assert memory([]) is held[1]


# --- everything on the device ----------------------------------------------------------------------------------------


def test_capturable_steps_ask_for_no_number(tensors, monkeypatch):
    """The kernels count the steps and read the learning rate; nothing on the host depends on a value."""
    monkeypatch.setattr(table, "on_device", lambda number: isinstance(number, torch.Tensor))
    params, expected, lr = tensors(), tensors(), torch.tensor(0.25)
    optimizer, reference = train(params, 1, lr=lr, **CAPTURABLE), train(expected, 1, lr=0.25, **ENGINES["loop"])
    for p in (*params, *expected):
        p.grad = torch.ones_like(p)
    lr.fill_(0.125)
    reference.param_groups[0]["lr"] = 0.125
    with monkeypatch.context() as patch:
        for name in ("item", "tolist", "__bool__", "__float__"):
            patch.setattr(torch.Tensor, name, lambda *_: pytest.fail("the host asks for a number"))
        optimizer.step()
    reference.step()
    assert_close(params, expected, 1e-14)
    assert all(optimizer.state[p]["step"] == 2 for p in params)


@pytest.mark.parametrize("cls", [Adai, AdaiW])
@pytest.mark.parametrize("options", [GPU, CAPTURABLE], ids=str)
def test_zero_gradients_change_nothing_then_or_later(tensors, cls, options):
    waited, straight = tensors(), tensors()
    a, b = cls(waited, **options), cls(straight, **options)
    start = [p.detach().clone() for p in waited]
    for p in waited:
        p.grad = torch.zeros_like(p)
    a.step()
    a.step()
    assert_close(waited, start, 0)
    for p in waited:
        assert a.state[p]["step"] == 0
        assert not a.state[p]["exp_avg"].any()
        assert not a.state[p]["bias_correction"].any()
    train(waited, 2, optimizer=a)
    train(straight, 2, optimizer=b)
    assert_close(waited, straight, 0)


@pytest.mark.parametrize("options", [GPU, CAPTURABLE], ids=str)
def test_infinite_gradients_that_a_scaler_found_leave_all_as_it_was(tensors, options):
    params, twins = tensors(), tensors()
    optimizer, reference = train(params, 2, **options), train(twins, 2, **options)
    before = copy.deepcopy([optimizer.state[p] for p in params])
    params[0].grad[0, 0] = math.inf
    optimizer.grad_scale, optimizer.found_inf = torch.tensor(4.0), torch.tensor(1.0)
    optimizer.step()
    torch.testing.assert_close([optimizer.state[p] for p in params], before, rtol=0, atol=0)
    assert_close(params, twins, 0)
    for p, q in zip(params, twins, strict=True):
        q.grad = torch.ones_like(q)
        p.grad = 4 * q.grad
    optimizer.found_inf.zero_()
    optimizer.step()
    reference.step()
    assert_close(params, twins, 1e-14)


@pytest.mark.parametrize("options", [{}, {"weight_decay": 0.1}, {"weight_decay": 0.1, "max_grad_norm": 0.5}], ids=str)
def test_the_scale_of_the_gradients_is_taken_away(tensors, options):
    params, twins = tensors(), tensors()
    for p in params:
        p.grad *= 1024
    optimizer = Adai(params, **options, **CAPTURABLE)
    optimizer.grad_scale = torch.tensor(1024.0)
    optimizer.step()
    Adai(twins, **options, **GPU).step()
    assert_close(params, twins, 1e-14)


# --- digits that float32 and differences would lose -------------------------------------------------------------------


def test_small_complements_keep_their_digits():
    """1 - beta2^t and 1 - (1 - eps)^t where beta2 and 1 - eps are 1 to nine digits, for counts that differ."""
    results = []
    for options in (GPU, ENGINES["loop"]):
        p, late = (torch.ones(2, dtype=torch.float64, requires_grad=True) for _ in range(2))
        optimizer = Adai([p, late], lr=1.0, betas=(0.1, 1 - 1e-9), eps=1e-9, **options)
        for t in range(4):
            p.grad = torch.tensor([1.0, 1e-6], dtype=torch.float64)
            late.grad = None if t < 2 else p.grad + 1
            optimizer.step()
        results.append((p.detach() - 1, late.detach() - 1))
    torch.testing.assert_close(*results, rtol=1e-12, atol=1e-20)


def test_the_average_alone_would_stop_short_of_1():
    """In float32 c + eps (1 - c) no longer moves c at 1 - 3e-5; the bound 1 - (1 - eps)^t carries it on."""
    p = torch.zeros(100, requires_grad=True)
    p.grad = torch.full_like(p, 1e-3)
    p.grad[0] = 1.0
    optimizer = Adai([p], **GPU)
    optimizer.step()
    state = optimizer.state[p]
    state["step"].fill_(12_000)
    state["bias_correction"][1:] = 1 - 3e-5
    optimizer.step()
    expected = -math.expm1(12_001 * math.log1p(-1e-3))
    assert state["bias_correction"][1].item() == pytest.approx(expected, rel=6e-8, abs=0)


def test_tiny_gradients_divide_by_no_zero():
    """The mean of v̂ is below the smallest float32 number."""
    p, q = (torch.zeros(3, requires_grad=True) for _ in range(2))
    for x, options in ((p, GPU), (q, ENGINES["loop"])):
        x.grad = torch.tensor([1e-22, 3e-22, 0.0])
        Adai([x], lr=1.0, **options).step()
    assert p.isfinite().all()
    torch.testing.assert_close(p, q)


# --- state -----------------------------------------------------------------------------------------------------------


def test_the_running_sum_is_that_of_v(tensors):
    for dtype, rtol in ((torch.float64, 1e-14), (torch.float32, 1e-6)):
        params = tensors(SHAPES, dtype)
        optimizer = train(params, 20, dtype, **GPU)
        for p in params:
            total, t = optimizer.state[p]["exp_avg_sq_sum"].tolist()
            assert t == 20
            assert total == pytest.approx(optimizer.state[p]["exp_avg_sq"].double().sum().item(), rel=rtol, abs=0)


def test_every_engine_continues_from_every_other(tensors, monkeypatch):
    expected = tensors()
    reference = Adai(expected, **ENGINES["loop"])
    params = tensors()
    optimizer = Adai(params, **ENGINES["loop"])
    own = engines.choose
    turns = ("triton", "cpu", "triton", "loop", "triton", "foreach", "triton", "cpu", "loop", "triton", "triton")
    triton_choose = optimizers.choose
    for turn, name in enumerate(turns):
        saved = copy.deepcopy(optimizer.state_dict())
        optimizer = Adai(params, **(GPU if name in ("triton", "cpu") else ENGINES[name]))
        monkeypatch.setattr(optimizers, "choose", own if name == "cpu" else triton_choose)
        for group in saved["param_groups"]:  # saved options win
            group.update(optimizer.defaults)
        optimizer.load_state_dict(saved)
        train(params, 2, seed=turn, optimizer=optimizer)
        train(expected, 2, seed=turn, optimizer=reference)
        assert_close(params, expected, 1e-13)


def test_clipping_where_gradient_and_decay_cancel():
    """clip * g + λ p is 1e-7 of either: Σ g², Σ g p and Σ p² do not tell, and both are read again."""
    results = []
    for options in (GPU, ENGINES["loop"]):
        p = torch.tensor([1.0, 2.0, -3.0], dtype=torch.float64, requires_grad=True)
        p.grad = torch.tensor([-1.0, -2.0, 3.0], dtype=torch.float64)
        norm = p.grad.norm().item()
        optimizer = Adai([p], lr=0.1, weight_decay=0.5, max_grad_norm=0.5 * norm * (1 + 2e-7), **options)
        for _ in range(3):
            p.grad = p.grad * (1 + 1e-7 * torch.tensor([1.0, -2.0, 1.0], dtype=torch.float64))
            optimizer.step()
        results.append((p, optimizer.state[p]["exp_avg"], optimizer.state[p]["bias_correction"]))
    for x, y in zip(*results, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-6, atol=0)


def test_autograd_sees_the_parameters_change(tensors):
    (p,) = tensors(((3,),))
    loss = (p**2).sum()
    Adai([p], **GPU).step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


# --- which engine ----------------------------------------------------------------------------------------------------


def choice(monkeypatch, *, missing=None, refusal=None, **options):
    """What is chosen for a parameter on a GPU, or would be if there were one."""
    monkeypatch.setattr(gpu, "missing", lambda _: missing)
    monkeypatch.setattr(gpu, "refusal", lambda *_: refusal)
    monkeypatch.setattr(gpu, "Fused", lambda *_: "triton")
    monkeypatch.setattr(engines, "_default_to_fused_or_foreach", lambda *_, **__: (False, True))
    group = Adai([torch.zeros(1, requires_grad=True)], fused=None).defaults | options
    return engines.choose(group, SimpleNamespace(params=[SimpleNamespace(device=torch.device("cuda"))]), [])


def test_triton_is_the_default_on_gpus(monkeypatch):
    assert choice(monkeypatch) == "triton"
    assert choice(monkeypatch, capturable=True) == "triton"
    assert choice(monkeypatch, fused=True) == "triton"
    assert choice(monkeypatch, foreach=True) is foreach


@pytest.mark.parametrize("why", [{"missing": "Triton is not installed"}, {"refusal": "a parameter has dtype x"}])
def test_where_triton_is_not_possible_foreach_steps_in(monkeypatch, why):
    assert choice(monkeypatch, **why) is foreach
    with pytest.raises(RuntimeError, match=f"fused=True is not possible: {next(iter(why.values()))}"):
        choice(monkeypatch, fused=True, **why)


def test_missing_says_why(monkeypatch):
    cpu = torch.device("cpu")
    gpu.missing.cache_clear()
    assert gpu.missing(cpu) is None  # which the interpreter makes possible
    assert gpu.missing(torch.device("cuda")) == "TRITON_INTERPRET is set"

    def broken(reason):
        def _kernels():
            raise reason

        gpu.missing.cache_clear()
        monkeypatch.setattr(gpu, "_kernels", _kernels)
        return gpu.missing(cpu)

    assert broken(ImportError()) == "Triton is not installed"
    gpu.missing.cache_clear()
    monkeypatch.setattr(gpu, "_kernels", lambda: SimpleNamespace(probe=None, INTERPRETED=True))
    assert gpu.missing(cpu).startswith("Triton does not work on cpu (")
    gpu.missing.cache_clear()


# --- the compiler ----------------------------------------------------------------------------------------------------


COMPILE = """
import sys, triton, triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from adai.optim.triton import kernels

def compiled(name, **constants):
    kernel = getattr(kernels, name)
    names, given = kernel.arg_names, {"table": "*i64", "owner": "*i32"}
    signature = {n: "constexpr" if n in constants else given.get(n, "*fp64") for n in names}
    attrs = {(i,): [["tt.divisibility", 16]] for i, n in enumerate(names) if n not in constants}
    source = ASTSource(kernel, signature, {(names.index(n),): c for n, c in constants.items()}, attrs)
    return triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"enable_fp_fusion": False}).asm["ptx"]

sizes = {"CHUNK": 8192, "BLOCK": 1024}
types = {"PARAM": tl.float32, "GRAD": tl.float32, "REAL": tl.float32, "ALIGNED": True, "COUNTED": True}
read = compiled("read", WHAT=kernels.PARTS.value, **types, **sizes)
collect = compiled("collect", WHAT=kernels.PARTS.value, **sizes)
accumulate = compiled("accumulate", WHAT=kernels.PARTS.value, COUNTED=True, REAL=tl.float32, **sizes)
step = compiled("step", CORRECTED=True, DECAYS=True, DAMPENED=False, **types, **sizes)
half = types | {"PARAM": tl.bfloat16, "GRAD": tl.bfloat16, "COUNTED": False, "ALIGNED": False}
odd = compiled("step", CORRECTED=False, DECAYS=False, DAMPENED=True, **half, **sizes)
for ptx in (read, collect, accumulate, step, odd):
    assert ".local" not in ptx, "registers are spilled"
for ptx in (read, step):
    assert "ld.global.v4" in ptx, "loads are not wide"
assert "st.global.v4" in step, "stores are not wide"
assert ".v4" not in odd and ".v2" not in odd, "wide accesses to addresses that may be odd"
"""


def test_the_kernels_compile_for_gpus(tmp_path):
    """For compute capability 9.0, which needs no GPU: without spilled registers, and with loads of 16 bytes."""
    without = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    subprocess.run([sys.executable, "-c", COMPILE], check=True, env=without | {"TRITON_CACHE_DIR": str(tmp_path)})
