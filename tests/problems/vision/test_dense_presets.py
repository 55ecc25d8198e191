"""Presets of dense problems are studies."""

import pytest

from equipoise.problems import presets, problem
from equipoise.study.arms import arms
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
