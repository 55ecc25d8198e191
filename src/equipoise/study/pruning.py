"""Gives up a trial half-way that is behind what was usual at that epoch: the bars of a search.

Bars are ``{"reference": {"task/metric": value}, "epochs": {"3": score}}``: after epoch 3 a trial goes on only
if its Delta_m on validation against the reference is at least the score.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import numpy as np

from equipoise.problems import Problem
from equipoise.study.statistics import change, delta_m
from equipoise.study.trial import canonical

Scores = Mapping[tuple[str, str], float]


def bars(reference: Scores, epochs: Mapping[int, float]) -> str:
    """The text of some bars; empty ones where there is none."""
    if not epochs:
        return "{}"
    named = {"/".join(key): value for key, value in reference.items()}
    return canonical({"reference": named, "epochs": {str(e): s for e, s in epochs.items()}})


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
    columns = [(task, metric) for task in problem.tasks for metric in task.metrics]
    keys = [(task.name, metric.name) for task, metric in columns]
    row = np.array([[found[key] for key in keys]])
    reference = np.array([[given["reference"]["/".join(key)] for key in keys]])
    higher = np.array([metric.higher_is_better for _, metric in columns])
    tasks = [task.name for task in problem.tasks]
    task_of = np.array([tasks.index(task) for task, _ in keys])
    score = float(delta_m(change(row, reference, higher).values, task_of)[0])
    if score >= bar:
        return ""
    usual = f"that of half of the earlier trials {bar:.4g}"
    return f"Delta_m on validation was {score:.4g} after epoch {epoch}, {usual}"
