"""What a step of the Triton engine starts: which kernels, with what, and how many operators of torch besides."""

import pytest
import torch

from adai import Adai
from adai.optim import step
from adai.optim.engines import triton as gpu
from adai.optim.engines.triton import launch, table
from tests.engines import ENGINES, Dispatches, selected

GPU, CPU = ENGINES["triton"], torch.device("cpu")
CONSTANTS = (
    *("WHAT", "CORRECTED", "DECAYS", "DAMPENED", "COUNTED", "PARAM", "GRAD", "REAL", "ELEMENT"),
    *("COLUMNS", "KEPT", "ROUNDED", "RUNS", "SUMS", "OWN", "EACH", "CHUNK", "BLOCK"),
)


class Kernels:
    """Kernels that write down how they are launched, and compile to something that does so too."""

    def __init__(self):
        self.TYPES = {torch.float32: "fp32", torch.float64: "fp64"}
        self.ordinary, self.quick = [], []

    def __getattr__(self, name):
        return Kernel(self, name)


class Kernel:
    arg_names = CONSTANTS

    def __init__(self, kernels, name):
        self.kernels, self.name = kernels, name

    def __getitem__(self, grid):
        def launched(*args, **constants):
            self.kernels.ordinary.append((self.name, grid, args, constants))
            return Compiled(self)

        return launched


class Compiled:
    def __init__(self, kernel):
        self.kernel = kernel

    def __getitem__(self, grid):
        return lambda *args: self.kernel.kernels.quick.append((self.kernel.name, grid, args))


@pytest.fixture
def kernels(monkeypatch):
    with selected("triton"):
        kernels = Kernels()
        monkeypatch.setattr(gpu, "_kernels", lambda: kernels)
        monkeypatch.setattr(gpu, "missing", lambda _: None)
        monkeypatch.setattr(step, "_asks", lambda *_: False)  # as on a GPU
        yield kernels


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setitem(launch._ABLE, CPU, True)


def optimizer_of(number=3, **options):
    params = [torch.zeros(2, 3, requires_grad=True) for _ in range(number)]
    for p in params:
        p.grad = torch.ones_like(p)
    return Adai(params, **options, **GPU)


STEPS = {
    "plain": ({}, 4, 0),
    "decoupled": ({"weight_decay": 0.1, "decoupled_weight_decay": True}, 4, 0),
    "capturable": ({"capturable": True}, 4, 0),
    "clipped": ({"max_grad_norm": 1.0}, 6, 0),
    "clipped, with a penalty": ({"max_grad_norm": 1.0, "weight_decay": 0.1}, 7, 0),
}


PREVIOUS = {"with the mean of the step before": ({"mean": "previous"}, 3, 0)}


@pytest.mark.parametrize(
    ("options", "launches", "operators"), [*STEPS.values(), *PREVIOUS.values()], ids=[*STEPS, *PREVIOUS]
)
def test_a_step_makes_these_launches_and_calls_of_operators_at_most(kernels, options, launches, operators):
    """Each takes several microseconds of the host's time, and more of the device's."""
    for number in (3, 40):
        optimizer = optimizer_of(number, **options)
        optimizer.step()
        kernels.ordinary.clear()
        with Dispatches() as dispatches:
            optimizer.step()
        assert len(kernels.ordinary) <= launches
        assert len([name for name in dispatches.names if name.startswith("aten")]) <= operators, dispatches.names


@pytest.mark.parametrize("options", [options for options, _, _ in STEPS.values()], ids=STEPS.keys())
def test_a_compiled_kernel_is_started_with_what_triton_would_start_it_with(kernels, quick, options):
    optimizer = optimizer_of(**options)
    optimizer.step()
    first, kernels.ordinary = kernels.ordinary, []
    optimizer.step()
    assert not kernels.ordinary
    assert [(name, (*grid, 1, 1)) for name, grid, _, _ in first] == [(name, grid) for name, grid, _ in kernels.quick]
    for (name, _, args, constants), (_, _, started) in zip(first, kernels.quick, strict=True):
        own = [value for key, value in constants.items() if key in CONSTANTS]
        assert list(started[len(args) :]) == own, "options of Triton are not for the kernel"
        for arg, word in zip(args, started, strict=False):
            if isinstance(arg, torch.Tensor):
                assert word % launch.ALIGNMENT == 0
                assert word == arg.data_ptr()
            else:
                steps = name == "accumulate" and "capturable" not in options
                assert word == arg + steps, "the host's counts are one later"


