"""Runs one trial: trains a network, measures it, and returns the numbers."""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable, Iterable
from itertools import islice
from statistics import fmean, pstdev
from typing import Any

import torch
from torch import Tensor

from equipoise.problems import Batch, Problem, Source, problem
from equipoise.solvers import NonFiniteError, SolverError
from equipoise.study.building import balancer, optimizer, schedule
from equipoise.study.counting import Counter, fast
from equipoise.study.environment import threads_of_torch
from equipoise.study.feeding import Feed, digest
from equipoise.study.flatness import losses_around
from equipoise.study.measuring import Scores, broken, criterion, scores, task_gradients
from equipoise.study.pruning import below
from equipoise.study.rehearsal import steps_of, why
from equipoise.study.trial import Cost, GradientRow, MetricRow, Result, Trial, WeightRow

Losses = dict[str, Tensor]
# Examples on which task gradients are compared after each epoch; fewer where a piece is smaller.
PROBE = 256
# The split of test numbers that were taken at the best epoch on validation.
TEST_AT_BEST = "test at best"
# That of the losses on validation at random steps away from the trained parameters.
AROUND = "around"
# Told after each epoch what validation found, and says why the trial is to be given up, or nothing.
Watch = Callable[[int, Scores], str]


def run(
    trial: Trial, threads: int = 1, steps: int | None = None, watch: Watch | None = None
) -> Result:
    """Runs a trial.

    The same trial gives the same numbers wherever it runs on the same kind of machine: every random
    draw comes from its seed, and it always computes with the same number of threads.

    Args:
        trial: what to run.
        threads: torch threads.
        steps: of an epoch at most, for a look at it.
        watch: may give the trial up after an epoch; None leaves that to the bars of the trial.

    Raises:
        ValueError: the problem or the method does not exist, or does not take its options.
    """
    with threads_of_torch(threads):
        return _Run(trial, threads, steps, watch).result()


