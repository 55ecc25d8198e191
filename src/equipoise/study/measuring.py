"""Measures a network: losses and metrics of a split, and how far task gradients agree."""

from __future__ import annotations

import copy
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from statistics import fmean
from typing import Any

import torch
from torch import Tensor, nn

import equipoise
from equipoise.problems import Batch, Metric, Problem
from equipoise.problems.base import output_of, outputs_of
from equipoise.problems.nesting import told

# Stands for the task of a metric of the whole problem.
JOINT = "(all)"
Scores = dict[tuple[str, str], float]


@torch.no_grad()
def scores(
    problem: Problem, model: nn.Module, names: Sequence[str], data: Iterable[Batch]
) -> Scores:
    """Loss and metrics, by task and name, of a whole split; the model is left in evaluation mode.

    The loss is the mean of the batches' losses, weighted by their labels.

    Raises:
        ValueError: a task has no label in the split, or outputs of a metric of a whole split differ in
            shape between batches.
    """
    model.eval()
    seen: dict[str, list[tuple[Any, Any]]] = defaultdict(list)
    losses: dict[str, list[tuple[float, int]]] = defaultdict(list)
    streams = {
        (name, metric.name): _fresh(metric)
        for name in names
        for metric in problem.by_name[name].metrics
        if metric.streams
    }
    whole = [metric for metric in problem.metrics if len(names) > 1]
    joint: list[tuple[Mapping[str, Any], Mapping[str, Any]]] = []
    for full in data:
        batch = full.only(names)
        outputs = outputs_of(model, batch)
        if problem.losses is not None:
            for name, loss in problem.losses(model, batch, None).items():
                losses[name].append((float(loss), batch.size))
        for name in (n for n in names if n in batch.targets):
            task = problem.by_name[name]
            there = task.labelled(output_of(outputs, name), batch.targets[name])
            if there is None:
                continue
            out, target, rows = there
            if problem.losses is None:
                losses[name].append((float(task.loss_of(out, target)), rows))
            for metric in task.metrics:
                if metric.streams:
                    with _named(metric, f" of task {name!r}"):
                        streams[name, metric.name].update(out, target)
            if any(not metric.streams for metric in task.metrics):
                seen[name].append((out, target))
        if whole:
            joint.append((outputs, batch.targets))
    found: Scores = {}
    for name in names:
        if not losses[name]:
            raise ValueError(
                f"task {name!r} has no label in this split, so nothing can be measured"
            )
        count = sum(rows for _, rows in losses[name])
        found[name, "loss"] = sum(loss * rows for loss, rows in losses[name]) / count
        for metric in problem.by_name[name].metrics:
            if metric.streams:
                with _named(metric, f" of task {name!r}"):
                    found[name, metric.name] = float(streams[name, metric.name].compute())
                continue
            out, target = (_joined(parts, name) for parts in zip(*seen[name], strict=True))
            with _named(metric, f" of task {name!r}"):
                found[name, metric.name] = float(metric.score(out, target))
    for metric in whole:
        with _named(metric, " of all tasks"):
            found[JOINT, metric.name] = _score_of_all(metric, joint, names)
    return found


@contextmanager
def _named(metric: Metric, of: str) -> Iterator[None]:
    """Tells whose metric raised, or returned something else than a number."""
    try:
        yield
    except Exception as error:
        raise ValueError(f"metric {metric.name!r}{of} gave no number: {told(error)}") from error


def _fresh(metric: Metric) -> Any:
    own = copy.deepcopy(metric.score)
    if hasattr(own, "reset"):
        own.reset()
    return own


def _joined(parts: Sequence[Any], name: str) -> Any:
    if len(parts) == 1:
        return parts[0]
    first = parts[0]
    if isinstance(first, Tensor):
        try:
            return torch.cat(list(parts))
        except RuntimeError:
            raise ValueError(
                f"the outputs or targets of task {name!r} differ in shape from batch to batch, so that no "
                "metric can be a function of the whole split; give it an object with update and compute"
            ) from None
    if isinstance(first, Mapping):
        return {key: _joined([part[key] for part in parts], name) for key in first}
    if isinstance(first, list | tuple):
        return [_joined(list(column), name) for column in zip(*parts, strict=True)]
    return list(parts)


def _score_of_all(metric: Metric, seen: list[tuple[Any, Any]], names: Sequence[str]) -> float:
    if metric.streams:
        own = _fresh(metric)
        for outputs, targets in seen:
            own.update(outputs, targets)
        return float(own.compute())
    outputs, targets = (
        {n: _joined([part[n] for part in parts if n in part], n) for n in names}
        for parts in zip(*seen, strict=True)
    )
    return float(metric.score(outputs, targets))


def broken(found: Scores) -> tuple[str, str] | None:
    """The first number that is not finite."""
    return next((key for key, value in found.items() if not math.isfinite(value)), None)


def criterion(problem: Problem, names: list[str], by: str, found: Scores) -> float:
    """A criterion on validation, higher is better.

    Args:
        problem: the problem.
        names: of the tasks that are learned.
        by: ``"loss"`` for the mean of the tasks' losses, or ``"task/metric"``; a single-task network of
            another task goes by its own first metric.
        found: what was measured.

    Raises:
        ValueError: there is no such metric.
    """
    if by == "loss":
        return -fmean(found[name, "loss"] for name in names)
    task, _, metric = by.rpartition("/")
    if len(names) == 1 and task != names[0]:
        task, metric = names[0], problem.by_name[names[0]].metrics[0].name
    known = (
        {m.name: m.higher_is_better for m in problem.by_name[task].metrics} if task in names else {}
    )
    if metric != "loss" and metric not in known:
        raise ValueError(
            f"checkpoint={by!r} is no criterion: name 'loss' or 'task/metric', such as "
            f"'{names[0]}/{problem.by_name[names[0]].metrics[0].name}'"
        )
    sign = 1.0 if known.get(metric, False) else -1.0
    return sign * found[task, metric]


def task_gradients(
    problem: Problem, model: nn.Module, names: Sequence[str], probe: Batch
) -> tuple[list[str], list[float], list[list[float]]]:
    """Norms and cosines of the task gradients of the shared parameters, which the graph tells.

    The model is in evaluation mode meanwhile, so that neither running statistics nor random generators
    move.

    Args:
        problem: the problem.
        model: the network.
        names: of its tasks.
        probe: the examples to take the gradients on.

    Returns:
        The tasks that have labels among the examples, K norms, and K x K cosines (NaN where a gradient is
        zero); nothing where fewer than two tasks have, or nothing is shared.
    """
    with _evaluating(model):
        losses = problem.losses_of(model, probe.only(names))
        if len(losses) < 2:
            return [], [], []
        looking = equipoise.Balancer("mgda", tasks=list(losses))
        try:
            looking(losses)
        except ValueError:
            return [], [], []
    gramian = looking.gramian
    assert gramian is not None
    norms = gramian.diagonal().clamp_min(0).sqrt()
    cosines = gramian / norms.outer(norms)
    return list(losses), norms.tolist(), cosines.tolist()


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    before = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(before)
