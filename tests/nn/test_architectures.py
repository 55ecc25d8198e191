"""What holds for every architecture: training, routes, who shares what, copies."""

from __future__ import annotations

import copy
import io
import pickle
import re
from typing import Any

import pytest
import torch
from arch_cases import (
    HANDLES,
    KINDS,
    TASKS,
    VARIANTS,
    cases,
    flat,
    losses_of,
    network,
    planted,
)
from torch import Tensor, nn

from equipoise import Balancer
from equipoise.nn import ARCHITECTURES, MultiTask, Trunk, TrunkAndHeads, architecture


def found_by(balancer: Balancer) -> set[Tensor]:
    return set(balancer.pipeline.shown.shared)


def told(balancer: Balancer) -> tuple[int, int]:
    """Tensors and entries that ``explain`` names."""
    numbers = re.search(r"shared +([\d,]+) tensors, ([\d,]+) entries", balancer.explain())
    assert numbers, balancer.explain()
    return tuple(int(n.replace(",", "")) for n in numbers.groups())  # type: ignore[return-value]


def in_turn(model: MultiTask, inputs: Any) -> dict[str, Tensor]:
    """The outputs where every task has inputs of its own."""
    return {task: model(inputs, tasks=[task])[task] for task in TASKS}


def test_every_name_is_tried() -> None:
    assert {name for name, _ in VARIANTS.values()} == set(ARCHITECTURES)


@pytest.mark.parametrize("method", ["uw_o", "cagrad", "features"])
@pytest.mark.parametrize("variant", [v for v in VARIANTS if " " not in v or v == "mtan resnet"])
def test_training_lowers_the_losses(variant: str, method: str) -> None:
    if method == "features" and variant not in HANDLES:
        pytest.skip("nothing that all tasks read")
    kind = "pooled" if variant.startswith("mtan") else "flat"
    model = network(variant, kind)
    inputs, targets = planted(kind)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.03)
    balancer = Balancer("mgda" if method == "features" else method, TASKS)
    share = balancer.share if method == "features" else None
    values = []
    for _ in range(25):
        losses = losses_of(model(inputs, share=share), targets)
        values.append(sum(loss.item() for loss in losses.values()))
        balancer(losses).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert sum(values[-4:]) < 0.6 * sum(values[:4])
    if method == "features":
        assert "features" in balancer.explain().splitlines()[2]


@pytest.mark.parametrize(("variant", "kind"), cases())
def test_the_shared_parameters_are_those_that_the_balancer_finds(variant: str, kind: str) -> None:
    model = network(variant, kind)
    inputs, targets = planted(kind)
    shared = model.shared_parameters()
    losses = losses_of(model(inputs), targets)
    balancer = Balancer("cagrad", TASKS)
    if variant == "cross_stitch never":
        assert shared == []
        with pytest.raises(ValueError, match="nothing is shared"):
            balancer(losses)
        return
    balancer(losses)
    assert found_by(balancer) == set(shared)
    assert told(balancer) == (len(shared), sum(p.numel() for p in shared))


@pytest.mark.parametrize(("variant", "kind"), cases("flat", "pooled"))
def test_inputs_of_each_tasks_own_find_the_same_shared_parameters(variant: str, kind: str) -> None:
    if variant == "cross_stitch never":
        pytest.skip("nothing is shared")
    model = network(variant, kind)
    inputs, targets = planted(kind)
    balancer = Balancer("cagrad", TASKS)
    balancer(losses_of(in_turn(model, inputs), targets))
    assert found_by(balancer) == set(model.shared_parameters())


@pytest.mark.parametrize(("variant", "kind"), cases())
def test_one_task_at_a_time_gives_the_outputs_of_all(variant: str, kind: str) -> None:
    model = network(variant, kind).eval()
    inputs, _ = planted(kind)
    together = model(inputs)
    for task, output in in_turn(model, inputs).items():
        assert list(model(inputs, tasks=[task])) == [task]
        assert torch.allclose(output, together[task], atol=1e-6)


