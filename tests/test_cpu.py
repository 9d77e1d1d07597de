"""What is the compiled CPU kernel's own: when it is used, its table, threads, instructions, what importing it does."""

import copy
import logging
import re
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from adai import Adai
from adai.optim.engines import cpu
from adai.optim.engines.batch import Batch
from adai.optim.engines.choice import choose
from adai.optim.engines.cpu import library
from adai.optim.engines.foreach import Foreach
from adai.optim.engines.loop import Loop
from adai.optim.hyper import Hyper
from tests.engines import SHAPES, assert_close, train

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]


def engine_of(optimizer):
    batch, group = Batch.empty(), optimizer.param_groups[0]
    optimizer._init_group(group, *batch[:-1], [], [], None)
    batch.places.extend(optimizer._sharing.places)
    return choose(group, Hyper.of(group), batch, batch)


@pytest.fixture
def not_built(monkeypatch, tmp_path):
    """An installation without a compiler: the library's file is not there."""
    library.look.cache_clear()
    monkeypatch.setattr(library, "__file__", str(tmp_path / "adai" / "optim" / "engines" / "cpu" / "library.py"))
    yield
    library.look.cache_clear()


@pytest.mark.parametrize("dtype", DTYPES)
def test_fused_is_the_default_on_cpus(tensors, dtype):
    assert isinstance(engine_of(Adai(tensors(dtype=dtype))), cpu.Fused)
    assert isinstance(engine_of(Adai(tensors(dtype=dtype), foreach=True)), Foreach)
    assert isinstance(engine_of(Adai(tensors(dtype=dtype), foreach=False)), Loop)
    assert isinstance(engine_of(Adai(tensors(dtype=dtype), fused=False)), Loop)
    assert isinstance(engine_of(Adai(tensors(dtype=dtype), differentiable=True)), Loop)


def test_a_source_folder_that_is_not_built_is_told_from_an_installation(not_built, tmp_path, caplog):
    (tmp_path / "pyproject.toml").touch()
    assert library.load() is None
    assert caplog.messages == [
        f"adai is imported from {tmp_path}, where its CPU kernel is not built; run pip install -e . there (with a C "
        "compiler), or run elsewhere; the foreach engine is used on CPUs"
    ]


def test_a_kernel_that_cannot_be_loaded_is_told_from_none(not_built, tmp_path, tensors):
    """As one of another platform."""
    file = tmp_path / "adai" / "optim" / "engines" / "cpu" / "_kernel.so"
    file.parent.mkdir(parents=True)
    file.write_text("no library")
    said = rf"CPU kernel cannot be loaded \({file}: .*\); to build it, install a C compiler, .*; leave fused at None"
    with pytest.raises(RuntimeError, match=said):
        Adai(tensors(), fused=True)
    assert isinstance(engine_of(Adai(tensors())), Foreach)


def test_on_windows_no_compiler_is_asked_for(not_built, monkeypatch):
    monkeypatch.setattr(library, "os", SimpleNamespace(name="nt"))
    assert cpu.missing() == "adai has no CPU kernel for Windows"


def test_without_the_kernel_foreach_steps_in_with_one_log_line(not_built, tensors, caplog):
    with caplog.at_level(logging.INFO):
        params = tensors()
        optimizer = Adai(params)
        assert isinstance(engine_of(optimizer), Foreach)
        optimizer.step()
        Adai(tensors()).step()
    reason = (
        "adai was installed without its CPU kernel, because there was no C compiler; to build it, install a C "
        "compiler, such as gcc, and run pip install . in adai's source folder again"
    )
    assert [r.getMessage() for r in caplog.records if r.name.startswith("adai")] == [
        f"{reason}; the foreach engine is used on CPUs"
    ]
    with pytest.raises(RuntimeError, match=re.escape(f"fused=True is not possible: {reason}; leave fused at None")):
        Adai(params, fused=True)
    optimizer = Adai(tensors(), lr=torch.tensor(0.1))
    assert isinstance(engine_of(optimizer), Loop)


def test_what_the_kernel_cannot_do_goes_elsewhere(tensors):
    p = torch.zeros(4, 6, requires_grad=True)[:, ::2].detach().requires_grad_()
    p.grad = torch.ones(4, 3)
    Adai([p]).step()
    assert (p == -0.1).all()
    with pytest.raises(RuntimeError, match="fused=True is not possible: a parameter of shape \\(4, 3\\) has strides"):
        Adai([p], fused=True).step()
    q = torch.nn.Parameter(torch.zeros(3, device="meta"))
    q.grad = torch.zeros_like(q)
    with pytest.raises(RuntimeError, match="fused=True is not possible: a parameter is a Parameter on meta"):
        Adai([q], fused=True).step()