class _Run:
    def __init__(
        self, trial: Trial, threads: int, steps: int | None = None, watch: Watch | None = None
    ) -> None:
        self.trial = trial
        self.threads = threads
        self.most = steps
        self.watch = watch or self._bars
        self.pruned = False
        self.began = time.perf_counter()
        self.problem: Problem = problem(trial.problem, **json.loads(trial.problem_options))
        every = [task.name for task in self.problem.tasks]
        self.names = [trial.task] if trial.task else every
        # Before anything of the method is built: the same seed, the same weights under every method.
        torch.manual_seed(trial.seed)
        self.model = self.problem.network(self.names).to(trial.device)
        self.initial = digest(self.model.state_dict().values())
        self.balancer = balancer(trial, self.names)
        needs = "" if self.balancer is None else self.balancer.method.needs
        # Batches of a step: a method that needs several gets parts of the one that the others get.
        self.parts = {"batches": 3, "bilevel": 2}.get(needs, 1)
        groups: list[dict[str, Any]] = [{"params": list(self.model.parameters())}]
        if self.balancer is not None:
            groups += self.balancer.param_groups()
        self.optimizer = optimizer(trial, groups)
        self.metrics: list[MetricRow] = []
        self.weights: list[WeightRow] = []
        self.gradients: list[GradientRow] = []
        self.times: list[float] = []
        self.counter = Counter()
        self.found: Scores = {}
        self.best: tuple[float, int, Any] | None = None

    def result(self) -> Result:
        """Trains, measures, and gathers what was found."""
        data = self._source("train")
        trial = self.trial
        self.feed = Feed(data, self.names, trial.batch_size, self.parts, trial.device)
        note = self._train(data)
        # The only place that asks for the test split.
        if self.trial.stage == "final" and not note:
            test = self._source("test")
            note = self._evaluate(self.trial.epochs, "test", test)
            if self.best is not None and not note:
                _, epoch, weights = self.best
                self.model.load_state_dict(weights)
                note = self._evaluate(epoch, TEST_AT_BEST, test)
        cost = Cost(
            steps=len(self.times),
            samples=self.counter.rows,
            forwards=self.counter.forwards,
            backwards=self.counter.backwards,
            step_ms=1e3 * fast(self.times),
            seconds=time.perf_counter() - self.began,
        )
        return Result(
            status="pruned" if self.pruned else "diverged" if note else "done",
            note=note,
            metrics=tuple(self.metrics),
            weights=tuple(self.weights),
            gradients=tuple(self.gradients),
            cost=cost,
            initial=self.initial,
            order=self.feed.order(),
            threads=self.threads,
        )

    def _source(self, name: Any) -> Source:
        source = self.problem.source(name)
        # In memory, and moved once.
        move = getattr(source, "to", None)
        return source if move is None else move(self.trial.device)

    def _train(self, data: Source) -> str:
        """Trains; returns what diverged, or nothing."""
        validation = self._source("validation")
        steps = steps_of(data, self.trial.batch_size)
        steps = steps if self.most is None else min(steps, self.most)
        advance = schedule(self.trial, self.optimizer, steps * self.trial.epochs)
        probe = next(iter(data.batches(min(PROBE, self.problem.piece), None))).to(self.trial.device)
        for epoch in range(1, self.trial.epochs + 1):
            with self.counter.watching(self.model):
                try:
                    note = self._epoch(epoch, steps, advance)
                except (NonFiniteError, SolverError) as error:
                    # A solver that gave up on finite gradients is a failure of its own.
                    if isinstance(error, SolverError) and bool(error.gramian.isfinite().all()):
                        raise
                    note = f"{error}, in epoch {epoch}"
            note = note or self._evaluate(epoch, "validation", validation) or self._given_up(epoch)
            if note:
                return note
            self._trace(epoch, probe)
        if self.trial.flatness:
            self._look_around(validation)
        return ""

    def _given_up(self, epoch: int) -> str:
        note = self.watch(epoch, self.found)
        # After the last epoch there is nothing left to give up.
        self.pruned = bool(note) and epoch < self.trial.epochs
        return note if self.pruned else ""

    def _bars(self, epoch: int, found: Scores) -> str:
        return below(self.trial.bars, self.problem, epoch, found)

    def _look_around(self, data: Source) -> None:
        """How far the losses on validation rise at random steps away from the trained parameters."""
        batches = [batch.to(self.trial.device) for batch in data.batches(self.problem.piece, None)]
        size, seed = self.trial.flatness, self.trial.seed
        found = losses_around(self.problem, self.model, self.names, batches, size, seed)
        for name, loss in found.items():
            if math.isfinite(loss):
                self.metrics.append(MetricRow(self.trial.epochs, AROUND, name, "loss", loss))

    def _epoch(self, epoch: int, steps: int, advance: Callable[[], None]) -> str:
        self.model.train()
        raw: dict[str, list[float]] = {name: [] for name in self.names}
        given: dict[str, list[float]] = {}
        # The order of the batches comes from the seed and the epoch alone: no method can change it.
        seed = 1_000_003 * self.trial.seed + epoch
        drawn = 0
        for number, step in enumerate(islice(self.feed.steps(seed), steps)):
            drawn += 1
            # Masks of dropout are those of this step under every method, however much the last one drew.
            torch.manual_seed(hash((self.trial.seed, epoch, number)) % 2**63)
            start = time.perf_counter()
            self.optimizer.zero_grad(set_to_none=True)
            values, backward = self._forward(step)
            if not values:
                # It moves nothing, and counts: the schedule ends where the training ends.
                self.optimizer.step()
                advance()
                continue
            wrong = [name for name, value in values.items() if not math.isfinite(value)]
            if wrong:
                what = f"the training loss of {wrong[0]!r}"
                return _diverged(epoch, what, self._why(wrong[0], step))
            backward()
            applied = {} if self.balancer is None else self.balancer.weights
            self.optimizer.step()
            if self.balancer is not None:
                self.balancer.after_step(lambda last=step[-1]: self._losses(last))  # type: ignore[misc]
            advance()
            self.times.append(time.perf_counter() - start)
            for name, value in values.items():
                raw[name].append(value)
            for name, weight in applied.items():
                given.setdefault(name, []).append(weight)
        for name, seen in raw.items():
            if seen:
                self.metrics.append(MetricRow(epoch, "train", name, "loss", fmean(seen)))
        for name, seen in given.items():
            self.weights.append(WeightRow(epoch, name, fmean(seen), pstdev(seen)))
        if drawn == 0:
            raise ValueError(
                f"the training data promise {steps} batches of {self.trial.batch_size} but gave none"
            )
        if self.balancer is not None:
            self.balancer.end_epoch()
        return ""

    def _losses(self, batch: Batch) -> Losses:
        self.counter.forward(batch.size)
        share = None
        if self.balancer is not None and self.trial.route == "features":
            share = self.balancer.share
        return dict(self.problem.losses_of(self.model, batch, share))

    def _forward(self, step: list[Batch]) -> tuple[dict[str, float], Callable[[], object]]:
        """The training losses of a step's batches, and what takes their backward pass."""
        balancer = self.balancer
        if balancer is None:
            found = self._losses(step[0])
            values = {name: loss.item() for name, loss in found.items()}
            return values, lambda: torch.autograd.backward(list(found.values()))
        if self.parts == 2:
            inner, outer = step
            total = balancer.bilevel(lambda: self._losses(inner), lambda: self._losses(outer))
            metrics = balancer.metrics(prefix="")
            values = {n: metrics[f"loss/{n}"] for n in self.names if f"loss/{n}" in metrics}
            return values, lambda: torch.autograd.backward(total)
        losses = [self._losses(batch) for batch in step]
        values = {
            name: fmean(each[name].item() for each in losses if name in each)
            for name in self.names
            if any(name in each for each in losses)
        }
        return values, lambda: balancer.backward(*losses)

    def _evaluate(self, epoch: int, name: str, data: Source) -> str:
        """Losses and metrics on a whole split; returns what is not finite, or nothing."""
        batches = (batch.to(self.trial.device) for batch in data.batches(self.problem.piece, None))
        found = scores(self.problem, self.model, self.names, batches)
        wrong = broken(found)
        if wrong is not None:
            what = f"{wrong[1]} of {wrong[0]!r} on the {name} split"
            return _diverged(
                epoch, what, self._why(wrong[0], data.batches(self.problem.piece, None))
            )
        for (task, metric), value in found.items():
            self.metrics.append(MetricRow(epoch, name, task, metric, value))
        if name == "validation":
            self.found = found
            self._keep_best(epoch, found)
        return ""

    def _why(self, name: str, batches: Iterable[Batch]) -> str:
        """What in the examples keeps a task's number from being finite; empty where they do not."""
        if name not in self.problem.by_name:
            return ""
        return next(filter(None, (why(self.problem.by_name[name], each) for each in batches)), "")

    def _keep_best(self, epoch: int, found: Scores) -> None:
        """Keeps the network where the named criterion on validation is the best so far."""
        if self.trial.checkpoint == "last" or self.trial.stage == "tune":
            return
        value = criterion(self.problem, self.names, self.trial.checkpoint, found)
        if self.best is None or value > self.best[0]:
            self.best = value, epoch, copy.deepcopy(self.model.state_dict())

    def _trace(self, epoch: int, probe: Batch) -> None:
        """Norms and cosines of the task gradients, on examples that never change."""
        if self.trial.stage == "tune" or len(self.names) < 2:
            return
        names, norms, cosines = task_gradients(self.problem, self.model, self.names, probe)
        for i, name in enumerate(names):
            self.gradients.append(GradientRow(epoch, name, name, norms[i]))
            for j in range(i):
                # Undefined where a gradient vanished: then there is no angle to report.
                if math.isfinite(cosines[i][j]):
                    self.gradients.append(GradientRow(epoch, names[j], name, cosines[i][j]))


def _diverged(epoch: int, what: str, reason: str = "") -> str:
    return f"{what} is not finite in epoch {epoch}" + (reason and f": {reason}")
