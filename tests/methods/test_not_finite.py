"""Gradients that are not finite are told, not turned into weights."""

from __future__ import annotations

import pytest
import torch

import equipoise
from equipoise.methods.base import GramianMethod

SOLVED = ("mgda", "nash_mtl", "fairgrad", "upgrad", "dualproj", "conicgrad", "epo")
GRAMIAN = [
    card.id
    for card in equipoise.methods()
    if isinstance(found := equipoise.method(card.id), GramianMethod) and found.reads_gramian
]


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("name", GRAMIAN)
def test_a_direction_from_gradients_that_are_not_finite(name: str, value: float) -> None:
    jacobian = torch.ones(3, 4, dtype=torch.float64)
    jacobian[1, 2] = value
    with pytest.raises(ValueError, match=r"gradients of tasks \[1\] are not finite"):
        equipoise.method(name).direction(jacobian, torch.ones(3))


@pytest.mark.parametrize("name", SOLVED)
def test_a_gramian_that_is_not_finite_is_no_solution(name: str) -> None:
    gramian = torch.full((3, 3), torch.nan, dtype=torch.float64)
    with pytest.raises(equipoise.SolverError):
        equipoise.method(name).weights(gramian, torch.ones(3, dtype=torch.float64))
