"""Layers that are not plain: complex, sparse, recurrent, normalised, checkpointed."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from one_by_one import TASKS, Model, assert_left, balancer_of, expected, method_of, of_model, run
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

WAYS = [
    *((m, "losses", "scalar") for m in ("ew", "uw_o", "famo")),
    *((m, "parameters", c) for m in ("mgda", "nash_mtl", "db_mtl") for c in ("scalar", "backward")),
    *((m, "parameters", "scalar") for m in ("pcgrad", "cagrad", "upgrad", "rgw")),
    *((m, "features", "scalar") for m in ("mgda", "nash_mtl", "upgrad", "rgw")),
]
every_way = pytest.mark.parametrize(("method", "route", "call"), WAYS)


class Layered(nn.Module):
    """Any trunk that returns ``Tensor[N, 4]``, and three heads."""

    def __init__(self, trunk: Callable[[], nn.Module], inputs: Tensor) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.trunk = trunk().double()
        self.heads = nn.ModuleList(nn.Linear(4, 1) for _ in TASKS).double()
        self.inputs = inputs

    def losses(self, views: Mapping[str, Tensor]) -> dict[str, Tensor]:
        a, b, c = (head(views[t]) for t, head in zip(TASKS, self.heads, strict=True))
        return {"a": 8 * (a - 1).square().mean(), "b": (b + 2).abs().mean(), "c": c.exp().mean()}

    def step(self, balancer: Any, route: str, call: Any = "scalar") -> None:
        z = self.trunk(self.inputs)
        views = balancer.share(z) if route == "features" else dict.fromkeys(TASKS, z)
        run(balancer, self.losses(views), call)

    def want(self, method: Any, route: str) -> dict[Tensor, Tensor]:
        z = self.trunk(self.inputs)
        losses = self.losses(dict.fromkeys(TASKS, z))
        parts = [list(self.trunk.parameters()), list(self.heads.parameters())]
        return expected(method, losses, *parts, features=[z] if route == "features" else [])


class Spectral(nn.Module):
    """Complex weights; or the same numbers as pairs of real ones."""

    def __init__(self, paired: bool) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(4)
        pairs = torch.randn(6, 4, 2, dtype=torch.float64, generator=generator)
        self.weight = nn.Parameter(pairs if paired else torch.view_as_complex(pairs))

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight
        if not weight.is_complex():
            weight = torch.view_as_complex(weight)
        out = x.to(weight.dtype) @ weight
        return out.real.tanh() + 0.5 * out.imag.sin()

    def _apply(self, function: Any, recurse: bool = True) -> Any:
        return self


@every_way
def test_complex_parameters_are_pairs_of_real_ones(method: str, route: str, call: Any) -> None:
    x = torch.randn(7, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    pairs, model = Layered(lambda: Spectral(True), x), Layered(lambda: Spectral(False), x)
    want = list(pairs.want(method_of(method), route).values())
    try:
        model.step(balancer_of(method), route, call)
    except (ValueError, TypeError, NotImplementedError) as error:
        assert "complex" in str(error) and route == "parameters"
        return
    assert_left(
        {
            p: torch.view_as_complex(w) if p.is_complex() else w
            for p, w in zip(model.parameters(), want, strict=True)
            if not p.is_complex()
        }
    )
    got = torch.view_as_real(model.trunk.weight.grad)
    torch.testing.assert_close(got, want[0], rtol=1e-9, atol=1e-13)


class Words(nn.Module):
    def __init__(self, sparse: bool) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, 4, sparse=sparse)

    def forward(self, index: Tensor) -> Tensor:
        return self.embedding(index).mean(1)


@every_way
def test_sparse_gradients_are_those_of_the_dense_layer(method: str, route: str, call: Any) -> None:
    index = torch.tensor([[0, 2], [2, 5], [5, 5], [9, 0]])
    dense, model = Layered(lambda: Words(False), index), Layered(lambda: Words(True), index)
    want = list(dense.want(method_of(method), route).values())
    try:
        model.step(balancer_of(method), route, call)
    except (ValueError, TypeError, NotImplementedError) as error:
        assert "sparse" in str(error) and route == "parameters"
        return
    gradient = model.trunk.embedding.weight.grad
    assert gradient.is_sparse or route == "parameters"
    torch.testing.assert_close(gradient.to_dense(), want[0], rtol=1e-9, atol=1e-13)
    assert_left(dict(zip(model.heads.parameters(), want[1:], strict=True)))
    if gradient.is_sparse:
        before = model.trunk.embedding.weight.detach().clone()
        torch.optim.SparseAdam(model.trunk.parameters(), lr=0.1).step()
        moved = (model.trunk.embedding.weight.detach() != before).any(1)
        assert moved[[0, 2, 5, 9]].all() and not moved[[1, 3, 4, 6, 7, 8, 10]].any()


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.Module]) -> None:
        super().__init__()
        self.cell = kind(3, 4, num_layers=2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.cell(x)[0][:, -1]


def normalised() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 5, bias=False), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 4))


TRUNKS = {
    "RNN": (lambda: Recurrent(nn.RNN), (6, 5, 3)),
    "LSTM": (lambda: Recurrent(nn.LSTM), (6, 5, 3)),
    "GRU": (lambda: Recurrent(nn.GRU), (6, 5, 3)),
    "BatchNorm": (normalised, (9, 3)),
}
FEW = [way for way in WAYS if way[0] in ("uw_o", "mgda", "nash_mtl")]


@pytest.mark.parametrize("trunk", TRUNKS)
@pytest.mark.parametrize(
    ("method", "route", "call"), [w for w in WAYS if w[0] in ("uw_o", "mgda", "nash_mtl")]
)
def test_layers_with_a_memory(trunk: str, method: str, route: str, call: Any) -> None:
    make, shape = TRUNKS[trunk]
    x = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    model = Layered(make, x)
    other = copy.deepcopy(model)
    want = list(model.want(method_of(method), route).values())
    other.step(balancer_of(method), route, call)
    assert_left(dict(zip(other.parameters(), want, strict=True)))
    # The reference made one forward pass, and so must the step: running statistics tell.
    for ours, theirs in zip(other.buffers(), model.buffers(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("reentrant", [False, True], ids=["plain", "reentrant"])
@every_way
def test_a_checkpointed_trunk(method: str, route: str, call: Any, reentrant: bool) -> None:
    """A trunk that is run again in the backward pass: right, or refused with the remedy."""
    model = Model()
    want = of_model(method_of(method), model, features=route == "features")
    balancer = balancer_of(method)
    # Re-entrant checkpoints learn nothing unless an input requires a gradient.
    x = model.x.clone().requires_grad_(reentrant)
    z = checkpoint(model.trunk, x, use_reentrant=reentrant)
    views = balancer.share(z) if route == "features" else dict.fromkeys(TASKS, z)
    try:
        run(balancer, model.by_views(views), call)
    except (ValueError, RuntimeError) as error:
        assert reentrant and route == "parameters" and "use_reentrant=False" in str(error)
        return
    assert_left(want)


@pytest.mark.parametrize("reentrant", [False, True], ids=["plain", "reentrant"])
@every_way
def test_checkpointed_heads(method: str, route: str, call: Any, reentrant: bool) -> None:
    model = Model()
    want = of_model(method_of(method), model, features=route == "features")
    balancer = balancer_of(method)
    z = model.trunk(model.x)
    views = balancer.share(z) if route == "features" else dict.fromkeys(TASKS, z)
    outputs = [
        checkpoint(head, views[t], use_reentrant=reentrant)
        for t, head in zip(TASKS, model.heads, strict=True)
    ]
    try:
        run(balancer, model.losses(outputs), call)
    except (ValueError, RuntimeError) as error:
        assert reentrant and route != "losses" and "use_reentrant=False" in str(error)
        return
    assert_left(want)
