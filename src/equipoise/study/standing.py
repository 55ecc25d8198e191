"""How far a study is: the state of every trial of every arm, and of its whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from equipoise.study.arms import arms
from equipoise.study.asked import NONE, Asked, asked
from equipoise.study.plans import Plan, plans
from equipoise.study.selection import Measurements, described, study_of
from equipoise.study.spec import Spec
from equipoise.study.store import Store, Stored
from equipoise.study.trial import Trial

WAITING = "waiting"
# Of a final trial that there will not be, since nothing finished in tuning.
NOTHING = "none"
# The time left is taken from the pace of so many last trials.
PACE = 20


@dataclass(frozen=True)
class ArmStanding:
    """How far an arm is.

    Attributes:
        label: how tables call it.
        tuning: the state of each tuning trial: ``"done"``, ``"diverged"``, ``"pruned"``, ``"failed"``,
            ``"waiting"``.
        finals: the state of the final trial of each seed.
        best: the best score of a candidate on validation, higher is better; NaN before there is one.
        apart: whether final trials are others than those of tuning.
        asked: its trials.
    """

    label: str
    tuning: list[str]
    finals: dict[int, str]
    best: float
    apart: bool
    asked: Asked


def standing(store: Store) -> list[ArmStanding]:
    """Every arm of a study.

    Raises:
        ValueError: the store holds no study yet.
    """
    spec = study_of(store)
    return [
        _standing(spec, f"{name}: {label}" if name else label, plan, found.trials)
        for name, own in spec.settings().items()
        for told in [described(store, own)]
        for found in [Measurements(told, store)]
        for label, plan in plans(own, arms(own, told["first_losses"]), found).items()
    ]


def counts(store: Store, arms: Sequence[ArmStanding]) -> Counter[str]:
    """How many trials of a study are in which state; one that several arms share is counted once."""
    stored = store.trials()
    whole = NONE
    for arm in arms:
        whole |= arm.asked
    found = Counter(stored[each].status if each in stored else WAITING for each in whole.ids)
    found[WAITING] += whole.total - len(whole.ids)
    return found


def _standing(spec: Spec, label: str, plan: Plan, stored: Mapping[str, Stored]) -> ArmStanding:
    def state(trial: Trial | None) -> str:
        if trial is None:
            return NOTHING if plan.choice.complete else WAITING
        return stored[trial.id].status if trial.id in stored else WAITING

    own = asked([plan], spec)
    tuning = [state(trial) for trial in own.tuning.values()] + [WAITING] * own.tuning_to_come
    finals = dict(zip(spec.seeds, map(state, plan.finals), strict=True))
    scores = [score for score in plan.choice.scores.values() if np.isfinite(score)]
    best = max(scores, default=float("nan"))
    return ArmStanding(label, tuning, finals, best, spec.tuning == "once", own)


def seconds_left(store: Store, waiting: int) -> float | None:
    """Seconds for so many trials, at the pace of the last ones; None before there is a pace."""
    when = sorted(each.finished for each in store.trials().values())[-PACE:]
    if len(when) < 2:
        return None
    first, last = (datetime.fromisoformat(text) for text in (when[0], when[-1]))
    return waiting * (last - first).total_seconds() / (len(when) - 1)
