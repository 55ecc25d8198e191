"""Cross-stitch units."""

from __future__ import annotations

import pytest
import torch
from arch_cases import TASKS, flat, losses_of, maps, planted
from torch import nn

from equipoise.nn import CrossStitch, MultiTask, Trunk, architecture


def entries(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def stitched(trunk: Trunk, tasks: tuple[str, ...] = TASKS, width: int = 5, **options) -> MultiTask:
    torch.manual_seed(0)
    heads = {t: nn.Linear(width, 2) for t in tasks}
    model = architecture("cross_stitch", trunk, heads, **options)
    assert isinstance(model, CrossStitch)
    return model


@pytest.mark.parametrize(("channelwise", "units"), [(False, 2 * 9), (True, (8 + 5) * 9)])
def test_there_are_k_copies_and_k_by_k_units_a_stitch(channelwise: bool, units: int) -> None:
    model = stitched(flat(), channelwise=channelwise)
    assert entries(model) == 3 * (6 * 8 + 8 + 8 * 5 + 5) + units + 3 * (5 * 2 + 2)


def test_units_start_as_in_the_paper() -> None:
    model = stitched(flat(), ("a", "b"))
    units = torch.stack([model.mixers["0"][t].weight for t in ("a", "b")])
    assert torch.allclose(units, torch.tensor([[0.9, 0.1], [0.1, 0.9]]))
    rows = [model.mixers["1"][t].weight for t in ("a", "b")]
    assert torch.allclose(torch.stack(rows).sum(1), torch.ones(2))


def test_identity_units_are_networks_apart() -> None:
    model = stitched(flat(), own=1.0).double()
    inputs, targets = planted("flat")
    inputs, targets = inputs.double(), {t: y.double() for t, y in targets.items()}
    sum(losses_of(model(inputs), targets).values()).backward()
    for task in TASKS:
        column = nn.Sequential(*model.columns[task], model.heads[task])
        got = {n: p.grad.clone() for n, p in column.named_parameters()}
        column.zero_grad()
        output = column(inputs)
        assert torch.equal(output, model(inputs)[task])
        (output - targets[task]).square().mean().backward()
        for name, parameter in column.named_parameters():
            assert torch.allclose(parameter.grad, got[name], atol=1e-12)
            parameter.grad = None


@pytest.mark.parametrize("channelwise", [False, True])
def test_maps_are_mixed_entry_by_entry(channelwise: bool) -> None:
    """Against loops over tasks and channels."""
    torch.manual_seed(0)
    heads = {t: nn.Conv2d(5, 2, 1) for t in TASKS}
    model = CrossStitch.over(maps(), heads, channelwise=channelwise).double().eval()
    with torch.no_grad():
        for parameter in model.mixers.parameters():
            parameter.normal_()
    inputs = torch.randn(3, 2, 6, 6, dtype=torch.float64)
    values = dict.fromkeys(TASKS, inputs)
    for stage in range(2):
        out = {t: model.columns[t][stage](values[t]) for t in TASKS}
        for task in TASKS:
            weight = model.mixers[str(stage)][task].weight
            mixed = torch.zeros_like(out[task])
            for other, column in enumerate(out.values()):
                for channel in range(column.shape[1]):
                    unit = weight[other, channel] if channelwise else weight[other]
                    mixed[:, channel] += unit * column[:, channel]
            values[task] = mixed
    want = {t: model.heads[t](values[t]) for t in TASKS}
    got = model(inputs)
    assert all(torch.allclose(got[t], want[t], atol=1e-12) for t in TASKS)


def test_columns_that_a_task_does_not_read_are_not_computed() -> None:
    model = stitched(flat(), after=[0])
    calls: list[str] = []
    for task, column in model.columns.items():
        for stage, module in enumerate(column):
            module.register_forward_hook(lambda *_, at=f"{task} {stage}": calls.append(at))
    model(planted("flat")[0], tasks=["two"])
    assert calls == ["one 0", "two 0", "three 0", "two 1"]


def test_one_task_has_nothing_to_stitch() -> None:
    model = stitched(flat(), ("only",))
    assert entries(model.mixers) == 0


def test_a_stage_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match="after=2: the trunk has stages 0 to 1"):
        stitched(flat(), after=[2])
