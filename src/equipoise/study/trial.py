"""A trial: everything that decides one training run, as one frozen record."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Any, Literal

Stage = Literal["tune", "final"]
Cause = Literal["error", "data", "memory", "death", "time"]
SINGLE_TASK = "stl"
# What ends a trial for good; a failed one is tried again.
FINISHED = ("done", "diverged", "pruned")
OPTIMIZERS = ("adamw", "sgd")
SCHEDULES = ("cosine", "constant")


def canonical(value: Any) -> str:
    """The one JSON text of a value: keys sorted, no spaces, every float in its shortest form."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One training run. Two trials with equal fields are the same trial, on any machine.

    Attributes:
        problem: name of the problem, as :func:`equipoise.problems.problem` takes it.
        problem_options: its options, as canonical JSON.
        method: id of the method, ``"my_method.py:Class"``, or ``"stl"`` for a network that learns ``task``
            alone.
        method_options: its options, as canonical JSON.
        arguments: further arguments of :class:`equipoise.Balancer`, such as ``heads`` or ``update_every``, as
            canonical JSON.
        task: the only task of a single-task trial; None for all tasks.
        stage: a ``"tune"`` trial sees training and validation data; only a ``"final"`` one reads the
            test split, once, after its last epoch.
        seed: governs initial weights, order of the batches and the method's own draws.
        learning_rate: at the start; ``schedule`` says what becomes of it.
        weight_decay: of the network; balancing parameters are not decayed.
        optimizer: ``"adamw"``, ``"sgd"`` (momentum 0.9) or ``"package:factory"``.
        schedule: ``"cosine"`` (to zero), ``"constant"`` or ``"package:factory"``.
        epochs: passes over the training data.
        batch_size: examples in a step; a last incomplete batch is dropped.
        checkpoint: ``"last"``; or a criterion on validation, ``"loss"`` or ``"task/metric"``, at whose best
            epoch test numbers are taken beside those of the last.
        flatness: how far parameters are moved at random, relative to their norm, to see how much the loss on
            validation rises at the end; 0: not looked at.
        bars: a search's look at a trial half-way, as canonical JSON; see :mod:`equipoise.study.pruning`.
        route: where task gradients are taken, as in :class:`equipoise.Balancer`.
        weight_sum: convention for the sum of the weights, as in :class:`equipoise.Balancer`.
        device: where the trial computes.
    """

    problem: str
    problem_options: str = "{}"
    method: str
    method_options: str = "{}"
    arguments: str = "{}"
    task: str | None = None
    stage: Stage
    seed: int
    learning_rate: float
    weight_decay: float = 0.0
    optimizer: str = "adamw"
    schedule: str = "cosine"
    epochs: int
    batch_size: int
    checkpoint: str = "last"
    flatness: float = 0.0
    bars: str = "{}"
    route: str = "auto"
    weight_sum: str = "paper"
    device: str = "cpu"

    def __post_init__(self) -> None:
        if (self.method == SINGLE_TASK) != (self.task is not None):
            raise ValueError(
                f"a trial of {self.method!r} has task {self.task!r}; 'stl' needs the one task it "
                f"learns, every other method learns all tasks"
            )

    @cached_property
    def id(self) -> str:
        """SHA-256 of the canonical JSON of all fields that are not at their default.

        Hence a field that a later version adds leaves the identity of earlier trials as it is.
        """
        given = {
            each.name: getattr(self, each.name)
            for each in fields(self)
            if getattr(self, each.name) != each.default
        }
        return hashlib.sha256(canonical(given).encode()).hexdigest()

    def options(self) -> dict[str, Any]:
        """The method's options."""
        return dict(json.loads(self.method_options))

    def arguments_given(self) -> dict[str, Any]:
        """Further arguments of the balancer."""
        return dict(json.loads(self.arguments))

    def to_json(self) -> str:
        """The record as canonical JSON."""
        return canonical(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Trial:
        """The record that :meth:`to_json` wrote."""
        return cls(**json.loads(text))


@dataclass(frozen=True)
class MetricRow:
    """One measured number; epoch counts from 1. The metric ``"loss"`` is the raw, unweighted loss."""

    epoch: int
    split: str
    task: str
    metric: str
    value: float


@dataclass(frozen=True)
class WeightRow:
    """The weights a task was given in an epoch: mean and standard deviation over the steps."""

    epoch: int
    task: str
    mean: float
    std: float


@dataclass(frozen=True)
class GradientRow:
    """Cosine between two task gradients of the trunk after an epoch; the norm where both are the same."""

    epoch: int
    task: str
    other: str
    value: float


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a trial spent.

    Attributes:
        steps: optimiser steps.
        samples: training examples forwarded, as often as they were.
        forwards: forward passes for training.
        backwards: backward passes through the shared trunk, counted in whole trunks.
        step_ms: wall time of a step, in milliseconds: a tenth of the steps were faster.
        seconds: wall time of the whole trial, evaluation included.
    """

    steps: int
    samples: int
    forwards: int
    backwards: int
    step_ms: float
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a trial found. A training run that left the finite numbers is a result too.

    Attributes:
        status: ``"done"``, ``"diverged"``, or ``"pruned"`` where a search gave the trial up half-way.
        note: what diverged, or was below which bar, and where; empty otherwise.
        initial: digest of the initial weights.
        order: digest of the order of all training examples.
        threads: torch threads it ran with.
    """

    status: Literal["done", "diverged", "pruned"]
    note: str
    metrics: tuple[MetricRow, ...]
    weights: tuple[WeightRow, ...]
    gradients: tuple[GradientRow, ...]
    cost: Cost
    initial: str
    order: str
    threads: int


@dataclass(frozen=True)
class Failure:
    """A trial that gave no result.

    Attributes:
        error: what it ended with: a traceback, or a sentence.
        attempts: how often it was begun.
        cause: ``"error"``: it raised; ``"data"``: a file of a data set is wrong; ``"memory"``: there was
            not enough; ``"death"``: its process ended; ``"time"``: it went on beyond its limit.
    """

    error: str
    attempts: int = 1
    cause: Cause = "error"


Outcome = Result | Failure


def with_options(options: Mapping[str, Any]) -> str:
    """Options as a trial holds them."""
    return canonical(dict(options))
