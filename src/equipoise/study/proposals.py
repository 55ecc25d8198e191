"""Candidates that a search proposes, learning from what was tried."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from equipoise.study.spaces import Axes, Candidate, Known, Values, rounded
from equipoise.study.values import Coarse, Range

# Candidates proposed at a time, which can be trained side by side.
ROUND = 4
# Random candidates before the search learns.
FIRST = 8


@dataclass(frozen=True)
class Proposed:
    """Proposals of a tree-structured Parzen estimator, a few at a time, anew by every seed.

    The same scores make the same proposals, so that a study that was interrupted goes on where it was. A
    candidate is given up half-way where it is below the median of the earlier ones.

    Attributes:
        axes: what is proposed.
        label: of the arm.
        size: number of candidates.
        losses: before training, where loss weights are searched too; they begin with those that make the
            losses equal, and are searched as a point of the simplex.

    References:
        Bergstra et al., *Algorithms for Hyper-Parameter Optimization*, NeurIPS 2011; Akiba et al.,
        *Optuna*, KDD 2019, arXiv:1907.10902.
    """

    axes: Axes
    label: str
    size: int
    losses: tuple[float, ...] = ()

    def candidates(self, known: Known) -> list[Candidate]:
        """Those of all rounds whose predecessors have scores."""
        optuna = _optuna()
        seed = zlib.crc32(f"{self.label} {known.seed}".encode())
        sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=FIRST)
        search = optuna.create_study(direction="maximize", sampler=sampler)
        if self.losses:
            search.enqueue_trial({f"share {k}": 0.5 for k in range(len(self.losses))})
        made: list[Candidate] = []
        while len(made) < self.size:
            bars = known.bars(made)
            asked = [search.ask() for _ in range(min(ROUND, self.size - len(made)))]
            here = [replace(self._suggested(trial), bars=bars) for trial in asked]
            made += here
            scores = [known.score(candidate) for candidate in here]
            if any(score is None for score in scores):
                break
            for trial, score in zip(asked, scores, strict=True):
                if score is not None and math.isfinite(score):
                    search.tell(trial, score)
                else:
                    # Pruned, diverged or failed: worse than all that came to its end.
                    search.tell(trial, state=optuna.trial.TrialState.PRUNED)
        return made

    def _suggested(self, trial: Any) -> Candidate:
        rate = _one(trial, "learning_rate", self.axes.rates)
        decay = _one(trial, "weight_decay", self.axes.decays)
        searched = {n: _one(trial, n, values) for n, values in (self.axes.search or {}).items()}
        if self.losses:
            searched["weights"] = by_share(on_simplex(trial, len(self.losses)), self.losses)
        return self.axes.at(rate, decay, **searched)


def on_simplex(trial: Any, count: int) -> list[float]:
    """Shares that sum to 1, uniform on the simplex where the search draws evenly.

    -log of independent uniform numbers, divided by their sum.
    """
    exponential = [-math.log(trial.suggest_float(f"share {k}", 1e-3, 1.0)) for k in range(count)]
    total = sum(exponential) or 1.0
    return [max(each / total, 1e-3) for each in exponential]


def by_share(shares: Sequence[float], losses: Sequence[float]) -> list[float]:
    """Weights with mean 1 that give every task its share of the total loss before training."""
    weights = np.array(shares) / np.maximum(np.abs(np.array(losses)), 1e-12)
    return [float(f"{w:.3g}") for w in weights / weights.mean()]


def _one(trial: Any, name: str, values: Values) -> Any:
    if isinstance(values, Coarse):
        values = Range(low=min(values.coarse), high=max(values.coarse), log=min(values.coarse) > 0)
    if isinstance(values, Range):
        return rounded(trial.suggest_float(name, values.low, values.high, log=values.log))
    if len(values) == 1:
        return values[0]
    # By its place, since a value may be a list.
    return values[trial.suggest_categorical(name, list(range(len(values))))]


def suggested(trial: Any, search: Mapping[str, Values]) -> dict[str, Any]:
    """A value of each, in a search of the user's."""
    return {name: _one(trial, name, values) for name, values in search.items()}


def _optuna() -> Any:
    try:
        import optuna
    except ModuleNotFoundError:
        raise ValueError(
            'search = "optuna" needs Optuna: pip install "equipoise[tune]"; "random" needs nothing'
        ) from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
