"""The panels of tuning: the score of every candidate."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import numpy as np

from equipoise.report.look import ACCENT, FAINT, PAPER, Spec, sized
from equipoise.study import ArmFindings, Candidate, Findings
from equipoise.study.selection import Measure


def rates(found: Findings, entry: ArmFindings) -> Spec | None:
    """Validation score of each tuning candidate; those that seeds chose are filled."""
    rows = []
    task = entry.arm.task
    first = None if task is None else _first(found, task)
    varied = {candidate.learning_rate for candidate in entry.choice.scores}
    # Weights have no place on an axis: they share that of their learning rate.
    search = [name for name in entry.arm.search if name != "weights"]
    ordered = sorted(entry.choice.scores.items(), key=lambda pair: _place(search, pair[0]))
    for candidate, score in ordered:
        tuned = [candidate.told(name) for name in search]
        at = f"{candidate.learning_rate:g}" if len(varied) > 1 or not tuned else ""
        if first is not None and not first.higher_is_better:
            score = -score
        count = sum(each == candidate for each in entry.choice.by_seed)
        rows.append(
            {
                "method": entry.arm.label,
                "at": " ".join(filter(None, [at, *tuned])),
                "score": score if np.isfinite(score) else None,
                "chosen": count,
                "setting": candidate.told(*entry.arm.search),
                "trial": ", ".join(_trials(entry, candidate)),
            }
        )
    known = [row for row in rows if row["score"] is not None]
    if not known:
        return None
    scale = alt.Scale(zero=False, padding=6) if task else alt.Scale(domain=_shared_domain(found))
    name = "Δm, %" if first is None else f"{first.metric}{', ' * bool(first.unit)}{first.unit}"
    searched = ", ".join(search) if len(varied) == 1 and search else ""
    both = ", ".join(["learning rate", *search])
    y = alt.Y("score:Q", title=name, scale=scale, axis=alt.Axis(tickCount=3))
    x = alt.X("at:O", sort=None, title=searched or both, axis=alt.Axis(labelAngle=0))
    base = alt.Chart(alt.InlineData(values=rows)).encode(
        x=x,
        y=y,
        tooltip=[
            "method:N",
            alt.Tooltip("at:N", title=searched or both),
            alt.Tooltip("setting:N", title="options"),
            alt.Tooltip("score:Q", title=name, format=".4~g"),
            alt.Tooltip("chosen:Q", title="seeds that chose it"),
            alt.Tooltip("trial:N", title="trial"),
        ],
    )
    dots = base.mark_point(size=50, opacity=1, color=ACCENT, clip=True).encode(
        fill=alt.condition("datum.chosen > 0", alt.value(ACCENT), alt.value(PAPER))
    )
    alone = len({row["at"] for row in rows}) == len(rows)
    lines = base.mark_line(color=FAINT, clip=True)
    return sized(lines + dots if alone else dots, height=90)


def _place(search: Sequence[str], candidate: Candidate) -> tuple[float, tuple[str, ...]]:
    """By learning rate, then by the options: numbers by their size, words by the alphabet."""
    values = (candidate.option(name) for name in search)
    return candidate.learning_rate, tuple(
        f"{value:030.12f}" if isinstance(value, int | float) else str(value) for value in values
    )


def _trials(entry: ArmFindings, candidate: Candidate) -> list[str]:
    """Ids of the trials of a candidate, the first three."""
    ids = [trial.id[:12] for own in entry.plan.tried for trial in own.get(candidate, ())]
    return [*ids[:3], "…"] if len(ids) > 3 else ids


def _shared_domain(found: Findings) -> list[float]:
    best = [
        max((score for score in each.choice.scores.values() if np.isfinite(score)), default=0.0)
        for each in found.arms
    ]
    # A learning rate that ruins training must not flatten all panels: the axis ends where the best of
    # every method and as much again below it have room.
    return [1.8 * min(*best, 0.0) - 1, max(*best, 0.0) + 1]


def _first(found: Findings, task: str) -> Measure:
    return next(measure for measure in found.measures if measure.task == task)
