"""What the methods promise, on task gradients of every rank, hull and scale."""

from __future__ import annotations

import math

import pytest
import torch
from hulls import HULLS, Hull, hull
from torch import Tensor

import equipoise
from equipoise.methods.base import GramianMethod
from equipoise.solvers import SolverError

SHAPES = (
    (3, 3, 2),
    (4, 3, 2),
    (5, 5, 3),
    (5, 3, 3),
    (8, 20, 6),
    (9, 11, 5),
    (20, 10, 4),
    (20, 100, 3),
)
SCALES = ("even", "eight decades", "a zero row")
GRAMIAN = tuple(
    sorted(
        card.id
        for card in equipoise.methods()
        if isinstance(equipoise.method(card.id), GramianMethod)
    )
)
NO_CONFLICT: tuple[tuple[str, dict[str, float]], ...] = (
    ("upgrad", {}),
    ("dualproj", {}),
    ("mgda", {}),
    ("cagrad", {"c": 1.0}),
    ("cagrad", {"c": 2.0}),
    ("nash_mtl", {}),
)


def gramian_method(name: str, **options: float) -> GramianMethod:
    found = equipoise.method(name, **options)
    assert isinstance(found, GramianMethod)
    return found


def ones(J: Tensor) -> Tensor:
    return torch.ones(len(J), dtype=torch.float64)


def gradients(
    seed: int, shape: tuple[int, int, int], kind: Hull, scale: str, dtype: torch.dtype
) -> Tensor:
    J = hull(seed, *shape, kind, torch.float64)
    if scale == "eight decades":
        order = torch.randperm(len(J), generator=torch.Generator().manual_seed(seed))
        J = J * torch.logspace(-4, 4, len(J), dtype=J.dtype)[order].unsqueeze(1)
    elif scale == "a zero row":
        J[seed % len(J)] = 0
    return J.to(dtype).double()


def cases(shape: tuple[int, int, int], count: int) -> list[Tensor]:
    return [
        gradients(seed, shape, kind, SCALES[seed % 3], (torch.float64, torch.float32)[seed % 2])
        for seed in range(count)
        for kind in HULLS
    ]


def worst(J: Tensor, weights: Tensor) -> float:
    """The worst cosine of the update; of one that is all rounding, against what was summed."""
    norms = J.norm(dim=1)
    d = weights @ J
    size = torch.maximum(d.norm(), 1e-7 * (weights.abs() * norms).sum())
    return float((J @ d / norms.clamp_min(1e-300)).min() / size.clamp_min(1e-300))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("name", "options"), NO_CONFLICT)
def test_no_task_gets_worse(
    name: str, options: dict[str, float], shape: tuple[int, int, int]
) -> None:
    method = gramian_method(name, **options)
    for J in cases(shape, 6):
        assert worst(J, method.weights(J @ J.mT, ones(J))) >= -1e-6


@pytest.mark.parametrize("shape", [s for s in SHAPES if s[2] == s[0]] + [(4, 9, 4), (12, 30, 12)])
def test_config_has_equal_cosines_with_independent_gradients(shape: tuple[int, int, int]) -> None:
    for seed in range(12):
        J = hull(seed, *shape, "any")
        d = gramian_method("config").weights(J @ J.mT, ones(J)) @ J
        cosines = J @ d / J.norm(dim=1) / d.norm()
        torch.testing.assert_close(cosines, cosines.mean().expand_as(cosines), rtol=1e-6, atol=0)


@pytest.mark.parametrize("shape", [(5, 5, 3), (8, 20, 6), (20, 100, 3)])
@pytest.mark.parametrize("name", GRAMIAN)
def test_every_finite_gramian_has_an_answer(name: str, shape: tuple[int, int, int]) -> None:
    if name == "krum" and shape[0] < 4:
        pytest.skip("krum takes at least four tasks")
    method = gramian_method(name)
    for J in cases(shape, 6):
        weights = method.weights(J @ J.mT, ones(J))
        assert weights.shape == (len(J),)
        assert bool(weights.isfinite().all())


