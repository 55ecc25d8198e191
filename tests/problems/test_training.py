"""Optimisers and schedules of papers, and the presets that name them."""

import pytest
import torch

from equipoise.problems import PROBLEMS, presets, training
from equipoise.study.building import loaded
from equipoise.study.spec import Spec
from equipoise.study.trial import OPTIMIZERS, SCHEDULES


def rates(factory, steps):
    made = training.sgd_08([{"params": [torch.zeros(1, requires_grad=True)]}], 1.0, 0.0)
    schedule, found = factory(made, steps), []
    for _ in range(steps):
        found.append(made.param_groups[0]["lr"])
        made.step()
        schedule.step()
    return found


def test_rates_that_fall_in_steps():
    # Two steps an epoch, a hundred epochs.
    kurin, xin, sener = (
        rates(each, 200)
        for each in (
            training.by_095_an_epoch,
            training.by_085_in_thirty,
            training.halved_in_thirty,
        )
    )
    assert kurin[:4] == pytest.approx([1, 1, 0.95, 0.95]) and kurin[-1] == pytest.approx(0.95**99)
    assert xin[59:61] == pytest.approx([1, 0.85]) and xin[-1] == pytest.approx(0.85**3)
    assert sener[59:61] == pytest.approx([1, 0.5]) and sener[-1] == pytest.approx(0.5**3)
    assert rates(training.halved, 200) == [1.0] * 100 + [0.5] * 100
    assert rates(training.halved_twice, 300) == [1.0] * 100 + [0.5] * 100 + [0.25] * 100


def test_rates_that_fall_evenly():
    falling = rates(training.polynomial, 10)
    assert falling == pytest.approx([(1 - step / 10) ** 0.9 for step in range(10)])
    rising = rates(training.inverse_sqrt, 1000)
    assert rising.index(max(rising)) == 99
    assert rising[99] == pytest.approx(1 / 10) and rising[399] == pytest.approx(1 / 20)
    assert rising[49] == pytest.approx(rising[99] / 2)


def test_the_optimiser_of_xin_has_a_momentum_of_eight_tenths():
    made = training.sgd_08([{"params": [torch.zeros(1, requires_grad=True)]}], 0.1, 0.2)
    group = made.param_groups[0]
    assert (group["momentum"], group["lr"], group["weight_decay"]) == (0.8, 0.1, 0.2)


@pytest.mark.parametrize("name", PROBLEMS)
def test_every_preset_is_a_study_and_names_what_is_there(name):
    known = presets(name)
    assert "quick" in known and next(iter(known)) != "quick"
    for content in known.values():
        spec = Spec(problem=name, **content)
        for part, ours in ((spec.optimizer, OPTIMIZERS), (spec.schedule, SCHEDULES)):
            assert part in ours or callable(loaded(part, "part"))
