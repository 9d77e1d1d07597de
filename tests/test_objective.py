"""The loss as a function of its parameters: derivatives, and that nothing else is touched."""

import subprocess
import sys
import warnings

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss
from torch.utils.checkpoint import checkpoint

from adai.errors import UserError
from adai.lab.measure.objective import Objective

pytestmark = pytest.mark.slow

F64 = torch.float64


class Net(nn.Module):
    """Batch norm, dropout, a frozen parameter, and a weight that is used twice."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 3)
        self.second.weight = self.first.weight
        self.norm, self.drop, self.last = nn.BatchNorm1d(3), nn.Dropout(0.5), nn.Linear(3, 4)
        self.last.bias.requires_grad_(False)

    def forward(self, x):
        return self.last(self.drop(self.norm(self.second(self.first(x).tanh()))))


def case(n=11, **options):
    torch.manual_seed(0)
    net, x, y = Net(), torch.randn(n, 3), torch.randint(4, (n,))
    net(x)  # running statistics that are not 0 and 1
    return net, x, y, Objective(net, x, y, dtype=F64, batch=4, **options)


def oracle(net, x, y, *, batch):
    """Loss, gradient and Hessian by plain autograd over the minibatches' losses, of a double copy in that mode."""
    double = net.double().eval()
    double.norm.train(batch)
    params = [p for p in double.parameters() if p.requires_grad]
    parts = [(double(a.double()), b) for a, b in zip(x.split(4), y.split(4), strict=True)]
    loss = sum(cross_entropy(out, b, reduction="sum") for out, b in parts) / len(y)
    flat = torch.cat([g.flatten() for g in torch.autograd.grad(loss, params, create_graph=True)])
    rows = [torch.autograd.grad(g, params, retain_graph=True) for g in flat]
    return loss.item(), flat.detach(), torch.stack([torch.cat([t.flatten() for t in row]) for row in rows])


