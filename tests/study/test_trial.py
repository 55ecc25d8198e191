import hashlib
import json
from dataclasses import replace

import pytest

from equipoise.study import Trial

TRIAL = Trial(
    problem="digits",
    method="rlw",
    stage="final",
    seed=3,
    learning_rate=0.01,
    epochs=2,
    batch_size=8,
)


def test_equal_fields_are_the_same_trial():
    again = replace(TRIAL)
    assert again == TRIAL and again.id == TRIAL.id and hash(again) == hash(TRIAL)


def test_identity_is_the_sha256_of_the_canonical_json_of_what_is_not_at_its_default():
    given = {"problem": "digits", "method": "rlw", "stage": "final", "seed": 3}
    given |= {"learning_rate": 0.01, "epochs": 2, "batch_size": 8}
    text = json.dumps(given, sort_keys=True, separators=(",", ":"))
    assert TRIAL.id == hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("problem", "other"),
        ("problem_options", '{"width":32}'),
        ("method", "ew"),
        ("method_options", '{"distribution":"dirichlet"}'),
        ("stage", "tune"),
        ("seed", 4),
        ("learning_rate", 0.02),
        ("weight_decay", 0.1),
        ("optimizer", "sgd"),
        ("schedule", "constant"),
        ("epochs", 3),
        ("batch_size", 9),
        ("route", "features"),
        ("weight_sum", "tasks"),
        ("flatness", 0.1),
        ("bars", '{"epochs":{"1":2.0}}'),
        ("device", "cuda"),
    ],
)
def test_every_field_is_part_of_the_identity(field, value):
    assert replace(TRIAL, **{field: value}).id != TRIAL.id


def test_a_trial_can_be_read_back_from_its_json():
    assert Trial.from_json(TRIAL.to_json()) == TRIAL


def test_single_task_trials_name_their_task_and_others_do_not():
    with pytest.raises(ValueError, match="'stl' needs the one task"):
        replace(TRIAL, method="stl")
    with pytest.raises(ValueError, match="has task 'left'"):
        replace(TRIAL, task="left")
