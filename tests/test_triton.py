"""What is the Triton engine's own: launches, what is kept between steps, when it is chosen, what is compiled."""

import os
import subprocess
import sys
import weakref
from types import SimpleNamespace

import pytest
import torch

from adai import Adai
from adai.optim.engines import choice as engines
from adai.optim.engines import triton as gpu
from adai.optim.engines.foreach import Foreach
from adai.optim.engines.triton import table
from adai.optim.hyper import Hyper
from tests.engines import ENGINES, LOOP, assert_close, selected, train

pytestmark = pytest.mark.slow

kernels = pytest.importorskip("adai.optim.engines.triton.kernels", reason="Triton is not installed")

GPU, CAPTURABLE = ENGINES["triton"], ENGINES["triton_capturable"]


@pytest.fixture(autouse=True)
def interpreted():
    with selected("triton"):
        yield


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


@pytest.mark.parametrize("options", [{}, {"max_grad_norm": 1.0, "weight_decay": 0.1}], ids=str)
def test_tensors_of_several_chunks_equal_the_loop(tensors, options, monkeypatch):
    """Lengths around the multiples of block and chunk."""
    monkeypatch.setattr(table, "CHUNK", 32)
    monkeypatch.setattr(gpu, "CHUNK", 32)
    monkeypatch.setattr(gpu, "BLOCK", 16)
    shapes = ((31,), (32,), (33,), (80,), (0,), (1,))
    params, expected = tensors(shapes), tensors(shapes)
    optimizer, reference = train(params, 2, **options, **GPU), train(expected, 2, **options, **LOOP)
    for p in params:
        optimizer.state[p]["exp_avg_sq"].mul_(1)  # so that Σ v has to be taken anew, over the chunks too
    train(params, 2, seed=1, optimizer=optimizer)
    train(expected, 2, seed=1, optimizer=reference)
    assert_close(params, expected, 1e-13)


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
    for p in params:
        p.grad = torch.ones_like(p)
    Adai(params, **GPU).step()
    assert len(launches) == 6


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


def test_what_a_captured_step_reads_outlives_the_plan(tensors, monkeypatch):
    """An eager step with other gradients makes another plan; a replay still reads the memory of the first one."""
    params = tensors()
    optimizer = train(params, 1, **CAPTURABLE)
    plan = table._PLANS[optimizer.state[params[0]]["step"]]
    read = [weakref.ref(t) for part in plan.parts for t in (part.owner, part.v_sums, part.v_steps)]
    write = table.table

    def captured(part, batch, numbers, held, **flags):
        """As in a capture on a GPU, but for the copy."""
        with monkeypatch.context() as patch:
            patch.setattr(table, "is_capturing", lambda _: True)
            patch.setattr(table, "_host_memory", lambda length, *_: torch.empty(length, dtype=torch.int64))
            return write(part, batch, numbers, held, **flags)

    with monkeypatch.context() as patch:
        patch.setattr(table, "table", captured)
        optimizer.step()
    params[1].grad = None
    optimizer.step()
    assert len(plan.parts[0].owner) == 1
    assert all(ref() is not None for ref in read)


def test_a_tensor_at_an_odd_address_costs_the_others_nothing(tensors, monkeypatch):
    """DistributedDataParallel's gradients are views into buckets, of which most begin at odd places."""
    sent = []
    write = table.table
    monkeypatch.setattr(table, "table", lambda *args, **kwargs: sent.append(write(*args, **kwargs)) or sent[-1])
    params = tensors(((4,), (4,), (4,)), torch.float32)
    bucket, memory = torch.ones(9), torch.ones(5)
    params[1].grad = bucket[1:5]
    params[2].data = memory[1:5]
    expected = [p.detach().clone().requires_grad_() for p in params]
    for p, q in zip(params, expected, strict=True):
        q.grad = p.grad.clone()
    optimizer = Adai(params, **GPU)
    optimizer.step()
    Adai(expected, **LOOP).step()
    assert_close(params, expected, 1e-6)
    both = table.STATE_ALIGNED | table.GRAD_ALIGNED
    flags = sent[0].words[table.HEAD + 6 :: table.WIDTH]
    assert [flag & both for flag in flags.tolist()] == [both, table.STATE_ALIGNED, table.GRAD_ALIGNED]


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
    optimizer, reference = train(params, 1, lr=lr, **CAPTURABLE), train(expected, 1, lr=0.25, **LOOP)
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


# --- which engine ----------------------------------------------------------------------------------------------------


def choice(monkeypatch, *, missing=None, refusal=None, **options):
    """What is chosen for a parameter on a GPU, or would be if there were one."""
    monkeypatch.setattr(gpu, "missing", lambda _: missing)
    monkeypatch.setattr(table, "plan", lambda *_, **__: refusal or SimpleNamespace(parts=[], held=[]))
    monkeypatch.setattr(table, "lay_out", lambda _: None)
    monkeypatch.setattr(engines, "_default_to_fused_or_foreach", lambda *_, **__: (False, True))
    group = Adai([torch.zeros(1, requires_grad=True)], fused=None).defaults | options
    batch = SimpleNamespace(params=[SimpleNamespace(device=torch.device("cuda"))], check_shapes=lambda: None)
    return engines.choose(group, Hyper.of(group), batch, [])


