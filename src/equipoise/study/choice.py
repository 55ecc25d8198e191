"""What tuning found for an arm."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

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
    def chosen(self) -> dict[Candidate, tuple[int, ...]]:
        """Every candidate that was chosen, with the places of the seeds that did.

        The one of most seeds comes first; of several, the one with the best score. What trials had to reach
        half-way tells no candidates apart.
        """
        places: dict[Candidate, list[int]] = {}
        scores: dict[Candidate, float] = {}
        means = self.scores
        for place, each in enumerate(self.by_seed):
            if each is not None:
                plain = replace(each, bars="{}")
                places.setdefault(plain, []).append(place)
                scores[plain] = max(
                    scores.get(plain, -np.inf), np.nan_to_num(means[each], nan=-np.inf)
                )
        order = sorted(places, key=lambda each: (-len(places[each]), -scores[each]))
        return {each: tuple(places[each]) for each in order}

    @property
    def candidate(self) -> Candidate | None:
        """The candidate that most seeds chose."""
        return next(iter(self.chosen), None)

    @property
    def scores(self) -> dict[Candidate, float]:
        """The mean score of each candidate over the seeds that tried it, NaN where one is missing."""
        return {
            each: float(np.mean([score for score in scores if score is not None]))
            for each, scores in self.scores_by_seed.items()
        }