@pytest.mark.parametrize(("variant", "kind"), cases("flat", "pooled"))
def test_one_task_alone_trains(variant: str, kind: str) -> None:
    """The single-task reference."""
    model = network(variant, kind, ("one",))
    inputs, targets = planted(kind, ("one",))
    assert model.shared_parameters() == []
    optimizer = torch.optim.Adam(model.parameters(), lr=0.03)
    balancer = Balancer("ew", ["one"])
    values = []
    for _ in range(10):
        losses = losses_of(model(inputs), targets)
        values.append(losses["one"].item())
        balancer(losses).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert values[-1] < 0.8 * values[0]


@pytest.mark.parametrize("variant", sorted(HANDLES))
def test_the_features_route_has_everything_below_its_features(
    variant: str, recwarn: pytest.WarningsRecorder
) -> None:
    """Exact from the features down, gradients are those of the parameters route; nothing goes past."""
    inputs, targets = planted("flat")
    gradients = []
    for with_share in (False, True):
        model = network(variant, "flat").double()
        balancer = Balancer("mgda", TASKS, route="parameters")
        torch.manual_seed(5)
        outputs = model(inputs.double(), share=balancer.share if with_share else None)
        balancer(losses_of(outputs, targets)).backward()
        gradients.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        assert torch.allclose(gradient, gradients[1][name], atol=1e-9), name
    model = network(variant, "flat")
    balancer = Balancer("mgda", TASKS)
    balancer(losses_of(model(inputs, share=balancer.share), targets)).backward()
    assert not [w for w in recwarn if "past" in str(w.message)]


def test_a_mask_beside_the_features_is_not_shared_out() -> None:
    gradients = []
    for with_share in (False, True):
        model = network("hard_sharing", "tokens").double()
        (ids, mask), targets = planted("tokens")
        balancer = Balancer("mgda", TASKS, route="parameters")
        share = balancer.share if with_share else None
        balancer(losses_of(model((ids, mask.double()), share=share), targets)).backward()
        gradients.append([p.grad for p in model.parameters()])
    assert all(torch.allclose(a, b, atol=1e-9) for a, b in zip(*gradients, strict=True))

    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(6, 5)

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"z": self.linear(x), "seen": x}

    seen: list[Any] = []

    def share(features: Any) -> Any:
        seen.append(features)
        return dict.fromkeys(TASKS, features)

    out = TrunkAndHeads(Named(), {t: nn.Identity() for t in TASKS})(torch.randn(3, 6), share)
    assert [list(features) for features in seen] == [["z"]]
    assert list(out["two"]) == ["z", "seen"]


@pytest.mark.parametrize("variant", sorted(set(VARIANTS) - HANDLES))
def test_share_is_refused_where_tasks_read_nothing_in_common(variant: str) -> None:
    kind = "pooled" if variant.startswith("mtan") else "flat"
    balancer = Balancer("mgda", TASKS)
    with pytest.raises(ValueError, match="route='parameters'"):
        network(variant, kind)(planted(kind)[0], share=balancer.share)


@pytest.mark.parametrize("variant", sorted(HANDLES))
def test_share_may_number_the_views(variant: str) -> None:
    inputs, _ = planted("flat")
    model = network(variant, "flat").eval()
    by_name, plain = model(inputs, share=lambda z: dict.fromkeys(TASKS, z)), model(inputs)
    numbered = model(inputs, share=lambda z: (z, z, z), tasks=["two"])
    assert all(torch.equal(by_name[t], plain[t]) for t in TASKS)
    assert torch.equal(numbered["two"], plain["two"])
    with pytest.raises(ValueError, match="share gave 2 views"):
        model(inputs, share=lambda z: (z, z))
    with pytest.raises(ValueError, match="no view for task 'three'"):
        model(inputs, share=lambda z: dict.fromkeys(TASKS[:2], z))