def test_triton_is_the_default_on_gpus(monkeypatch):
    assert isinstance(choice(monkeypatch), gpu.Fused)
    assert isinstance(choice(monkeypatch, capturable=True), gpu.Fused)
    assert isinstance(choice(monkeypatch, fused=True), gpu.Fused)
    assert isinstance(choice(monkeypatch, foreach=True), Foreach)


@pytest.mark.parametrize("why", [{"missing": "Triton is not installed"}, {"refusal": "a parameter has dtype x"}])
def test_where_triton_is_not_possible_foreach_steps_in(monkeypatch, why):
    assert isinstance(choice(monkeypatch, **why), Foreach)
    with pytest.raises(RuntimeError, match=f"fused=True is not possible: {next(iter(why.values()))}"):
        choice(monkeypatch, fused=True, **why)


@pytest.fixture
def untried(monkeypatch):
    """Nothing is known yet of any device; forgotten afterwards."""
    monkeypatch.setattr(gpu, "_TRIED", {})


CPU = torch.device("cpu")


def test_missing_says_why(untried):
    assert gpu.missing(CPU) is None  # which the interpreter makes possible
    assert gpu.missing(torch.device("cuda")) == "TRITON_INTERPRET is set"


def test_missing_says_what_failed(untried, monkeypatch):
    def not_installed():
        raise ImportError

    monkeypatch.setattr(gpu, "_kernels", not_installed)
    assert gpu.missing(CPU) == "Triton is not installed"
    gpu._TRIED.clear()
    monkeypatch.setattr(gpu, "_kernels", lambda: SimpleNamespace(probe=None, INTERPRETED=True))
    assert gpu.missing(CPU).startswith("Triton does not work on cpu (")


