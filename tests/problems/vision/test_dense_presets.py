"""Presets of dense problems are studies, and schedules are those of the papers."""

import pytest
import torch

from equipoise.problems import presets, problem
from equipoise.problems.vision import dense_schedules
from equipoise.study.arms import arms
from equipoise.study.building import schedule
from equipoise.study.spec import Spec

NAMES = ("nyuv2", "cityscapes", "pascal_context", "scenes")
PRESETS = [(name, preset) for name in NAMES for preset in presets(name)]


@pytest.mark.parametrize(("name", "preset"), PRESETS)
def test_every_preset_is_a_study_whose_problem_can_be_built(name, preset):
    spec = Spec(problem=name, **presets(name)[preset])
    for setting in spec.settings().values():
        made = problem(name, **setting.problem_options)
        found = arms(setting, {task.name: 1.0 for task in made.tasks})
        assert {"ew", "rlw", "rgw"} <= {arm.method for arm in found}


@pytest.mark.parametrize("name", NAMES)
def test_the_quick_preset_is_what_all_problems_have(name):
    quick = presets(name)["quick"]
    assert quick["methods"] == ["uw", "uw_o", "cagrad"]
    assert quick["seeds"] == 3


def rates(factory, steps):
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimiser = torch.optim.SGD([parameter], 1.0)
    made = getattr(dense_schedules, factory)(optimiser, steps)
    found = []
    for _ in range(steps):
        found.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        made.step()
    return found


def test_rates_fall_as_in_the_papers():
    assert rates("halved", 200) == [1.0] * 100 + [0.5] * 100
    assert rates("halved_twice", 300) == [1.0] * 100 + [0.5] * 100 + [0.25] * 100
    falling = rates("polynomial", 10)
    assert falling == pytest.approx([(1 - step / 10) ** 0.9 for step in range(10)])


def test_a_study_finds_the_schedules_by_their_names():
    for name, preset in PRESETS:
        wanted = presets(name)[preset].get("schedule", "cosine")
        optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 1.0)
        trial = type("Trial", (), {"schedule": wanted})()
        after_step = schedule(trial, optimiser, 5)
        optimiser.step()
        after_step()
