"""Heads that are computed as one."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from arch_cases import TASKS, flat
from torch import Tensor, nn

from equipoise import Balancer
from equipoise.nn import BatchedHeads, CrossStitch, MMoE, TrunkAndHeads, architecture
from equipoise.nn.batched_heads import HeadsTogether

NAMES = [f"attribute {n}" for n in range(40)]


def linear(width: int = 5) -> nn.Module:
    return nn.Linear(width, 2)


def deep(width: int = 5) -> nn.Module:
    return nn.Sequential(nn.Linear(width, 4), nn.ReLU(), nn.LayerNorm(4), nn.Linear(4, 2))


def pixels(width: int = 5) -> nn.Module:
    return nn.Sequential(nn.Conv2d(width, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 2, 1))


@pytest.mark.parametrize(
    ("make", "shape"), [(linear, (6, 5)), (deep, (6, 5)), (pixels, (3, 5, 4, 4))]
)
@pytest.mark.parametrize("alike", [True, False], ids=["one input", "inputs apart"])
def test_outputs_and_gradients_are_those_of_separate_heads(
    make: type, shape: tuple[int, ...], alike: bool
) -> None:
    torch.manual_seed(0)
    heads = {name: make().double() for name in NAMES}
    batched = BatchedHeads(copy.deepcopy(heads))
    one = torch.randn(shape, dtype=torch.float64)
    z = {n: one if alike else torch.randn_like(one) for n in NAMES}
    mine = {id(t): t.clone().requires_grad_() for t in z.values()}
    theirs = {id(t): t.clone().requires_grad_() for t in z.values()}
    got = batched(mine[id(one)] if alike else {n: mine[id(z[n])] for n in NAMES})
    want = {n: heads[n](theirs[id(z[n])]) for n in NAMES}
    for outputs in (got, want):
        sum((k + 1) * outputs[n].square().mean() for k, n in enumerate(NAMES)).backward()
    for name in NAMES:
        assert torch.allclose(got[name], want[name], atol=1e-6, rtol=0)
        for p, q in zip(batched[name].parameters(), heads[name].parameters(), strict=True):
            assert torch.allclose(p.grad, q.grad, atol=1e-6, rtol=0)
    for key in mine:
        assert torch.allclose(mine[key].grad, theirs[key].grad, atol=1e-6, rtol=0)


def test_parameters_and_states_are_those_of_separate_heads() -> None:
    heads = {name: linear() for name in NAMES}
    batched = BatchedHeads(heads)
    assert [*batched.state_dict()] == [*nn.ModuleDict(heads).state_dict()]
    for again in (copy.deepcopy(batched), pickle.loads(pickle.dumps(batched))):
        x = torch.randn(3, 5)
        assert all(torch.equal(again(x)[n], batched(x)[n]) for n in NAMES)


@pytest.mark.parametrize("name", ["hard_sharing", "cross_stitch", "mmoe", "ltb"])
@pytest.mark.parametrize("features", [False, True], ids=["parameters", "features"])
def test_a_balancer_tells_batched_heads_from_the_trunk(name: str, features: bool) -> None:
    gradients = []
    for batched in (False, True):
        torch.manual_seed(0)
        heads = {t: linear() for t in TASKS}
        model = architecture(name, flat(), BatchedHeads(heads) if batched else heads).double()
        # Copies that no task drew have gradients of zero, as heads have for other tasks.
        named = model.shared_parameters() if name == "ltb" and not features else None
        balancer = Balancer("mgda", TASKS, shared=named)
        x = torch.randn(8, 6, dtype=torch.float64)
        outputs = model(x, share=balancer.share if features else None)
        losses = {t: (outputs[t] - k).square().mean() for k, t in enumerate(TASKS)}
        balancer(losses).backward()
        gradients.append([p.grad for p in model.parameters()])
        if not features:
            assert set(balancer.pipeline.shown.shared) == set(model.shared_parameters())
            met = "meet above the heads" in balancer.explain()
            assert met == (batched and named is None)
    assert all(
        torch.allclose(a, b, atol=1e-8) for a, b in zip(*gradients, strict=True) if a is not None
    )


def test_some_of_the_tasks_may_be_asked_for() -> None:
    torch.manual_seed(0)
    model = TrunkAndHeads(nn.Identity(), BatchedHeads({t: deep() for t in TASKS}))
    x = torch.randn(4, 5)
    every = model(x)
    for tasks in (["three"], ["three", "one"]):
        got = model(x, tasks=tasks)
        assert list(got) == tasks
        assert all(torch.allclose(got[t], every[t], atol=1e-6) for t in tasks)


def test_dropout_differs_from_head_to_head() -> None:
    torch.manual_seed(0)
    make = lambda: nn.Sequential(nn.Dropout(0.5), nn.Identity())  # noqa: E731
    with_weights = {t: nn.Sequential(make(), nn.Linear(50, 50)) for t in TASKS}
    for head in with_weights.values():
        nn.init.eye_(head[1].weight)
        nn.init.zeros_(head[1].bias)
    outputs = BatchedHeads(with_weights)(torch.ones(1, 50))
    assert not torch.equal(outputs["one"], outputs["two"])


def test_heads_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match="task 'b' differs in structure"):
        BatchedHeads({"a": nn.Linear(5, 2), "b": nn.Linear(5, 3)})
    with pytest.raises(ValueError, match="task 'a' has buffers"):
        BatchedHeads({t: nn.Sequential(nn.Linear(5, 2), nn.BatchNorm1d(2)) for t in "ab"})
    with pytest.raises(ValueError, match="one head or more"):
        BatchedHeads({})

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(5, 2)

        def forward(self, x: tuple[Tensor, Tensor]) -> Tensor:
            return self.linear(x[0])

    heads = BatchedHeads({t: Twice() for t in "ab"})
    one, two = (torch.randn(3, 5), torch.zeros(3)), (torch.randn(3, 5), torch.zeros(3))
    assert heads({"a": one, "b": one})["a"].shape == (3, 2)
    with pytest.raises(ValueError, match="give the mapping of heads itself"):
        heads({"a": one, "b": two})


@pytest.mark.parametrize("kind", [CrossStitch, MMoE])
def test_features_apart_are_stacked(kind: type) -> None:
    torch.manual_seed(0)
    heads = {t: deep() for t in TASKS}
    model = kind.over(flat(), heads)
    other = copy.deepcopy(model)
    other.heads = BatchedHeads(dict(other.heads))
    x = torch.randn(4, 6)
    got, want = other(x), model(x)
    assert all(torch.allclose(got[t], want[t], atol=1e-6) for t in TASKS)


@pytest.mark.parametrize("route", ["parameters", "features"])
@pytest.mark.parametrize("way", ["all", "one absent", "other order"])
def test_a_balancer_goes_through_batched_heads_once(
    way: str, route: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes: list[int] = []
    alone = HeadsTogether.backward

    def counted(ctx: object, *gradients: Tensor) -> object:
        passes.append(len(gradients))
        return alone(ctx, *gradients)

    monkeypatch.setattr(HeadsTogether, "backward", staticmethod(counted))
    found = []
    for batched in (False, True):
        torch.manual_seed(0)
        heads = {name: deep() for name in NAMES[:8]}
        trunk = nn.Sequential(nn.Linear(6, 7), nn.LayerNorm(7), nn.Linear(7, 5), nn.Tanh()).double()
        model = (BatchedHeads(heads) if batched else nn.ModuleDict(heads)).double()
        balancer = Balancer("upgrad", NAMES[:8], route=route)
        for _ in range(3):
            z = trunk(torch.randn(9, 6, dtype=torch.float64))
            views = dict(balancer.share(z))
            out = model(views) if batched else {n: model[n](views[n]) for n in heads}
            losses = {n: (out[n] - k).square().mean() for k, n in enumerate(heads)}
            if way == "one absent":
                losses["attribute 3"] = None
            if way == "other order":
                losses = dict(reversed(losses.items()))
            passes.clear()
            balancer(losses).backward()
            assert len(passes) == (batched and 1)
        found.append([p.grad for p in [*trunk.parameters(), *model.parameters()]])
    for one, other in zip(*found, strict=True):
        assert (one is None) == (other is None) or float(
            one.norm() if other is None else other.norm()
        ) == 0
        if one is not None and other is not None:
            assert (one - other).norm() <= 1e-10 * other.norm()


def test_a_loss_of_two_outputs_is_no_slot_of_its_own() -> None:
    found = []
    for batched in (False, True):
        torch.manual_seed(0)
        heads = {name: linear() for name in ("a", "b", "c")}
        trunk = nn.Linear(6, 5).double()
        model = (BatchedHeads(heads) if batched else nn.ModuleDict(heads)).double()
        z = trunk(torch.randn(9, 6, dtype=torch.float64))
        out = model(z) if batched else {n: model[n](z) for n in heads}
        losses = {n: out[n].square().mean() for n in heads}
        losses["a"] = losses["a"] + (out["a"] - out["b"]).square().mean()
        balancer = Balancer("mgda", [*heads])
        balancer(losses).backward()
        found.append(trunk.weight.grad)
    assert torch.allclose(*found)


@pytest.mark.parametrize("memory", ["fast", "low"])
def test_a_head_whose_loss_was_absent_trains_on(memory: str) -> None:
    torch.manual_seed(0)
    heads = BatchedHeads({t: linear() for t in TASKS}).double()
    trunk = nn.Linear(6, 5).double()
    balancer = Balancer("mgda", TASKS, memory=memory, route="parameters")
    for step in range(2):
        z = torch.tanh(trunk(torch.ones(3, 6, dtype=torch.float64)))
        out = heads(dict(balancer.share(z)))
        losses = {t: out[t].square().mean() for t in TASKS}
        plain = heads["two"](z.detach())
        own = torch.autograd.grad(plain.square().mean(), [*heads["two"].parameters()])
        heads.zero_grad()
        balancer({**losses, **({} if step else {"two": None})}).backward()
    for p, want in zip(heads["two"].parameters(), own, strict=True):
        assert torch.allclose(p.grad, want)


@pytest.mark.parametrize("share", [False, True])
def test_what_lies_between_features_and_batched_heads_is_trained(share: bool) -> None:
    found = []
    for batched in (False, True):
        torch.manual_seed(0)
        heads = {t: linear().double() for t in TASKS}
        between = nn.ModuleDict({t: nn.Linear(5, 5) for t in TASKS}).double()
        scales = nn.ParameterDict({t: torch.zeros((), dtype=torch.float64) for t in TASKS[:2]})
        trunk = nn.Linear(6, 5).double()
        model = BatchedHeads(heads) if batched else nn.ModuleDict(heads)
        balancer = Balancer("mgda", TASKS, route="parameters")
        for _ in range(2):
            z = torch.tanh(trunk(torch.ones(3, 6, dtype=torch.float64)))
            views = balancer.share(z) if share else dict.fromkeys(TASKS, z)
            read = {t: between[t](views[t]) for t in TASKS}
            out = model(read) if batched else {t: model[t](read[t]) for t in TASKS}
            losses = {t: (out[t] - k).square().mean() for k, t in enumerate(TASKS)}
            losses |= {t: losses[t] * scales[t].exp() for t in scales}
            balancer(losses).backward()
        parts = (trunk, between, scales, nn.ModuleDict(heads))
        found.append([p.grad for part in parts for p in part.parameters()])
    for one, other in zip(*found, strict=True):
        assert torch.allclose(one, other)


class Common(nn.Module):
    """A head of which every other head has a layer, too."""

    def __init__(self, shared: nn.Module) -> None:
        super().__init__()
        self.shared = shared
        self.out = nn.Linear(5, 2)

    def forward(self, z: Tensor) -> Tensor:
        return self.out(torch.tanh(self.shared(z)))


def test_a_layer_that_all_heads_have_is_shared() -> None:
    found = []
    for batched, share in ((False, False), (True, False), (True, True)):
        torch.manual_seed(0)
        layer, trunk = nn.Linear(5, 5), nn.Linear(6, 5).double()
        heads = {t: Common(layer).double() for t in TASKS}
        model = BatchedHeads(heads) if batched else nn.ModuleDict(heads)
        balancer = Balancer("mgda", TASKS, route="parameters")
        z = trunk(torch.randn(4, 6, dtype=torch.float64))
        views = dict(balancer.share(z)) if share else dict.fromkeys(TASKS, z)
        out = model(views) if batched else {t: model[t](views[t]) for t in TASKS}
        balancer({t: (out[t] - k).square().mean() for k, t in enumerate(TASKS)}).backward()
        found.append(layer.weight.grad)
    assert torch.allclose(found[0], found[1])
    assert torch.allclose(found[0], found[2])


def test_heads_that_write_to_their_input_or_return_more_than_a_tensor() -> None:
    heads = {t: nn.Sequential(nn.ReLU(inplace=True), linear()) for t in TASKS}
    z = torch.randn(4, 5, requires_grad=True)
    got = BatchedHeads(heads)(z * 1)
    want = {t: heads[t](z * 1) for t in TASKS}
    assert all(torch.allclose(got[t], want[t], atol=1e-6) for t in TASKS)

    class Several(nn.Linear):
        def forward(self, x: Tensor) -> dict[str, Tensor]:  # type: ignore[override]
            return {"mean": super().forward(x)}

    with pytest.raises(ValueError, match="return one tensor each"):
        BatchedHeads({t: Several(5, 2) for t in TASKS})(z)