@pytest.mark.parametrize("mode", ["running", "batch"])
def test_loss_gradient_and_products_are_those_of_plain_autograd(mode):
    net, x, y, objective = case(batch_norm=mode)
    loss, gradient, H = oracle(net, x, y, batch=mode == "batch")
    assert objective.loss() == pytest.approx(loss, rel=1e-12)
    torch.testing.assert_close(objective.gradient(), gradient, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(objective.hessian(), H, rtol=1e-9, atol=1e-11)
    v = torch.randn(objective.size, dtype=F64)
    torch.testing.assert_close(objective.hvp(v), H @ v, rtol=1e-9, atol=1e-11)
    several = torch.stack([v, -v, torch.ones_like(v)])
    torch.testing.assert_close(objective.hvp(several), several @ H, rtol=1e-9, atol=1e-11)
    assert objective.size == 9 + 3 + 3 + 6 + 12  # the shared weight once, the frozen bias not at all
    said = {"running": "running statistics", "batch": "statistics of each minibatch of 4"}
    assert objective.about()["batch_norm"] == said[mode]


def test_sample_gradients_are_a_loop_over_samples():
    net, x, y, objective = case()
    found = torch.cat(list(objective.sample_gradients(rows=3)))
    for i in range(len(y)):
        one = Objective(net, x[i : i + 1], y[i : i + 1], dtype=F64)
        torch.testing.assert_close(found[i], one.gradient(), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(found.mean(0), objective.gradient(), rtol=1e-10, atol=1e-12)
    where = torch.tensor([7, 2, 5])
    torch.testing.assert_close(objective.minibatch_gradient(where), found[where].mean(0), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("mode", ["running", "batch"])
def test_the_callers_model_comes_back_untouched(mode):
    torch.manual_seed(0)
    net, x, y = Net().train(), torch.randn(10, 3), torch.randint(4, (10,))
    net.drop.eval()  # modes that differ
    cross_entropy(net(x), y).backward()
    before = {k: t.clone() for k, t in net.state_dict().items()}
    grads = {k: None if p.grad is None else p.grad.clone() for k, p in net.named_parameters()}
    pointers = [p.data_ptr() for p in net.parameters()]
    state = torch.random.get_rng_state()
    objective = Objective(net, x, y, batch_norm=mode, batch=4, dtype=F64)
    objective.loss(), objective.gradient(), objective.hvp(torch.ones(objective.size)), objective.hessian()
    if mode == "running":
        list(objective.sample_gradients())
    assert torch.equal(state, torch.random.get_rng_state())
    assert net.training
    assert net.norm.training
    assert not net.drop.training
    assert all(torch.equal(t, before[k]) and t.dtype == before[k].dtype for k, t in net.state_dict().items())
    for k, p in net.named_parameters():
        assert p.requires_grad == (k != "last.bias")
        assert (p.grad is None) == (grads[k] is None)
        assert p.grad is None or torch.equal(p.grad, grads[k])
    assert pointers == [p.data_ptr() for p in net.parameters()]
    assert net.norm.track_running_stats


def test_batch_statistics_leave_no_sample_a_gradient_of_its_own():
    *_, objective = case(batch_norm="batch")
    with pytest.raises(UserError, match="no sample has a gradient of its own"):
        list(objective.sample_gradients())


def test_batch_statistics_of_one_sample_are_refused():
    with pytest.raises(UserError, match="9 samples in minibatches of 4 leave a minibatch of one"):
        case(n=9, batch_norm="batch")


@pytest.mark.parametrize("where", ["model", "prepare"])
def test_what_is_done_in_place_stays_out_of_the_callers_data(where):
    net, x, y, _ = case()
    before = x.clone()
    if where == "model":
        objective = Objective(nn.Sequential(nn.ReLU(inplace=True), net), x, y, batch=4)
    else:
        objective = Objective(net, x, y, batch=4, prepare=lambda t: t.div_(3))
    assert objective.loss() == objective.loss()
    objective.gradient()
    assert torch.equal(x, before)


def test_layers_without_running_statistics_take_the_minibatchs_whatever_is_asked_for():
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4, track_running_stats=False))
    x, y = torch.randn(12, 3), torch.randint(4, (12,))
    objective = Objective(net, x, y, batch=4)
    assert objective.about()["batch_norm"] == "statistics of each minibatch of 4"
    with pytest.raises(UserError, match="no sample has a gradient of its own"):
        list(objective.sample_gradients())
    with pytest.raises(UserError, match="leave a minibatch of one"):
        Objective(net, x, y, batch=11)


def test_attention_has_second_derivatives():
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    net = nn.Sequential(layer, nn.Flatten(), nn.Linear(24, 3))
    objective = Objective(net, torch.randn(6, 3, 8), torch.randint(3, (6,)), dtype=F64)
    v = torch.randn(objective.size, dtype=F64)
    h = 1e-5
    finite = (objective.gradient(objective.theta + h * v) - objective.gradient(objective.theta - h * v)) / (2 * h)
    torch.testing.assert_close(objective.hvp(v), finite, rtol=1e-5, atol=1e-7)


def test_a_loss_that_holds_tensors_is_taken_in_the_same_precision():
    net, x, y, _ = case()
    weights = torch.tensor([1.0, 2.0, 3.0, 4.0])
    loss = nn.CrossEntropyLoss(weight=weights)
    found = Objective(net, x, y, loss=loss, dtype=F64).loss()
    assert found == pytest.approx(loss(net.eval()(x), y).item(), rel=1e-5)
    assert loss.weight is weights
    assert weights.dtype == torch.float32


class Root(nn.Module):
    """√Σw², which has no derivative at 0."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.zeros(3, 4))

    def forward(self, x):
        return x @ self.w + self.w.pow(2).sum().sqrt()


def test_what_is_not_finite_is_refused_wherever_it_is():
    net, x, y, _ = case()
    x[-1] = float("nan")
    with pytest.raises(UserError, match="the loss over all 11 samples is nan"):
        Objective(net, x, y, batch=4)
    with pytest.raises(UserError, match="has no finite gradient"):
        Objective(Root(), torch.ones(5, 3), y[:5])


def test_what_is_random_is_refused():
    net, x, y, _ = case()
    with pytest.raises(UserError, match="remove what is random"):
        Objective(net, x, y, prepare=lambda t: t + torch.randn_like(t))
    with torch.no_grad():
        net.first.weight.fill_(float("nan"))
    with pytest.raises(UserError, match="the loss is nan"):
        Objective(net, x, y)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inputs": torch.zeros(2, 3)}, "got 2 and 11"),
        ({"batch": 0}, "batch = 0"),
        ({"model": nn.Identity()}, "no parameter that requires"),
    ],
)
def test_bad_arguments_are_named(change, message):
    net, x, y, _ = case()
    with pytest.raises(ValueError, match=message):
        Objective(**{"model": net, "inputs": x, "targets": y, **change})


def test_float32_and_regression():
    torch.manual_seed(0)
    x, y = torch.randn(20, 3), torch.randn(20, 1)
    objective = Objective(nn.Linear(3, 1), x, y, loss=lambda out, t: mse_loss(out, t) / 2, batch=7)
    ones = torch.cat([x, torch.ones(20, 1)], 1)
    assert objective.theta.dtype == torch.float32
    torch.testing.assert_close(objective.hessian(), ones.T @ ones / 20)


def test_memory_does_not_grow_with_the_number_of_samples():
    """Activations of all 20,000 samples would take 240 MB and more; the data itself is one image, repeated."""
    code = """
import resource, torch
from torch import nn
from adai.lab.measure.objective import Objective
net = nn.Sequential(nn.Linear(4, 1500), nn.Tanh(), nn.Linear(1500, 2))
def work(n):
    o = Objective(net, torch.ones(1, 4).expand(n, 4), torch.zeros(1, dtype=torch.long).expand(n), batch=500)
    o.hvp(torch.ones(o.size))
    o.loss(), o.gradient()
    for rows in o.sample_gradients(rows=200):
        pass
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
small = work(1000)
large = work(20000)
print(large - small)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(result.stdout) < 100  # MB


class Square(torch.autograd.Function):
    """Written in a common way that `torch.func` does not accept."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, g):
        return 2 * ctx.saved_tensors[0] * g


class Squared(nn.Module):
    def forward(self, x):
        return Square.apply(x)


class Checkpointed(nn.Sequential):
    def forward(self, x):
        return checkpoint(super().forward, x, use_reentrant=False)


class LastOutput(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(x.unflatten(1, (2, 2)))[0][:, -1]


def weight_normed():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return nn.utils.weight_norm(nn.Linear(4, 3))


TRAINED_ALL_THE_SAME = {
    "an autograd.Function": lambda: nn.Sequential(nn.Linear(4, 3), Squared(), nn.Linear(3, 3)),
    "checkpointed": lambda: nn.Sequential(Checkpointed(nn.Linear(4, 3), nn.Tanh()), nn.Linear(3, 3)),
    "weight_norm": lambda: nn.Sequential(weight_normed(), nn.Tanh()),
    "parametrized weight_norm": lambda: nn.utils.parametrizations.weight_norm(nn.Linear(4, 3)),
    "LSTM": lambda: LastOutput(nn.LSTM(2, 3, batch_first=True)),
    "GRU": lambda: LastOutput(nn.GRU(2, 3, batch_first=True)),
}


@pytest.mark.parametrize("make", TRAINED_ALL_THE_SAME.values(), ids=TRAINED_ALL_THE_SAME)
def test_a_net_that_trains_is_measured(make):
    torch.manual_seed(0)
    net, x, y = make().double(), torch.randn(5, 4, dtype=F64), torch.tensor([0, 1, 2, 0, 1])
    if any(isinstance(module, nn.Linear) and not module.weight.is_leaf for module in net.modules()):
        net(x)  # the weight is computed anew, in float64
    objective = Objective(net, x, y, batch=3)
    parameters = list(net.parameters())
    each = [torch.cat([g.flatten() for g in torch.autograd.grad(cross_entropy(net(a), b), parameters)])
            for a, b in zip(x.split(1), y.split(1), strict=True)]  # fmt: skip
    assert torch.allclose(torch.cat(list(objective.sample_gradients())), torch.stack(each))
    assert torch.allclose(objective.gradient(), torch.stack(each).mean(0))
    v, h = torch.randn(objective.size, dtype=F64), 1e-5
    difference = (objective.gradient(objective.theta + h * v) - objective.gradient(objective.theta - h * v)) / (2 * h)
    assert torch.allclose(objective.hvp(v), difference, atol=1e-7)
    assert torch.allclose(objective.hessian() @ v, objective.hvp(v))
