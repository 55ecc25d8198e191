"""What an arm's final trials cost, in time and in passes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from equipoise.study.store import Stored


@dataclass(frozen=True)
class Spent:
    """What an arm's final trials cost.

    Attributes:
        step_ms: wall time of a step, the median over runs.
        ratios: of the runs that equal weighting has a pair for, to that of the same seed.
        backwards: backward passes through the trunk in a step.
        seconds: wall time of a run.
        samples: training examples seen in a run.
    """

    step_ms: float
    ratios: tuple[float, ...]
    backwards: float
    seconds: float
    samples: int

    @property
    def ratio(self) -> float:
        """Time of a step as a multiple of that under equal weighting: the median over pairs of runs."""
        return float(np.median(self.ratios)) if self.ratios else float("nan")


def spent(runs: Sequence[Stored | None], base: Sequence[Stored | None]) -> Spent | None:
    """What some runs cost, beside those of equal weights with the same seeds; None where none finished."""
    pairs = [
        (own.cost, other.cost if other is not None and other.status == "done" else None)
        for own, other in zip(runs, base, strict=True)
        if own is not None and own.cost is not None and own.status == "done"
    ]
    if not pairs:
        return None
    costs = [cost for cost, _ in pairs]
    return Spent(
        step_ms=float(np.median([cost.step_ms for cost in costs])),
        ratios=tuple(own.step_ms / other.step_ms for own, other in pairs if other),
        backwards=float(np.mean([cost.backwards / cost.steps for cost in costs])),
        seconds=float(np.median([cost.seconds for cost in costs])),
        samples=costs[0].samples,
    )