def test_what_failed_is_tried_again_after_a_minute_and_what_works_never(untried, monkeypatch, caplog):
    now, tried = [1000.0], []
    answers = iter(["out of memory", "out of memory", None])
    monkeypatch.setattr(gpu.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(gpu, "_tried", lambda device: tried.append(device) or next(answers))
    with caplog.at_level("INFO"):
        for later, expected, calls in (
            (0, "out of memory", 1),
            (59, "out of memory", 1),
            (2, "out of memory", 2),
            (61, None, 3),
            (1e6, None, 3),
        ):
            now[0] += later
            assert gpu.missing(CPU) == expected
            assert len(tried) == calls
    assert len(caplog.records) == 1


def test_nothing_is_tried_while_a_graph_is_captured(untried, monkeypatch):
    device = torch.device("cuda")
    gpu._TRIED[device] = gpu._Tried("out of memory", -1e9)
    monkeypatch.setattr(gpu, "_tried", lambda _: pytest.fail("a launch and a wait would spoil the capture"))
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    assert gpu.missing(device) == "out of memory"


# --- the compiler ----------------------------------------------------------------------------------------------------


COMPILE = """
import sys, triton, triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from adai.optim.engines.triton import kernels
from one_chunk import one_chunk

def compiled(name, **constants):
    kernel = one_chunk if name == "one_chunk" else getattr(kernels, name)
    names, given = kernel.arg_names, {"table": "*i64", "owner": "*i32"}
    signature = {n: "constexpr" if n in constants else given.get(n, "*fp64") for n in names}
    attrs = {(i,): [["tt.divisibility", 16]] for i, n in enumerate(names) if n not in constants}
    source = ASTSource(kernel, signature, {(names.index(n),): c for n, c in constants.items()}, attrs)
    return triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"enable_fp_fusion": False}).asm["ptx"]

sizes = {"CHUNK": 8192, "BLOCK": 1024}
types = {"PARAM": tl.float32, "GRAD": tl.float32, "REAL": tl.float32, "COUNTED": True}
read = compiled("read", WHAT=kernels.PARTS.value, **types, **sizes)
collect = compiled("collect", WHAT=kernels.PARTS.value, **sizes)
accumulate = compiled("accumulate", WHAT=kernels.PARTS.value, COUNTED=True, REAL=tl.float32, **sizes)
step = compiled("step", CORRECTED=True, DECAYS=True, DAMPENED=False, **types, **sizes)
half = types | {"PARAM": tl.bfloat16, "GRAD": tl.bfloat16, "COUNTED": False}
odd = compiled("step", CORRECTED=False, DECAYS=False, DAMPENED=True, **half, **sizes)
for ptx in (read, collect, accumulate, step, odd):
    assert ".local" not in ptx, "registers are spilled"
for ptx in (read, step):
    assert "ld.global.v4" in ptx, "loads are not wide"
assert "st.global.v4" in step, "stores are not wide"
assert "cvt.rn.bf16x2.f32" in odd, "bfloat16 is not rounded to the nearest"

moved = {"CORRECTED": True, "DECAYS": True, "DAMPENED": False, "BLOCK": 1024, "MASKED": False}
moved |= {key: types[key] for key in ("PARAM", "GRAD", "REAL")}
wide, narrow_grad, narrow = (
    compiled("one_chunk", **moved, ALIGNED=aligned, WIDE_GRAD=grad)
    for aligned, grad in ((True, True), (True, False), (False, False))
)
loads = [ptx.count("ld.global.v4") for ptx in (wide, narrow_grad, narrow)]
assert loads[0] > loads[1] == loads[0] * 4 // 5 > 0, "the gradient alone is not narrow"
assert loads[2] == 0 and ".v2" not in narrow, "wide accesses to addresses that may be odd"
"""
ONE_CHUNK = """
import triton, triton.language as tl
from adai.optim.engines.triton.kernels import HEAD, _move

@triton.jit
def one_chunk(table, out, CORRECTED: tl.constexpr, DECAYS: tl.constexpr, DAMPENED: tl.constexpr, PARAM: tl.constexpr,
              GRAD: tl.constexpr, REAL: tl.constexpr, BLOCK: tl.constexpr, MASKED: tl.constexpr, ALIGNED: tl.constexpr,
              WIDE_GRAD: tl.constexpr):
    one = tl.load(out).to(tl.float32)
    tl.store(out, _move(table + HEAD, tl.program_id(0).to(tl.int64) * 8192, 8192, one, one, one, one, one, one, table,
                        CORRECTED, DECAYS, DAMPENED, PARAM, GRAD, REAL, BLOCK, MASKED, ALIGNED, WIDE_GRAD))
"""


def test_the_kernels_compile_for_gpus(tmp_path):
    """For compute capability 9.0, which needs no GPU: without spilled registers, and with loads of 16 bytes."""
    without = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    (tmp_path / "one_chunk.py").write_text(ONE_CHUNK)  # Triton reads the source of what it compiles
    own = {"TRITON_CACHE_DIR": str(tmp_path), "PYTHONPATH": os.pathsep.join((str(tmp_path), *sys.path))}
    subprocess.run([sys.executable, "-c", COMPILE], check=True, env=without | own)


PTXAS = """
import pathlib, re, subprocess, sys, tempfile
import triton, triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from adai.optim.engines.triton import kernels

share, shares = map(int, sys.argv[1:])
ptxas = pathlib.Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "ptxas"

def variants():
    sizes, halves = {"CHUNK": 8192, "BLOCK": 1024}, (tl.bfloat16, tl.float16)
    pairs = [(t, t) for t in (tl.float32, tl.float64, *halves)] + [(t, tl.float32) for t in halves]
    for i, (param, grad) in enumerate(pairs):
        real = tl.float64 if param is tl.float64 else tl.float32
        types = {"PARAM": param, "GRAD": grad, "REAL": real, "COUNTED": i % 2 == 0}
        for what in (kernels.PLAIN, kernels.DECAYED, kernels.PARTS, kernels.AGAIN):
            yield "read", {"WHAT": what.value, **types, **sizes}
        for flags in range(8):
            names = ("CORRECTED", "DECAYS", "DAMPENED")
            yield "step", {name: bool(flags >> k & 1) for k, name in enumerate(names)} | types | sizes
    for what in (kernels.PLAIN, kernels.DECAYED, kernels.PARTS):
        yield "collect", {"WHAT": what.value, **sizes}
        for counted, real in ((True, tl.float32), (False, tl.float64)):
            yield "accumulate", {"WHAT": what.value, "COUNTED": counted, "REAL": real, **sizes}

for name, constants in list(variants())[share::shares]:
    kernel = getattr(kernels, name)
    names, given = kernel.arg_names, {"table": "*i64", "owner": "*i32"}
    signature = {n: "constexpr" if n in constants else given.get(n, "*fp64") for n in names}
    attrs = {(i,): [["tt.divisibility", 16]] for i, n in enumerate(names) if n not in constants}
    source = ASTSource(kernel, signature, {(names.index(n),): c for n, c in constants.items()}, attrs)
    ptx = triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"enable_fp_fusion": False}).asm["ptx"]
    with tempfile.NamedTemporaryFile("w", suffix=".ptx") as file:
        file.write(ptx)
        file.flush()
        said = subprocess.run([ptxas, "-v", "-arch=sm_90a", file.name, "-o", "/dev/null"], check=True,
                              capture_output=True, text=True).stderr
    spilled = [int(n) for n in re.findall(r"(\\d+) bytes (?:stack frame|spill stores|spill loads)", said)]
    assert len(spilled) == 3, said
    assert not any(spilled), f"{name} {constants}: {said}"
    print(name)
"""


@pytest.mark.parametrize("share", range(4))
def test_no_variant_spills_registers(tmp_path, share):
    """As ptxas assigns them, for compute capability 9.0. Each share takes every fourth variant."""
    without = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    command = [sys.executable, "-c", PTXAS, str(share), "4"]
    own = {"TRITON_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(command, check=True, env=without | own, stdout=subprocess.PIPE, text=True)
    assert len(done.stdout.split()) > 15
