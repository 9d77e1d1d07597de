"""Half-precision parameters: state and arithmetic in float32, cast on write."""

import copy

import pytest
import torch

from adai import Adai
from adai.optim.shared.mean import squares_of, sum_of
from tests.engines import LOOP, assert_close

HALF = [torch.bfloat16, torch.float16]
MOMENTS = ("exp_avg", "exp_avg_sq", "bias_correction")


@pytest.mark.parametrize("dtype", HALF)
def test_state_is_float32_also_after_loading(engine, tensors, dtype):
    params = tensors(dtype=dtype)
    optimizer = Adai(params, **engine)
    optimizer.step()
    fresh = Adai(params, **engine)
    fresh.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for p in params:
        for key in MOMENTS:
            assert optimizer.state[p][key].dtype == torch.float32
            assert fresh.state[p][key].dtype == torch.float32
            assert torch.equal(fresh.state[p][key], optimizer.state[p][key])


@pytest.mark.parametrize("dtype", HALF)
def test_each_step_is_the_float32_step_cast_on_write(engine, tensors, dtype):
    """The same gradients into a float32 twin whose parameters are rounded after each step."""
    half = tensors(dtype=dtype)
    full = [p.detach().float().requires_grad_() for p in half]
    options = {"lr": 0.05, "weight_decay": 0.01, **engine}
    a, b = Adai(half, **options), Adai(full, **options)
    for t in range(20):
        for p, q, fresh in zip(half, full, tensors(dtype=dtype, seed=t), strict=True):
            p.grad, q.grad = fresh.grad, fresh.grad.float()
        a.step()
        b.step()
        for p, q in zip(half, full, strict=True):
            q.data.copy_(q.to(dtype))
            assert torch.equal(p.float(), q)


def test_small_complement_of_inertia_survives_bfloat16(engine):
    """0.999 is 1 in bfloat16, where 1 - Π mu would be 0 and the step infinite."""
    p = torch.zeros(1000, dtype=torch.bfloat16, requires_grad=True)
    p.grad = torch.full_like(p, 1e-4)
    p.grad[0] = 1
    Adai([p], lr=1.0, **engine).step()
    torch.testing.assert_close(p.detach(), -p.grad)


def test_bias_correction_in_float32_keeps_its_digits(engine):
    """1 - Π mu after t steps at mu = 1 - eps is 1 - (1 - eps)^t to float32 rounding; by subtraction off by 1e-4."""
    p = torch.zeros(2, requires_grad=True)
    optimizer = Adai([p], eps=1e-4, betas=(1e-5, 0.99), **engine)
    for t in range(1, 6):
        p.grad = torch.ones(2)
        optimizer.step()
        expected = -torch.expm1(t * torch.log1p(torch.tensor(-1e-4, dtype=torch.float64)))
        torch.testing.assert_close(
            optimizer.state[p]["bias_correction"].double(), expected.expand(2), rtol=3e-7, atol=0
        )


@pytest.mark.parametrize("dtype", HALF)
def test_conversion_of_every_number(engine, dtype):
    """Parameters that do not move (lr 0) come back as they were, whatever bits they have."""
    p = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(dtype).requires_grad_()
    before = p.detach().clone()
    p.grad = torch.ones_like(p)
    Adai([p], lr=0.0, **engine).step()
    assert torch.equal(p.isnan(), before.isnan())
    keep = ~before.isnan()
    assert torch.equal(p.detach()[keep].view(torch.int16), before[keep].view(torch.int16))


@pytest.mark.parametrize("dtype", HALF)
def test_rounding_at_every_size(engine, dtype):
    """As torch rounds the float32 twin."""
    rng = torch.Generator().manual_seed(0)
    start = torch.randn(100_000, generator=rng) * 10 ** (12 * torch.rand(100_000, generator=rng) - 8)
    p = start.to(dtype).requires_grad_()
    p.grad = torch.randn(100_000, generator=rng).to(dtype) * p.detach().abs()
    p.grad.nan_to_num_(0, 0, 0)
    q = p.detach().float().requires_grad_()
    q.grad = p.grad.float()
    for x in (p, q):
        Adai([x], lr=0.3, **engine).step()
    assert torch.equal(p.detach(), q.detach().to(dtype))


@pytest.mark.skipif(not hasattr(torch.Tensor, "grad_dtype"), reason="this torch has no grad_dtype")
@pytest.mark.parametrize("grad_dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("dtype", [*HALF, torch.float32, torch.float64])
@pytest.mark.parametrize("options", [{}, {"weight_decay": 0.1, "max_grad_norm": 1.0}], ids=str)
def test_gradients_of_another_dtype_keep_their_digits(engine, dtype, grad_dtype, options):
    """1e5 is infinite in float16, 1 + 2^-10 is 1 in bfloat16; over several steps, then with another gradient dtype."""
    results = []
    for selected in (engine, LOOP):
        p = torch.nn.Parameter(torch.ones(40, dtype=dtype))
        optimizer = Adai([p], lr=1e-3, **options, **selected)
        for wide in (grad_dtype, grad_dtype, dtype, grad_dtype):
            p.grad = None
            p.grad_dtype = wide
            scale = 1e5 if wide in (torch.float32, torch.float64) else 1.0
            p.grad = (scale * torch.linspace(1.0009765625, 2, 40, dtype=torch.float64)).to(wide)
            optimizer.step()
        results.append([p.detach(), *(optimizer.state[p][key] for key in MOMENTS)])
    for x, y in zip(*results, strict=True):
        assert y.isfinite().all()
        assert_close([x], [y], 2 * torch.finfo(x.dtype).eps if x.dtype in HALF else 2e-6)


@pytest.mark.parametrize("scale", [1e-38, 1.0, 1e37])
def test_sums_of_float32_are_those_of_float64(scale):
    """Also where they are larger than float32 can be, and where the elements differ much in size."""
    rng = torch.Generator().manual_seed(0)
    v = (torch.randn(300, 1000, generator=rng) * 4 - 20).exp().clamp_max(10) * scale
    for tensor in (v, v.T, v[:, ::2], v[:1, :5]):
        assert sum_of(tensor).dtype == torch.float64
        torch.testing.assert_close(sum_of(tensor), tensor.double().sum(), rtol=1e-13, atol=0)
        squares = squares_of([tensor, tensor[:3, :3]])
        expected = tensor.double().square().sum() + tensor[:3, :3].double().square().sum()
        torch.testing.assert_close(squares, expected, rtol=1e-13, atol=0)
    assert sum_of(torch.full((2000,), torch.nan)).isnan()
