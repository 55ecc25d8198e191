"""Candidates that a search proposes, learning from what was tried."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from equipoise.study.spaces import Axes, Candidate, Known, Values
from equipoise.study.values import Coarse, Range, rounded

# Candidates proposed at a time, which can be trained side by side.
ROUND = 4
# Draws until there are so many that were not tried before.
TRIES = 100
SHARE = "share"
# Random candidates before the search learns.
FIRST = 8


class NoOptunaError(ValueError):
    """Optuna is not installed."""


def the_search(what: str, instead: str = "") -> Any:
    """Optuna.

    Args:
        what: needs it.
        instead: what does not.

    Raises:
        NoOptunaError: it is not installed.
    """
    try:
        import optuna
    except ModuleNotFoundError:
        told = f'{what} needs Optuna: pip install "equipoise[tune]"'
        raise NoOptunaError(f"{told};{instead}" if instead else told) from None
    return optuna


@dataclass(frozen=True)
class Proposed:
    """Proposals of a tree-structured Parzen estimator, a few at a time, anew by every seed.

    What was proposed stays proposed: a store keeps it, and each round depends on what was tried before and
    on nothing else. A candidate is given up half-way where it is below the median of the earlier ones.

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

    @property
    def remembered(self) -> str:
        """What its candidates are stored under."""
        return f"{self.label} {self.axes} {self.losses}"

    def candidates(self, known: Known) -> list[Candidate]:
        """Those of all rounds whose predecessors have scores."""
        made = list(known.before[: self.size])
        while len(made) < self.size:
            scores = [known.score(candidate) for candidate in made]
            if any(score is None for score in scores):
                break
            try:
                made += self._round(made, scores, known)
            except NoOptunaError:
                if made:
                    break  # to read what there is needs no search
                raise
        return made

    def _round(
        self, made: Sequence[Candidate], scores: Sequence[float | None], known: Known
    ) -> list[Candidate]:
        optuna = the_search('search = "optuna"', ' "random" needs nothing')
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        seed = zlib.crc32(f"{self.label} {known.seed} {len(made)}".encode())
        sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=FIRST)
        search = optuna.create_study(direction="maximize", sampler=sampler)
        axes = self._distributions(optuna.distributions)
        for candidate, score in zip(made, scores, strict=True):
            finite = score is not None and math.isfinite(score)
            # Pruned, diverged or failed: worse than all that came to its end.
            state = optuna.trial.TrialState.COMPLETE if finite else optuna.trial.TrialState.PRUNED
            search.add_trial(
                optuna.trial.create_trial(
                    params=self._params(candidate, axes),
                    distributions=axes,
                    value=score if finite else None,
                    state=state,
                )
            )
        bars = known.bars(made)
        found: list[Candidate] = []
        for _ in range(TRIES):
            params = search.ask(axes).params
            if not made and not found:
                params |= {name: 0.5 for name in axes if name.startswith(SHARE)}
            candidate = replace(self._candidate(params), bars=bars)
            if candidate not in found and all(replace(m, bars=bars) != candidate for m in made):
                found.append(candidate)
            if len(found) == min(ROUND, self.size - len(made)):
                break
        if not found:
            raise ValueError(
                f"{self.label!r}: there are only {len(made)} different candidates to propose, and the study "
                f"asks for {self.size}: give ranges, or fewer candidates"
            )
        return found

    def _distributions(self, kinds: Any) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for name, values in self.axes.values().items():
            values = _range_of(values)
            if isinstance(values, Range):
                made[name] = kinds.FloatDistribution(values.low, values.high, log=values.log)
            elif len(values) > 1:
                # By its place, since a value may be a list.
                made[name] = kinds.CategoricalDistribution(list(range(len(values))))
        for k in range(len(self.losses)):
            made[f"{SHARE} {k}"] = kinds.FloatDistribution(1e-3, 1.0)
        return made

    def _candidate(self, params: Mapping[str, Any]) -> Candidate:
        chosen: dict[str, Any] = {}
        for name, values in self.axes.values().items():
            values = _range_of(values)
            if isinstance(values, Range):
                chosen[name] = rounded(params[name])
            else:
                chosen[name] = values[params[name]] if name in params else values[0]
        if self.losses:
            uniform = [params[f"{SHARE} {k}"] for k in range(len(self.losses))]
            chosen["weights"] = by_share(shares_of(uniform), self.losses)
        rate, decay = chosen.pop("learning_rate"), chosen.pop("weight_decay")
        return self.axes.at(rate, decay, **chosen)

    def _params(self, candidate: Candidate, axes: Mapping[str, Any]) -> dict[str, Any]:
        """Where a candidate stands on the axes."""
        values = {
            **json.loads(candidate.options),
            "learning_rate": candidate.learning_rate,
            "weight_decay": candidate.weight_decay,
        }
        found: dict[str, Any] = {}
        for name, tried in self.axes.values().items():
            tried = _range_of(tried)
            if isinstance(tried, Range):
                found[name] = min(max(values[name], tried.low), tried.high)
            elif name in axes:
                found[name] = list(tried).index(values[name])
        if self.losses:
            shares = np.array(values["weights"]) * np.abs(self.losses)
            for k, share in enumerate(shares / shares.sum()):
                found[f"{SHARE} {k}"] = math.exp(-float(share))
        return found


def shares_of(uniform: Sequence[float]) -> list[float]:
    """Shares that sum to 1: uniform on the simplex where the numbers are uniform."""
    exponential = [-math.log(each) for each in uniform]
    total = sum(exponential) or 1.0
    return [max(each / total, 1e-3) for each in exponential]


def by_share(shares: Sequence[float], losses: Sequence[float]) -> list[float]:
    """Weights with mean 1 that give every task its share of the total loss before training."""
    weights = np.array(shares) / np.maximum(np.abs(np.array(losses)), 1e-12)
    return [float(f"{w:.3g}") for w in weights / weights.mean()]


def _range_of(values: Values) -> Sequence[Any] | Range:
    """Coarse values as what lies between them."""
    if isinstance(values, Coarse):
        low, high = min(values.coarse), max(values.coarse)
        return Range(low=low, high=high, log=low > 0)
    return values


def suggested(trial: Any, search: Mapping[str, Values]) -> dict[str, Any]:
    """A value of each, in a search of the user's."""
    return {name: _one(trial, name, _range_of(values)) for name, values in search.items()}


def _one(trial: Any, name: str, values: Sequence[Any] | Range) -> Any:
    if isinstance(values, Range):
        return rounded(trial.suggest_float(name, values.low, values.high, log=values.log))
    if len(values) == 1:
        return values[0]
    if all(isinstance(each, str | int | float) for each in values):
        return trial.suggest_categorical(name, list(values))
    return values[trial.suggest_categorical(name, list(range(len(values))))]


def weights_suggested(trial: Any, losses: Sequence[float]) -> list[float]:
    """Loss weights, in a search of the user's: a point of the simplex of shares in the first loss."""
    uniform = [trial.suggest_float(f"{SHARE} {k}", 1e-3, 1.0) for k in range(len(losses))]
    return by_share(shares_of(uniform), losses)