def test_the_table_is_made_once(tensors, monkeypatch):
    made = []
    monkeypatch.setattr(cpu, "refusal", made.append)
    train(tensors(SHAPES, torch.float32), 5)  # with new gradients at every step
    assert len(made) == 1


def _new_memory(params, optimizer):
    for p in params:
        p.data = p.data.clone()


def _new_layout(params, optimizer):
    for p in params:  # the same memory, but the state keeps the old layout
        p.data = p.data.as_strided(p.shape, p.stride()[::-1]) if p.ndim == 2 and p.shape[0] == p.shape[1] else p.data


def _new_dtype(params, optimizer):
    for p in params:
        p.grad, p.data = None, p.data.to(torch.float64)


def _state_in_half(params, optimizer):
    for state in optimizer.state.values():
        state["exp_avg"] = state["exp_avg"].bfloat16().float()


def _own_checkpoint(params, optimizer):
    optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))


def _frozen(params, optimizer):
    params[0].requires_grad_(False)
    params[0].grad = None


@pytest.mark.parametrize("change", [_new_memory, _new_layout, _new_dtype, _state_in_half, _own_checkpoint, _frozen])
def test_whatever_changes_between_steps_is_noticed(tensors, change):
    results = []
    for options in ({"fused": None}, {"foreach": False}):
        params = tensors(((4, 4), (7,)), torch.float32)
        optimizer = train(params, 3, **options)
        change(params, optimizer)
        for p in params:
            if p.requires_grad:
                p.grad = torch.full_like(p, 0.3)
        optimizer.step()
        optimizer.step()
        results.append(params)
    assert_close(*results, 1e-5)


def test_the_sums_of_v_are_kept_where_v_is_views_of_one_buffer(tensors, monkeypatch):
    """They share a version counter, which each step raises once for each of them."""
    known, results = [], []
    take = cpu.Fused._take_totals
    monkeypatch.setattr(cpu.Fused, "_take_totals", lambda self: known.append(self._known) or take(self))
    for options in ({"fused": True}, {"foreach": False}):
        params = tensors(((4, 4), (7,), (3,)), torch.float32)
        optimizer = train(params, 1, **options)
        buffer = torch.cat([optimizer.state[p]["exp_avg_sq"].flatten() for p in params])
        for p, view in zip(params, buffer.split([p.numel() for p in params]), strict=True):
            optimizer.state[p]["exp_avg_sq"] = view.view_as(p)
        train(params, 4, optimizer=optimizer)
        buffer.mul_(4)
        train(params, 2, optimizer=optimizer)
        results.append(params)
    assert known == [False, *[False, True, True, True], *[False, True]]
    assert_close(*results, 1e-5)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("options", [{}, {"weight_decay": 0.1, "max_grad_norm": 1.0}, {"dampening": 0.5}], ids=str)
def test_results_do_not_depend_on_threads(tensors, dtype, options):
    shapes, results = ((300_000,), (7,), (40, 1000)), []
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            params = tensors(shapes, dtype)
            train(params, 3, fused=True, **options)
            results.append(params)
    finally:
        torch.set_num_threads(before)
    for params in results[1:]:
        assert all(torch.equal(p, q) for p, q in zip(params, results[0], strict=True))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("variant", library.VARIANTS)
@pytest.mark.parametrize(
    "options", [{}, {"weight_decay": 0.1}, {"weight_decay": 0.1, "max_grad_norm": 1.0}, {"eps": 0.9}], ids=str
)
def test_results_do_not_depend_on_instructions(tensors, dtype, variant, options, monkeypatch):
    """eps 0.9 drops the bias correction on the way."""
    if library.VARIANTS.index(variant) > library.VARIANTS.index(library.best_variant()):
        pytest.skip(f"this CPU has no {variant}")
    results = []
    for forced in (variant, "plain"):
        monkeypatch.setattr(library, "best_variant", lambda forced=forced: forced)
        params = tensors(SHAPES, dtype)
        train(params, 30, fused=True, **options)
        results.append(params)
    assert all(torch.equal(p, q) for p, q in zip(*results, strict=True))


def test_torchs_own_threads_are_used():
    if sys.platform == "linux" and torch.backends.openmp.is_available():
        assert library.crew().run


def test_import_compiles_and_loads_nothing():
    code = """
import sys, torch, adai
assert "torch._dynamo" not in sys.modules and "triton" not in sys.modules and "setuptools" not in sys.modules
from adai.optim.engines.cpu import library
assert library.look.cache_info().currsize == 0
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_kernel_built_from_other_sources_is_refused(monkeypatch):
    """It would read and write past the tables that it is handed."""
    library.look.cache_clear()
    monkeypatch.setattr(library, "VERSION", library.VERSION + 1)
    try:
        with pytest.raises(RuntimeError, match=r"was built from other sources .* install adai again"):
            library.load()
    finally:
        library.look.cache_clear()
