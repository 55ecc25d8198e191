"""What tuning found for an arm."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from equipoise.study.spaces import Candidate


@dataclass(frozen=True)
class Choice:
    """What tuning found for an arm.

    Attributes:
        by_seed: the best candidate on validation of each seed of the study; None where no candidate finished,
            or not all are known. Where tuning is done once, all are the same.
        scores_by_seed: of each candidate, for each seed: Delta_m on validation against the tuned single-task
            networks (the first metric for a single-task arm), NaN where it diverged, failed or has not run,
            None where that seed does not try it.
        complete: whether every tuning trial has an outcome.
    """

    by_seed: tuple[Candidate | None, ...]
    scores_by_seed: Mapping[Candidate, tuple[float | None, ...]]
    complete: bool

    @property
    def candidate(self) -> Candidate | None:
        """The candidate that most seeds chose; of several, the one with the best score."""
        chosen = [each for each in self.by_seed if each is not None]
        if not chosen:
            return None
        scores = self.scores

        def worth(each: Candidate) -> tuple[int, float]:
            return chosen.count(each), scores[each] if np.isfinite(scores[each]) else -np.inf

        return max(dict.fromkeys(chosen), key=worth)

    @property
    def scores(self) -> dict[Candidate, float]:
        """The mean score of each candidate over the seeds that tried it, NaN where one is missing."""
        return {
            each: float(np.mean([score for score in scores if score is not None]))
            for each, scores in self.scores_by_seed.items()
        }