@pytest.mark.parametrize("name", ["upgrad", "dualproj", "cagrad"])
def test_weakly_conflicting_gradients_of_low_rank_are_solved(name: str) -> None:
    tasks, size, rank = (8, 20, 6) if name == "cagrad" else (5, 5, 3)
    method = gramian_method(name)
    for dtype in (torch.float64, torch.float32):
        for seed in range(100):
            J = hull(seed, tasks, size, rank, "face", dtype).double()
            assert bool(method.weights(J @ J.mT, ones(J)).isfinite().all())


@pytest.mark.parametrize("name", ["upgrad", "dualproj"])
def test_opposite_gradients_beside_one_that_is_orthogonal(name: str) -> None:
    J = torch.tensor([[-0.3, -0.6, 0.9], [0.3 / 7, 0.6 / 7, -0.9 / 7], [-0.5, 0.7, 0.3]])
    for rows in (J.double(), torch.tensor(J.tolist(), dtype=torch.float64)):
        d = gramian_method(name).weights(rows @ rows.mT, ones(rows)) @ rows
        assert (rows @ d / rows.norm(dim=1)).min() >= -1e-6 * d.norm()
        assert d.norm() > 0.05


@pytest.mark.parametrize("c", [0.4, 1.0, 2.0])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_ball_of_cagrad_is_not_left(c: float, dtype: torch.dtype) -> None:
    method = gramian_method("cagrad", c=c)
    for shape in ((20, 100, 3), (8, 20, 6), (20, 10, 10)):
        for seed in range(6):
            for kind in HULLS:
                J = hull(seed, *shape, kind, dtype).double()
                mean = J.mean(0)
                d = method.weights(J @ J.mT, ones(J)) @ J
                # A mean that is nearly 0 is known up to its rounding only.
                rounding = 1e-14 * float(J.norm(dim=1).mean() ** 2)
                assert (d - mean).square().sum() <= c * c * mean.square().sum() * (
                    1 + 1e-8
                ) + rounding


@pytest.mark.parametrize("name", ["upgrad", "dualproj", "mgda", "cagrad", "config", "imtl_g"])
def test_the_order_of_the_tasks_does_not_matter(name: str) -> None:
    method = gramian_method(name)
    for shape in ((5, 5, 3), (8, 20, 6), (20, 10, 10)):
        for seed in range(6):
            for kind in HULLS:
                J = hull(seed, *shape, kind)
                order = torch.randperm(len(J), generator=torch.Generator().manual_seed(seed))
                weights = method.weights(J @ J.mT, ones(J))
                P = J[order]
                permuted = method.weights(P @ P.mT, ones(J)) @ P
                size = float((weights.abs() * J.norm(dim=1)).sum())
                # The square of a length is known to rounding, so a length that vanishes to its root.
                assert (permuted - weights @ J).norm() <= 1e-7 * size


@pytest.mark.parametrize("name", ["mgda", "cagrad", "config", "upgrad", "dualproj", "nash_mtl"])
def test_the_weights_follow_their_law_of_scale(name: str) -> None:
    method = gramian_method(name)
    degree = method.card.degree
    assert degree is not None
    for shape in ((5, 5, 3), (8, 20, 6)):
        for kind in HULLS:
            J = hull(3, *shape, kind)
            G = J @ J.mT
            for exponent in (-20, 20):
                scaled = method.weights(4.0**exponent * G, ones(J))
                want = method.weights(G, ones(J)) * 4.0 ** (exponent * degree)
                torch.testing.assert_close(scaled, want, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["upgrad", "dualproj", "mgda", "cagrad"])
def test_gradients_apart_from_the_origin_get_an_update(name: str) -> None:
    options = {"c": 1.0} if name == "cagrad" else {}
    for shape in SHAPES:
        for seed in range(4):
            J = hull(seed, *shape, "apart")
            d = gramian_method(name, **options).weights(J @ J.mT, ones(J)) @ J
            assert float((J @ d).min()) > -1e-9
            assert d.norm() > 1e-6


def test_what_is_not_finite_has_no_answer() -> None:
    G = torch.eye(3, dtype=torch.float64)
    for bad in (math.nan, math.inf):
        G[0, 0] = bad
        for name in ("upgrad", "dualproj", "mgda", "cagrad", "nash_mtl", "config", "imtl_g"):
            with pytest.raises(SolverError, match="not finite"):
                gramian_method(name).weights(G, torch.ones(3, dtype=torch.float64))
