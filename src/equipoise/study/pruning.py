"""Gives up a trial half-way that is behind what was usual at that epoch: the bars of a search.

Bars are ``{"reference": [[task, metric, value, plain], ...], "epochs": {"3": score}}``: after epoch 3 a trial
goes on only if its Delta_m on validation against the reference is at least the score.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import numpy as np

from equipoise.problems import Problem
from equipoise.study.selection import Measure
from equipoise.study.statistics import Array, Mask, delta_m
from equipoise.study.trial import canonical

Scores = Mapping[tuple[str, str], float]


def bars(
    measures: Sequence[Measure], reference: Array, plain: Mask, epochs: Mapping[int, float]
) -> str:
    """The text of some bars; empty ones where there is none.

    Args:
        measures: the columns M.
        reference: what Delta_m is taken against, ``[R, M]``.
        plain: columns where it is near zero, ``[M]``.
        epochs: the score of each epoch.
    """
    if not epochs:
        return "{}"
    columns = [
        [measure.task, measure.metric, float(mean), bool(near)]
        for measure, mean, near in zip(measures, reference.mean(0), plain, strict=True)
    ]
    return canonical({"reference": columns, "epochs": {str(e): s for e, s in epochs.items()}})


def medians(curves: Sequence[Mapping[int, float]]) -> dict[int, float]:
    """The median at every epoch but the last, of those that came so far; fewer than four say nothing."""
    if len(curves) < 4:
        return {}
    last = max(epoch for curve in curves for epoch in curve)
    at: dict[int, list[float]] = {}
    for curve in curves:
        for epoch, score in curve.items():
            if epoch < last and np.isfinite(score):
                at.setdefault(epoch, []).append(score)
    return {epoch: float(np.median(scores)) for epoch, scores in at.items() if len(scores) >= 4}


def below(text: str, problem: Problem, epoch: int, found: Scores) -> str:
    """Which bar a trial is below, in words; empty where it goes on.

    Args:
        text: the bars.
        problem: the problem.
        epoch: that just ended.
        found: on validation, by task and metric.
    """
    given = json.loads(text)
    bar = given.get("epochs", {}).get(str(epoch))
    if bar is None:
        return ""
    changes, task_of = [], []
    names = [task.name for task in problem.tasks]
    for task, metric, mean, plain in given["reference"]:
        known = {each.name: each.higher_is_better for each in problem.by_name[task].metrics}
        sign = 1.0 if known[metric] else -1.0
        unit = 1.0 if plain else abs(mean) / 100
        changes.append(sign * (found[task, metric] - mean) / unit)
        task_of.append(names.index(task))
    score = float(delta_m(np.array(changes), np.array(task_of)))
    if score >= bar:
        return ""
    usual = f"that of half of the earlier trials {bar:.4g}"
    return f"Delta_m on validation was {score:.4g} after epoch {epoch}, {usual}"
