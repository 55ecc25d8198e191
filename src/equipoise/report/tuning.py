"""The panels of tuning: the score of every candidate."""

from __future__ import annotations

import altair as alt
import numpy as np

from equipoise.report.look import ACCENT, FAINT, PAPER, Spec, sized
from equipoise.study import ArmFindings, Candidate, Findings
from equipoise.study.selection import Measure
from equipoise.study.trial import with_options


def rates(found: Findings, entry: ArmFindings) -> Spec | None:
    """Validation score of each tuning candidate; the chosen one is filled."""
    rows = []
    task = entry.arm.task
    first = None if task is None else _first(found, task)
    varied = {candidate.learning_rate for candidate in entry.choice.scores}
    ordered = sorted(entry.choice.scores.items(), key=lambda pair: _place(entry, pair[0]))
    for candidate, score in ordered:
        tuned = [f"{candidate.option(name):g}" for name in entry.arm.search]
        at = f"{candidate.learning_rate:g}" if len(varied) > 1 or not tuned else ""
        if first is not None and not first.higher_is_better:
            score = -score
        chosen = candidate == entry.choice.candidate
        rows.append(
            {
                "method": entry.arm.label,
                "at": " ".join(filter(None, [at, *tuned])),
                "score": score if np.isfinite(score) else None,
                "chosen": "chosen" if chosen else "tried",
                "trial": ", ".join(_trials(found, entry, candidate)),
            }
        )
    known = [row for row in rows if row["score"] is not None]
    if not known:
        return None
    scale = alt.Scale(zero=False, padding=6) if task else alt.Scale(domain=_shared_domain(found))
    name = "Δm, %" if first is None else f"{first.metric}{', ' * bool(first.unit)}{first.unit}"
    searched = ", ".join(entry.arm.search) if len(varied) == 1 or not entry.arm.search else ""
    both = f"learning rate, {', '.join(entry.arm.search)}" if entry.arm.search else "learning rate"
    y = alt.Y("score:Q", title=name, scale=scale, axis=alt.Axis(tickCount=3))
    x = alt.X("at:O", sort=None, title=searched or both, axis=alt.Axis(labelAngle=0))
    base = alt.Chart(alt.InlineData(values=rows)).encode(
        x=x,
        y=y,
        tooltip=[
            "method:N",
            alt.Tooltip("at:N", title=searched or both),
            alt.Tooltip("score:Q", title=name, format=".4~g"),
            alt.Tooltip("trial:N", title="trial"),
        ],
    )
    dots = base.mark_point(size=50, opacity=1, color=ACCENT, clip=True).encode(
        fill=alt.condition("datum.chosen == 'chosen'", alt.value(ACCENT), alt.value(PAPER))
    )
    return sized(base.mark_line(color=FAINT, clip=True) + dots, height=90)


def _place(entry: ArmFindings, candidate: Candidate) -> tuple[float, ...]:
    return candidate.learning_rate, *(float(candidate.option(name)) for name in entry.arm.search)


def _trials(found: Findings, entry: ArmFindings, candidate: Candidate) -> list[str]:
    """Ids of the trials of a candidate, the first three."""
    arguments = with_options(entry.arm.arguments)
    ids = [
        id_[:12]
        for id_, stored in found.stored.items()
        if (stored.trial.method, stored.trial.task) == (entry.arm.method, entry.arm.task)
        and stored.trial.learning_rate == candidate.learning_rate
        and (stored.trial.method_options, stored.trial.arguments) == (candidate.options, arguments)
        and stored.trial.stage == ("final" if found.spec.tuning == "per seed" else "tune")
    ]
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
