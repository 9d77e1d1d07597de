import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tests run side by side; more threads would spin against each other

import pytest
import torch

from tests import engines
from tests.ranks import Ranks

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # read when Triton is imported, by whichever test that may be


@pytest.fixture(params=engines.each("loop", "foreach", "fused", "triton"))
def engine(request):
    """The constructor's options that select each engine; those of other ones where a test names them."""
    with engines.selected(request.param) as options:
        yield options


@pytest.fixture
def steps(request):
    """How many a long run of the test's engine has: where Triton is interpreted one takes as long as ten elsewhere."""
    return 20 if request.node.callspec.params["engine"] in engines.TRITON else 200


@pytest.fixture
def tensors():
    """A maker of parameters with random values and gradients, the same at every call with the same seed."""

    def make(shapes=((3, 4), (5,)), dtype=torch.float64, seed=0):
        rng = torch.Generator().manual_seed(seed)
        params = [torch.randn(shape, generator=rng, dtype=torch.float64).to(dtype).requires_grad_() for shape in shapes]
        for p in params:
            p.grad = torch.randn(p.shape, generator=rng, dtype=torch.float64).to(dtype)
        return params

    return make


@pytest.fixture(scope="session")
def ranks():
    """Ranks by their number, started when a test first asks for so many."""
    started = {}

    def of(size):
        if size not in started:
            started[size] = Ranks(size)
        return started[size]

    yield of
    for each in started.values():
        each.close()
