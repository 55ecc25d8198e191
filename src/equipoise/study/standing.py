"""How far a study is: the state of every trial of every arm, and of its whole."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import numpy as np

from equipoise.study import protocols
from equipoise.study.selection import Measurements, choose
from equipoise.study.spec import parse
from equipoise.study.store import Store
from equipoise.study.trial import Trial

WAITING = "waiting"
# The time left is taken from the pace of so many last trials.
PACE = 20


@dataclass(frozen=True)
class ArmStanding:
    """How far an arm is.

    Attributes:
        label: how tables call it.
        tuning: the state of each tuning trial: ``"done"``, ``"diverged"``, ``"failed"``, ``"waiting"``.
        finals: the state of the final trial of each seed.
        best: the best score of a candidate on validation, higher is better; NaN before there is one.
        apart: whether final trials are others than those of tuning.
    """

    label: str
    tuning: list[str]
    finals: dict[int, str]
    best: float
    apart: bool = True

    @property
    def states(self) -> list[str]:
        """The states of all trials."""
        return [*self.tuning, *self.finals.values()] if self.apart else self.tuning


def standing(store: Store) -> list[ArmStanding]:
    """Every arm of a study.

    Raises:
        ValueError: the store holds no study yet.
    """
    found = Measurements(store)
    spec = parse(store.get("spec"), str(store.path))
    arms = protocols.arms(spec, store.get("problem")["first_losses"])
    choices = choose(spec, arms, found)

    def state(trial: Trial) -> str:
        stored = found.trials.get(trial.id)
        return WAITING if stored is None else stored.status

    told = []
    for arm in arms:
        choice = choices[arm.label]
        tuning = [state(t) for trials in protocols.tuning(spec, arm).values() for t in trials]
        chosen = protocols.final(spec, arm, choice.by_seed)
        finals = {
            seed: WAITING if trial is None else state(trial)
            for seed, trial in zip(spec.seeds, chosen, strict=True)
        }
        scores = [score for score in choice.scores.values() if np.isfinite(score)]
        best = max(scores, default=float("nan"))
        told.append(ArmStanding(arm.label, tuning, finals, best, apart=spec.tuning == "once"))
    return told


def seconds_left(store: Store, waiting: int) -> float | None:
    """Seconds for so many trials, at the pace of the last ones; None before there is a pace."""
    when = sorted(each.finished for each in store.trials().values())[-PACE:]
    if len(when) < 2:
        return None
    first, last = (datetime.fromisoformat(text) for text in (when[0], when[-1]))
    return waiting * (last - first).total_seconds() / (len(when) - 1)
