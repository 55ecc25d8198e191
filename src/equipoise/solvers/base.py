"""What every solver returns, and how a failure is told."""

from __future__ import annotations

from math import isfinite
from typing import NamedTuple

from torch import Tensor


class NonFiniteError(ValueError):
    """A loss, a task gradient or the weights left the finite numbers: training diverged."""


class SolverError(RuntimeError):
    """A solver did not reach its tolerance.

    Attributes:
        gramian: the ``Tensor[..., K, K]`` it was given, for a report or a replay.
        residual: what was reached, ``Tensor[...]``.
    """

    def __init__(self, message: str, gramian: Tensor, residual: Tensor) -> None:
        super().__init__(message)
        self.gramian = gramian
        self.residual = residual


class Solution(NamedTuple):
    """An answer and how far it is from being one.

    Attributes:
        x: the answer, ``Tensor[..., K]``.
        residual: relative violation of the optimality conditions, ``Tensor[...]``; 0 is exact.
    """

    x: Tensor
    residual: Tensor

    def accept(self, gramian: Tensor, problem: str, tolerance: float = 1e-6) -> Tensor:
        """The answer, if it is one.

        Raises:
            SolverError: some residual is above ``tolerance`` or not finite, or the Gramian is not finite.
        """
        if not all(map(isfinite, gramian.reshape(-1).tolist())):
            raise SolverError(
                f"{problem}: the Gramian has entries that are not finite, so some task gradient is not "
                "finite either",
                gramian,
                self.residual,
            )
        reached: list[float] = self.residual.reshape(-1).tolist()
        failed = [r for r in reached if not r <= tolerance]
        if failed:
            raise SolverError(
                f"{problem}: the solver stopped at a relative residual of {max(failed):.1e}, above "
                f"{tolerance:.0e} ({len(failed)} of {len(reached)} problems); the Gramian is in the error's "
                "'gramian'. Rescale or drop a task whose gradient is degenerate, or keep the last weights "
                "with on_failure='keep'",
                gramian,
                self.residual,
            )
        return self.x
