"""Which trials a study asks for, each once however many arms share it, and how many are still to be named."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from equipoise.study.arms import arms
from equipoise.study.plans import Plan, plans, procedures
from equipoise.study.selection import Measurements, described
from equipoise.study.spec import Spec
from equipoise.study.store import Store
from equipoise.study.trial import Trial


@dataclass(frozen=True)
class Asked:
    """The trials of some arms.

    Attributes:
        tuning: those of tuning, by id; where every seed tunes for itself, the final ones are among them.
        finals: final trials that are run apart, by id.
        tuning_to_come: those of tuning that cannot be named yet, at most.
        finals_to_come: final ones that cannot be named yet.
    """

    tuning: Mapping[str, Trial]
    finals: Mapping[str, Trial]
    tuning_to_come: int
    finals_to_come: int

    @property
    def ids(self) -> set[str]:
        """Of all that can be named."""
        return {*self.tuning, *self.finals}

    @property
    def total(self) -> int:
        """How many there will be, as far as it is known."""
        return len(self.ids) + self.tuning_to_come + self.finals_to_come

    def __or__(self, other: Asked) -> Asked:
        """Those of both."""
        return Asked(
            {**self.tuning, **other.tuning},
            {**self.finals, **other.finals},
            self.tuning_to_come + other.tuning_to_come,
            self.finals_to_come + other.finals_to_come,
        )


NONE = Asked({}, {}, 0, 0)


def asked(planned: Iterable[Plan], spec: Spec) -> Asked:
    """The trials of some plans of a study."""
    whole = NONE
    for plan in planned:
        whole |= _of(plan, spec)
    return whole


def asked_by(store: Store, spec: Spec) -> Asked:
    """The trials of a study at one setting of what it sweeps, as its store knows it."""
    told = described(store, spec)
    found = Measurements(told, store)
    return asked(plans(spec, arms(spec, told["first_losses"]), found).values(), spec)


def _of(plan: Plan, spec: Spec) -> Asked:
    tuning = {t.id: t for tried in plan.tried for own in tried.values() for t in own}
    waiting = 0
    if not plan.choice.complete:
        for tried, seeds in zip(plan.tried, procedures(spec), strict=True):
            # A space that follows from the study at once has named all that it has.
            if plan.arm.space.remembered or not tried:
                waiting += max(plan.arm.space.size - len(tried), 0) * len(seeds)
    if spec.tuning == "per seed":
        return Asked(tuning, {}, waiting, 0)
    finals = {t.id: t for t in plan.finals if t is not None}
    open_ = 0 if plan.choice.complete else sum(t is None for t in plan.finals)
    return Asked(tuning, finals, waiting, open_)
