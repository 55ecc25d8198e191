"""One small problem is read as plain floats at once, not number by number."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from test_promises import GRAMIAN, gramian_method
from torch.utils._python_dispatch import TorchDispatchMode

# It counts its steps in a buffer, which says when the first norms are to be kept.
COUNTS_STEPS = {"rotograd": 1}


class Reads(TorchDispatchMode):
    """Counts the numbers that are taken out of tensors one at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", GRAMIAN)
@pytest.mark.parametrize("conflict", [False, True])
def test_weights_of_a_small_problem_read_no_single_numbers(name: str, conflict: bool) -> None:
    tasks = 5 if name == "krum" else 3
    J = torch.randn(tasks, 30, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    J[1] -= 0.7 * J[0] if conflict else -2 * J[0]
    losses = torch.arange(1.0, tasks + 1, dtype=torch.float64)
    method = gramian_method(name)
    method.weights(J @ J.mT, losses)
    with Reads() as reads:
        method.weights(J @ J.mT, losses)
    assert reads.count <= COUNTS_STEPS.get(name, 0)
