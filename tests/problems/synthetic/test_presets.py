"""The settings that come with the synthetic problems are studies as they stand."""

import pytest

from equipoise.problems import presets, problem
from equipoise.study import arms, study

PAIRS = [
    (name, preset) for name in ("toy2d", "quadratics", "linear_front") for preset in presets(name)
]


@pytest.mark.parametrize(("name", "preset"), PAIRS)
def test_every_preset_can_be_planned(name, preset):
    spec = study(name, preset)
    built = problem(name, **spec.problem_options)
    found = arms(spec, {task.name: 1.0 for task in built.tasks})
    assert len(found) > len(built.tasks) + 5


@pytest.mark.parametrize("name", ["toy2d", "quadratics", "linear_front"])
def test_the_quick_one_has_the_methods_that_all_quick_ones_have(name):
    assert [each.id for each in study(name, "quick").methods] == ["uw", "uw_o", "cagrad"]