def test_other_options_start_another_kernel(kernels, quick):
    optimizer = optimizer_of()
    optimizer.step()
    kernels.ordinary.clear()
    for key, value in (("weight_decay", 0.1), ("dampening", 0.5), ("weight_decay", 0.0)):
        optimizer.param_groups[0][key] = value
        optimizer.step()
        group = optimizer.param_groups[0]
        constants = {name: constants for name, _, _, constants in kernels.ordinary}
        assert constants["step"]["DECAYS"] == (group["weight_decay"] != 0)
        assert constants["step"]["DAMPENED"] == (group["dampening"] != 1)
        assert constants["read"]["WHAT"] == ("decayed" if group["weight_decay"] else "plain")
        kernels.ordinary.clear()


def test_a_number_at_an_odd_place_is_copied_to_an_even_one(kernels):
    """A compiled kernel relies on its place; a learning rate or a loss scale may be anywhere."""
    optimizer = optimizer_of()
    optimizer.step()
    passes = optimizer._engines[0, 0]._passes[0]
    numbers = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    even, odd = sorted(numbers[:2], key=lambda number: number.data_ptr() % launch.ALIGNMENT)
    assert passes.number(even) is even
    copied = passes.number(odd)
    assert copied == odd
    assert copied.data_ptr() % launch.ALIGNMENT == 0


@pytest.mark.parametrize("works", ["writes", "writes nothing", "takes other arguments", "compiles nothing"])
def test_compiled_kernels_are_started_where_this_version_of_triton_can(works, monkeypatch):
    monkeypatch.setattr(launch, "_ABLE", {})
    there = []
    own = torch.zeros
    monkeypatch.setattr(torch, "zeros", lambda *args, **kw: there.append(own(*args, **kw)) or there[-1])

    def started(*args):
        if works == "takes other arguments":
            raise TypeError("function takes exactly 9 arguments (10 given)")
        assert args[1:] == ("fp32",)
        if works == "writes":
            there[0].fill_(1)

    class Probe:
        arg_names = ("address", "ELEMENT")

        def __getitem__(self, grid):
            return lambda address, ELEMENT: there[0].fill_(1) and (works != "compiles nothing" and {(1, 1, 1): started})

    kernels = Kernels()
    kernels.probe = Probe()
    launch.try_quick(kernels, CPU)
    assert {CPU: works == "writes"} == launch._ABLE


def test_a_launch_that_compiled_nothing_is_made_again_by_triton(kernels, monkeypatch):
    """As when a hook of Triton stands in for the first launch."""
    monkeypatch.setitem(launch._ABLE, CPU, True)
    kernel = Kernel(kernels, "probe")
    start = launch.Launch({(1,): lambda *args, **constants: kernels.ordinary.append(args)}, 1, {}, CPU)
    start(torch.zeros(()))
    start._kernel = kernel
    start(torch.zeros(()))
    start(torch.zeros(()))
    assert len(kernels.ordinary) == 2
    assert len(kernels.quick) == 1


def test_the_chunks_of_a_long_tensor_are_added_up_by_a_wide_program(kernels, monkeypatch):
    """One program adds them up: 12,000 for 100 million elements."""
    monkeypatch.setattr(table, "CHUNK", 1)
    for length, block, warps in ((gpu.BLOCK, gpu.BLOCK, gpu.WARPS), (gpu.BLOCK + 1, gpu.LONG_BLOCK, gpu.LONG_WARPS)):
        long = torch.zeros(length, requires_grad=True)
        long.grad = torch.ones_like(long)
        Adai([long], max_grad_norm=1.0, **GPU).step()
        constants = {name: constants for name, _, _, constants in kernels.ordinary}
        for name in ("collect", "accumulate"):
            assert (constants[name]["BLOCK"], constants[name]["num_warps"]) == (block, warps)


def test_groups_that_are_clipped_alike_share_the_factor(kernels, monkeypatch):
    asked = []
    own = step.clip_factor
    monkeypatch.setattr(step, "clip_factor", lambda norm, limit, *rest: asked.append(limit) or own(norm, limit, *rest))
    params = [torch.zeros(3, requires_grad=True) for _ in range(3)]
    for p in params:
        p.grad = torch.ones_like(p)
    groups = [{"params": [p], "max_grad_norm": limit} for p, limit in zip(params, (1.0, 2.0, 1.0), strict=True)]
    Adai(groups, **GPU).step()
    assert sorted(asked) == [1.0, 2.0]
