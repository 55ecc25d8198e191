"""The judge of the golden numbers: it has to be able to say no."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from golden_adapter import GENERIC, Case, Comparison, Inputs, Skip
from test_golden import close, judge, outcome, run

REGULAR: dict[str, Any] = {
    "method": "ew",
    "difficulty": "regular",
    "tol": {"rtol": 1e-3, "atol": 0.0},
    "expected": {"weights": [1.0, 100.0]},
}


def vector(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_tolerance_is_taken_from_the_largest_entry() -> None:
    assert close(vector(1.09, 100.0), [1.0, 100.0], REGULAR["tol"], None) == ""
    assert "off by" in close(vector(1.11, 100.0), [1.0, 100.0], REGULAR["tol"], None)


def test_absolute_tolerance_of_gradients_is_relative_to_the_jacobian() -> None:
    allowed = {"rtol": 0.0, "atol_rel_J": 1e-3}
    assert close(vector(0.19), [0.0], allowed, 200 * torch.eye(2)) == ""
    assert "off by" in close(vector(0.21), [0.0], allowed, 200 * torch.eye(2))


def test_shapes_must_agree() -> None:
    assert "shape" in close(vector(1.0), [1.0, 1.0], REGULAR["tol"], None)


def test_not_finite_is_wrong_even_where_nothing_is_expected() -> None:
    assert judge(REGULAR, Comparison("grad", vector(float("nan")), None)) == "not finite"


def test_degenerate_cases_compare_the_gradient_alone() -> None:
    case = {**REGULAR, "difficulty": "degenerate"}
    assert judge(case, Comparison("steps[0].weights", vector(5.0), [1.0])) == ""
    assert "off by" in judge(case, Comparison("steps[0].grad", vector(5.0), [1.0]))


def test_weights_that_are_not_unique_are_left_out() -> None:
    case = {**REGULAR, "weights_unique": False}
    assert judge(case, Comparison("weights", vector(5.0), [1.0])) == ""
    assert "off by" in judge(REGULAR, Comparison("weights", vector(5.0), [1.0]))


def test_an_alternative_may_hold_in_place_of_the_first_answer() -> None:
    assert judge(REGULAR, Comparison("grad", vector(5.0), [1.0], None, ([5.0],))) == ""
    assert "off by" in judge(REGULAR, Comparison("grad", vector(5.0), [1.0], None, ([2.0],)))


def nothing(case: Case, inputs: Inputs) -> Iterator[Comparison]:
    yield Comparison("grad", vector(1.0), None)


def broken(case: Case, inputs: Inputs) -> Iterator[Comparison]:
    yield Comparison("weights", vector(1.0, 100.0), case["expected"]["weights"])
    raise RuntimeError("no answer")


def passed_over(case: Case, inputs: Inputs) -> Iterator[Comparison]:
    yield from ()
    raise Skip("another kind of case")


@pytest.mark.parametrize(
    ("adapter", "wrong"), [(nothing, "compared nothing"), (broken, "no answer")]
)
def test_an_adapter_that_compares_nothing_or_breaks_fails(adapter: Any, wrong: str) -> None:
    assert wrong in run(REGULAR, {}, adapter)


def test_a_skip_is_told_apart_from_a_failure() -> None:
    assert outcome(REGULAR, {}, passed_over) == ("", "another kind of case")


def test_a_file_without_an_adapter_is_tried_as_a_jacobian() -> None:
    case = {
        **REGULAR,
        "kind": "jacobian",
        "input": "two",
        "hyper": {},
        "expected": {"grad": [3.0, 4.0]},
        "tol": {"rtol": 1e-9, "atol_rel_J": 0.0},
    }
    inputs = {"two": {"J": [[1.0, 2.0], [2.0, 2.0]], "losses": [1.0, 1.0]}}
    assert run(case, inputs, GENERIC) == ""
    assert "off by" in run({**case, "expected": {"grad": [3.0, 5.0]}}, inputs, GENERIC)
