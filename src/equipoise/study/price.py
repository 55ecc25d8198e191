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
        ratio: to equal weighting, the median over runs paired by seed.
        backwards: backward passes through the trunk in a step.
        seconds: wall time of a run.
        samples: training examples seen in a run.
    """

    step_ms: float
    ratio: float
    backwards: float
    seconds: float
    samples: int


def spent(runs: Sequence[Stored | None], base: Sequence[Stored | None]) -> Spent | None:
    """What some runs cost, beside those of equal weights with the same seeds; None where none finished."""
    pairs = [
        (own.cost, other.cost if other is not None and other.status == "done" else None)
        for own, other in zip(runs, base, strict=True)
        if own is not None and own.cost is not None and own.status == "done"
    ]
    if not pairs:
        return None
    ratios = [own.step_ms / other.step_ms for own, other in pairs if other]
    costs = [cost for cost, _ in pairs]
    return Spent(
        step_ms=float(np.median([cost.step_ms for cost in costs])),
        ratio=float(np.median(ratios)) if ratios else float("nan"),
        backwards=float(np.mean([cost.backwards / cost.steps for cost in costs])),
        seconds=float(np.median([cost.seconds for cost in costs])),
        samples=costs[0].samples,
    )
