"""Jacobians with every defect that a Gramian of task gradients can have."""

from __future__ import annotations

import torch
from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor

DEFECTS = (
    "none",
    "conflict",
    "zero",
    "all zero",
    "duplicate",
    "opposite",
    "scaled opposite",
    "rank 1",
    "few parameters",
    "eight decades",
    "nearly parallel",
    "sum zero",
)
STATIONARY = ("zero", "all zero", "opposite", "scaled opposite", "rank 1", "sum zero")

many = settings(max_examples=150, deadline=None, derandomize=True)
few = settings(max_examples=25, deadline=None, derandomize=True)
seeds = st.integers(0, 2**32)


def jacobian(seed: int, tasks: int, defect: str = "none", size: int = 9) -> Tensor:
    """``Tensor[tasks, size]`` of standard normal entries, with a defect."""
    generator = torch.Generator().manual_seed(seed)
    J = torch.randn(tasks, size, generator=generator, dtype=torch.float64)
    if defect == "conflict":
        signs = torch.randint(0, 2, (tasks, 1), generator=generator) * 2 - 1
        J = 0.3 * J + signs * J[:1]
    elif defect == "zero":
        J[-1] = 0
    elif defect == "all zero":
        J = torch.zeros_like(J)
    elif defect == "duplicate":
        J[-1] = J[0]
    elif defect == "opposite" and tasks > 1:
        J[-1] = -J[0]
    elif defect == "scaled opposite" and tasks > 1:
        J[-1] = -100 * J[0]
    elif defect == "rank 1":
        J = torch.linspace(-1.0, 2.0, tasks, dtype=J.dtype).unsqueeze(1) * J[:1]
    elif defect == "few parameters":
        J = J[:, : max(1, tasks // 2)]
    elif defect == "eight decades":
        J = J * torch.logspace(-4, 4, tasks, dtype=J.dtype).unsqueeze(1)
    elif defect == "nearly parallel":
        J = J[:1] + 1e-3 * J
    elif defect == "sum zero":
        J[-1] = -J[:-1].sum(0)
    return J


def gramian(seed: int, tasks: int, defect: str = "none", size: int = 9) -> Tensor:
    J = jacobian(seed, tasks, defect, size)
    return J @ J.mT


@st.composite
def jacobians(draw: st.DrawFn, largest: int = 7, defects: tuple[str, ...] = DEFECTS) -> Tensor:
    return jacobian(
        draw(seeds), draw(st.integers(1, largest)), draw(st.sampled_from(defects)), draw(sizes)
    )


sizes = st.integers(1, 12)


def stack(tasks: int, count: int = 12, defects: tuple[str, ...] = DEFECTS) -> Tensor:
    """Gramians of all kinds, ``Tensor[count, tasks, tasks]``."""
    return torch.stack([gramian(s, tasks, defects[s % len(defects)]) for s in range(count)])
