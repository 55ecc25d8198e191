"""Methods whose solver fails when a test wants it to."""

from __future__ import annotations

from typing import Any

from rank_cases import Case
from rank_network import TASKS
from torch import Tensor

from equipoise.methods.mgda import MGDA
from equipoise.solvers import SolverError


class Failing(MGDA):
    """MGDA that fails in its third step, or wherever the losses are far apart.

    Args:
        how: ``"always"``; ``"rank 1"``, only there; or ``"losses"``: where the second loss is above a
            number that lies between those of two halves of a batch.
        rank: of this process.
    """

    def __init__(self, how: str, rank: int | None) -> None:
        super().__init__()
        self.how, self.rank, self.calls = how, rank, 0

    def weights(self, gramian: Tensor, losses: Tensor) -> Tensor:
        """MGDA's, or a failure."""
        self.calls += 1
        third = self.calls == 3
        fails = {
            "always": third,
            "rank 1": third and self.rank == 1,
            "losses": self.calls > 1 and float(losses[1]) > 1.6,
        }
        if fails[self.how]:
            raise SolverError("the solver was told to fail", gramian, gramian.new_ones(()))
        return super().weights(gramian, losses)


def method_of(case: Case, rank: int | None) -> tuple[Any, tuple[str, ...]]:
    """What the balancer is built with."""
    return (Failing(case.failing, rank) if case.failing else case.method), TASKS
