"""What a study has not run yet, and what that leaves open."""

from __future__ import annotations

from dataclasses import dataclass

from equipoise.study.findings import Findings
from equipoise.study.trial import SINGLE_TASK
from equipoise.study.words import counted, some


@dataclass(frozen=True)
class Missing:
    """What is not there yet.

    Attributes:
        tuning: labels of the arms of which trials of tuning are missing.
        finals: final runs that are missing.
        wanted: final runs that there are to be.
        tasks: those whose single-task networks are among them, so that Delta_m will change for every arm.
        stand_in: whether equal weights stand in for these networks meanwhile.
    """

    tuning: list[str]
    finals: int
    wanted: int
    tasks: list[str]
    stand_in: bool

    @property
    def short(self) -> str:
        """In a few words."""
        if self.finals:
            return f"{self.finals:,} of {counted(self.wanted, 'final run')} are missing"
        return f"trials of tuning of {some(self.tuning)} are missing"

    @property
    def text(self) -> str:
        """In a sentence or two."""
        text = f"The study is not finished: {self.short}"
        if self.tuning and self.finals:
            text += f", and trials of tuning of {some(self.tuning)}"
        text += "."
        if self.tasks:
            text += (
                f" Among them are single-task networks, of {some(self.tasks)}: Delta_m will change"
            )
            text += ", and is against equal weights meanwhile." if self.stand_in else "."
        return text


def missing(found: Findings) -> Missing | None:
    """What has not run; None where a study is finished."""
    arms = found.all_arms
    tuning = [each.arm.label for each in arms if not each.choice.complete]
    finals = sum(len(each.missing) for each in arms)
    if not tuning and not finals:
        return None
    single = found.single.items()
    return Missing(
        tuning=tuning,
        finals=finals,
        wanted=len(arms) * len(found.spec.seeds),
        tasks=[task for task, own in single if own.missing or not own.choice.complete],
        stand_in=found.reference != SINGLE_TASK,
    )
