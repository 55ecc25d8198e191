"""The way to the minimum and what lies around it: convergence, and flatness."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from equipoise.study.arm_findings import ArmFindings
from equipoise.study.findings import Findings
from equipoise.study.statistics import Array, Difference, Estimate, compare, mean_interval
from equipoise.study.train import AROUND


@dataclass(frozen=True)
class Convergence:
    """How fast an arm's training loss falls.

    Attributes:
        label: of the arm.
        samples: training examples forwarded by the end of each epoch, ``[E]``.
        losses: mean over tasks of the training loss, as a share of that before training, mean over seeds,
            ``[E]``.
        needed: examples until it was where equal weights end, as a share of all that equal weights saw; the
            median over seeds, infinite where it never was.
    """

    label: str
    samples: Array
    losses: Array
    needed: float


@dataclass(frozen=True)
class Flatness:
    """How far the losses on validation rise at random steps away from where training ended.

    Attributes:
        label: of the arm.
        rise: mean over tasks, in percent of the loss, with its interval over seeds.
        against: rise of this arm minus that of equal weights, paired by seed, in points; all arms are one
            family. None for equal weights.
    """

    label: str
    rise: Estimate
    against: Difference | None


def convergence(found: Findings) -> list[Convergence]:
    """The training losses of every arm against the examples that it has seen."""
    first = np.array([found.problem["first_losses"][task] for task in found.found.tasks])
    first = np.maximum(np.abs(first), 1e-12)
    curves = {each.arm.label: _curves(found, each, first) for each in found.arms}
    equal = curves.get("ew")
    told = []
    for entry in found.arms:
        runs = curves[entry.arm.label]
        if runs is None or entry.spent is None:
            continue
        share = np.arange(1, runs.shape[1] + 1) / runs.shape[1]
        needed = float("nan")
        if equal is not None and equal.shape == runs.shape:
            reached = [_reached(own, other[-1]) for own, other in zip(runs, equal, strict=True)]
            # A method that forwards more examples in a step has seen more of them by then.
            more = entry.spent.samples / found.arm("ew").spent.samples  # type: ignore[union-attr]
            needed = more * float(np.median(reached))
        told.append(Convergence(entry.arm.label, share * entry.spent.samples, runs.mean(0), needed))
    return told


def _curves(found: Findings, entry: ArmFindings, first: Array) -> Array | None:
    """``[S, E]``; None where a run has gaps."""
    runs = []
    for trial in entry.runs:
        epochs = found.found.curve(trial, "train")
        rows = [
            [row.get((t, "loss"), np.nan) for t in found.found.tasks] for row in epochs.values()
        ]
        runs.append(np.mean(np.array(rows).reshape(-1, len(first)) / first, axis=1))
    if not runs or len({len(run) for run in runs}) != 1 or not len(runs[0]):
        return None
    curves = np.stack(runs)
    return curves if np.isfinite(curves).all() and len(runs) == len(entry.trials) else None


def _reached(curve: Array, goal: float) -> float:
    """The share of the epochs until a falling curve was at the goal, between epochs by a straight line."""
    there = np.flatnonzero(curve <= goal)
    if not len(there):
        return float("inf")
    at = int(there[0])
    if at == 0:
        return 1 / len(curve)
    above, below = curve[at - 1], curve[at]
    return float((at + (above - goal) / (above - below)) / len(curve))


def flatness(found: Findings) -> list[Flatness]:
    """Every arm's rise, where the study measured it."""
    rises = {each.arm.label: _rises(found, each) for each in found.arms}
    known = {label: rise for label, rise in rises.items() if np.isfinite(rise).all() and len(rise)}
    if "ew" not in known:
        return []
    labels = list(known)
    gaps = compare(np.stack(list(known.values())), [labels.index("ew")])
    return [
        Flatness(label, mean_interval(known[label]), gaps.get((place, labels.index("ew"))))
        for place, label in enumerate(labels)
    ]


def _rises(found: Findings, entry: ArmFindings) -> Array:
    rises = []
    for trial in entry.trials:
        before = found.found.losses(trial, "validation")
        around = found.found.losses(trial, AROUND)
        rises.append(100 * float(np.mean((around - before) / np.maximum(np.abs(before), 1e-12))))
    return np.array(rises)