@pytest.mark.parametrize("variant", VARIANTS)
def test_copies_and_saved_states_give_the_same_outputs(variant: str) -> None:
    kind = "pooled" if variant.startswith("mtan") else "flat"
    model = network(variant, kind)
    inputs, targets = planted(kind)
    sum(losses_of(model(inputs), targets).values()).backward()
    again = network(variant, kind, seed=3)
    again.load_state_dict(model.state_dict())
    with io.BytesIO() as file:
        # Trunks and options are gone once a network is built: nothing in it is a function of this test.
        pickle.dump(model, file)
        file.seek(0)
        others = [again, copy.deepcopy(model), pickle.load(file)]
    want = model.eval()(inputs)
    for other in others:
        got = other.eval()(inputs)
        assert all(torch.equal(got[t], want[t]) for t in TASKS)
        assert len(other.shared_parameters()) == len(model.shared_parameters())


@pytest.mark.parametrize("name", [name for name in ARCHITECTURES if name != "hard_sharing"])
def test_a_trunk_that_hands_out_the_same_modules_is_refused(name: str) -> None:
    if name in ("mtan", "adapters"):
        pytest.skip("needs no copies")
    stages = flat().stages()
    with pytest.raises(ValueError, match="the same modules at every call"):
        architecture(name, Trunk(lambda: stages, (8, 5)), {t: nn.Linear(5, 1) for t in TASKS})


def test_channels_and_stages_have_to_agree() -> None:
    trunk = Trunk(flat().stages, (5,))
    with pytest.raises(ValueError, match="2 stages and 1 entries in channels"):
        architecture("cross_stitch", trunk, {t: nn.Linear(5, 1) for t in TASKS})
    wrong = Trunk(flat().stages, (8, 6))
    model = architecture("nddr", wrong, {t: nn.Linear(5, 1) for t in TASKS})
    with pytest.raises(ValueError, match=r"returned \[12, 5\].*6 channels"):
        model(torch.randn(12, 6))


def test_unknown_tasks_and_names_that_torch_cannot_store_are_refused() -> None:
    model = network("hard_sharing", "flat")
    with pytest.raises(ValueError, match="no task 'four'; it has: one, two, three"):
        model(planted("flat")[0], tasks=["four"])
    for name in ("keys", "a.b"):
        with pytest.raises(ValueError, match="rename the task"):
            TrunkAndHeads(nn.Identity(), {name: nn.Identity()})
    with pytest.raises(ValueError, match="a head for one task"):
        TrunkAndHeads(nn.Identity(), {})


def test_a_stage_that_returns_no_tensor_is_named() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(6, 5)

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"z": self.linear(x)}

    trunk = Trunk.of(Odd, 5)
    for name in ("cross_stitch", "mmoe", "ple", "ltb"):
        model = architecture(name, trunk, {t: nn.Linear(5, 1) for t in TASKS})
        with pytest.raises(ValueError, match="returned a dict; let it return a tensor"):
            model(torch.randn(3, 6))


def test_classes_are_found_by_name_and_only_when_asked() -> None:
    import equipoise.nn

    for module, _, kind in (place.partition(":") for place in ARCHITECTURES.values()):
        assert getattr(equipoise.nn, kind).__module__ == f"equipoise.nn.{module}"
        assert kind in equipoise.nn.__all__
    with pytest.raises(AttributeError, match="no attribute 'MMoe'"):
        _ = equipoise.nn.MMoe
    with pytest.raises(ValueError, match="did you mean 'cross_stitch'"):
        architecture("cross_stich", flat(), {})
    with pytest.raises(ValueError, match="it takes: experts, gate, inputs, bottom"):
        architecture("mmoe", flat(), {}, expert=2)


def test_all_kinds_are_used() -> None:
    assert {kind for _, kind in cases()} == set(KINDS)
