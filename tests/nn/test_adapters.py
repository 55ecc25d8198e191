"""Adapters of low rank around one trunk."""

from __future__ import annotations

import copy

import pytest
import torch
from arch_cases import TASKS, cases, flat, losses_of, maps, network, planted
from torch import Tensor, nn

from equipoise import Balancer
from equipoise.nn import Adapters, Trunk

KINDS = [kind for variant, kind in cases() if variant == "adapters"]


def heads() -> dict[str, nn.Module]:
    return {t: nn.Linear(5, 2) for t in TASKS}


@pytest.mark.parametrize("kind", KINDS)
def test_every_task_starts_with_the_trunk_itself(kind: str) -> None:
    model = network("adapters", kind).eval()
    inputs, _ = planted(kind)
    for task, output in model(inputs).items():
        assert torch.equal(output, model.heads[task](model.trunk(inputs)))


def test_an_adapter_has_two_thin_matrices_for_each_layer() -> None:
    model = Adapters.over(flat(), heads(), rank=3)
    assert sum(p.numel() for p in model.adapters.parameters()) == 3 * 3 * ((6 + 8) + (8 + 5))
    convolutions = Adapters.over(maps(), heads(), rank=2)
    # 2 -> 4 of 3x3, 4 -> 4 of 1x1, 4 -> 5 of 3x3.
    want = 3 * 2 * ((4 + 18) + (4 + 4) + (5 + 36))
    assert sum(p.numel() for p in convolutions.adapters.parameters()) == want
    thin = Adapters.over(flat(), heads(), rank=100)
    assert [a.down.shape[0] for a in thin.adapters["one"]] == [6, 5]


def test_an_adapted_layer_adds_a_path_of_low_rank_beside_the_layer() -> None:
    torch.manual_seed(0)
    trunk = Trunk.of(lambda: nn.Linear(6, 5), 5)
    model = Adapters.over(trunk, heads(), rank=2, alpha=8.0).double()
    for adapter in model.adapters["two"]:
        nn.init.normal_(adapter.up)
    x = torch.randn(4, 6, dtype=torch.float64)
    (adapter,) = model.adapters["two"]
    want = model.trunk(x) + 8 / 2 * (x @ adapter.down.T) @ adapter.up.T
    assert torch.allclose(model(x)["two"], model.heads["two"](want), atol=1e-12)
    assert torch.allclose(model(x)["one"], model.heads["one"](model.trunk(x)), atol=1e-12)


def test_an_adapted_convolution_goes_through_few_channels() -> None:
    torch.manual_seed(0)
    trunk = Trunk.of(lambda: nn.Conv2d(2, 5, 3, padding=1), 5)
    model = Adapters.over(trunk, {t: nn.Identity() for t in TASKS}, rank=2).double()
    (adapter,) = model.adapters["one"]
    nn.init.normal_(adapter.up)
    x = torch.randn(3, 2, 6, 6, dtype=torch.float64)
    narrow = nn.functional.conv2d(x, adapter.down.reshape(2, 2, 3, 3), padding=1)
    want = model.trunk(x) + nn.functional.conv2d(narrow, adapter.up[:, :, None, None])
    assert torch.allclose(model(x)["one"], want, atol=1e-12)


def test_a_frozen_trunk_stays_and_the_tasks_train_apart() -> None:
    torch.manual_seed(0)
    trained = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 5))
    trunk = Trunk.of(lambda: copy.deepcopy(trained), 5)
    model = Adapters.over(trunk, heads(), frozen=True)
    inputs, targets = planted("flat")
    before = copy.deepcopy(model.trunk.state_dict())
    assert model.shared_parameters() == []
    with pytest.raises(ValueError, match="nothing is shared"):
        Balancer("cagrad", TASKS)(losses_of(model(inputs), targets))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    balancer = Balancer("uw_o", TASKS)
    values = []
    for _ in range(30):
        losses = losses_of(model(inputs), targets)
        values.append(sum(loss.item() for loss in losses.values()))
        balancer(losses).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert values[-1] < 0.5 * values[0]
    assert all(torch.equal(before[n], p) for n, p in model.trunk.state_dict().items())
    assert all(a.up.count_nonzero() for a in model.adapters["three"])


def test_layers_are_chosen_by_name() -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.query = nn.Linear(6, 5)
            self.value = nn.Linear(6, 5)

        def forward(self, x: Tensor) -> Tensor:
            return self.query(x) * self.value(x)

    trunk = Trunk.of(Named, 5)
    assert len(Adapters.over(trunk, heads()).adapters["one"]) == 2
    assert len(Adapters.over(trunk, heads(), only=["query"]).adapters["one"]) == 1
    with pytest.raises(ValueError, match=r"'key' in its name to adapt; its layers are: .*0\.query"):
        Adapters.over(trunk, heads(), only=["key"])
    with pytest.raises(ValueError, match="no linear or convolutional layer to adapt"):
        Adapters.over(Trunk.of(nn.Tanh, 5), heads())


def test_attention_layers_are_adapted_too() -> None:
    """Their output weight is read without a call of the layer."""
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer
    trunk = Trunk.of(lambda: layer(8, 2, 16, dropout=0.0, batch_first=True), 8)
    model = Adapters.over(trunk, {t: nn.Identity() for t in TASKS}, only=["out_proj"])
    (adapter,) = model.adapters["one"]
    nn.init.normal_(adapter.up)
    x = torch.randn(2, 4, 8)
    got = model(x)
    assert not torch.allclose(got["one"], got["two"], atol=1e-3)
    got["one"].sum().backward()
    assert adapter.up.grad is not None
