"""Runs one trial: trains a network, measures it, and returns the numbers."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import fmean, pstdev
from typing import Any, Literal

import torch
from torch import Tensor, nn

import equipoise
from equipoise.problems import Problem, Split, Task, problem
from equipoise.study.gradients import task_gradients
from equipoise.study.trial import (
    SINGLE_TASK,
    Cost,
    GradientRow,
    MetricRow,
    Result,
    Trial,
    WeightRow,
)

Losses = dict[str, Tensor]
# Validation and test are scored in pieces of this many examples, to bound memory.
PIECE = 1024
# Examples on which task gradients are compared after each epoch.
PROBE = 256


def run(trial: Trial, threads: int = 1) -> Result:
    """Runs a trial.

    The same trial gives the same numbers wherever it runs on the same kind of machine: every random
    draw comes from its seed, and it always computes with the same number of threads.

    Args:
        trial: what to run.
        threads: torch threads.

    Raises:
        ValueError: the problem or the method does not exist, or does not take its options.
    """
    with _threads(threads):
        return _Run(trial, threads).result()


class _Run:
    def __init__(self, trial: Trial, threads: int) -> None:
        self.trial = trial
        self.threads = threads
        self.began = time.perf_counter()
        self.problem: Problem = problem(trial.problem, **json.loads(trial.problem_options))
        names = [trial.task] if trial.task else [task.name for task in self.problem.tasks]
        self.tasks: list[Task] = [self.problem.by_name[name] for name in names]
        # Before anything of the method is built: the same seed, the same weights under every method.
        torch.manual_seed(trial.seed)
        self.model = self.problem.model(names).to(trial.device)
        self.initial = _digest(self.model.state_dict().values())
        self.balancer = balancer(trial, names)
        groups: list[dict[str, Any]] = [{"params": list(self.model.parameters())}]
        if self.balancer is not None:
            groups += self.balancer.param_groups()
        self.optimizer = _optimizer(trial, groups)
        self.metrics: list[MetricRow] = []
        self.weights: list[WeightRow] = []
        self.gradients: list[GradientRow] = []
        self.times: list[float] = []
        self.forwards = 0
        self.passes = 0
        self.order = hashlib.sha256()

    def result(self) -> Result:
        """Trains, measures, and gathers what was found."""
        note = self._train(self.problem.split("train").to(self.trial.device))
        # The only place that asks for the test split.
        if self.trial.stage == "final" and not note:
            test = self.problem.split("test").to(self.trial.device)
            note = self._evaluate(self.trial.epochs, "test", test)
        steps = len(self.times)
        cost = Cost(
            steps=steps,
            samples=steps * self.batch,
            forwards=self.forwards,
            backwards=self.passes,
            step_ms=1e3 * _fast(self.times),
            seconds=time.perf_counter() - self.began,
        )
        return Result(
            status="diverged" if note else "done",
            note=note,
            metrics=tuple(self.metrics),
            weights=tuple(self.weights),
            gradients=tuple(self.gradients),
            cost=cost,
            initial=self.initial,
            order=self.order.hexdigest()[:16],
            threads=self.threads,
        )

    def _train(self, data: Split) -> str:
        """Trains; returns what diverged, or nothing."""
        validation = self.problem.split("validation").to(self.trial.device)
        self.batch = min(self.trial.batch_size, len(data))
        steps = len(data) // self.batch
        schedule = _schedule(self.trial, self.optimizer, steps * self.trial.epochs)
        # A generator of its own: a method or a model that draws must not change the batches.
        shuffle = torch.Generator().manual_seed(self.trial.seed)
        torch.manual_seed(self.trial.seed)
        counted = _watch(self.model, self._count)
        for epoch in range(1, self.trial.epochs + 1):
            order = torch.randperm(len(data), generator=shuffle)[: steps * self.batch]
            self.order.update(order.numpy().tobytes())
            note = self._epoch(epoch, data, order.view(steps, self.batch), schedule)
            note = note or self._evaluate(epoch, "validation", validation)
            if note:
                return note
            counted.remove()
            self._trace(epoch, data.take(slice(0, PROBE)))
            counted = _watch(self.model, self._count)
        counted.remove()
        return ""

    def _epoch(self, epoch: int, data: Split, batches: Tensor, schedule: Callable[[], None]) -> str:
        self.model.train()
        raw: dict[str, list[float]] = {task.name: [] for task in self.tasks}
        given: dict[str, list[float]] = {}
        for batch in batches:
            rows = data.take(batch.to(data.inputs.device))
            start = time.perf_counter()
            self.optimizer.zero_grad(set_to_none=True)
            values, backward = self._forward(rows)
            broken = [name for name, value in values.items() if not math.isfinite(value)]
            if broken:
                return _diverged(epoch, f"the training loss of {broken[0]!r}")
            backward()
            applied = {} if self.balancer is None else self.balancer.weights
            self.optimizer.step()
            if self.balancer is not None:
                self.balancer.after_step(lambda rows=rows: self._losses(rows))  # type: ignore[misc]
            schedule()
            self.times.append(time.perf_counter() - start)
            for name, value in values.items():
                raw[name].append(value)
            for name, weight in applied.items():
                given.setdefault(name, []).append(weight)
        for name, seen in raw.items():
            self.metrics.append(MetricRow(epoch, "train", name, "loss", fmean(seen)))
        for name, seen in given.items():
            self.weights.append(WeightRow(epoch, name, fmean(seen), pstdev(seen)))
        if self.balancer is not None:
            self.balancer.end_epoch()
        return ""

    def _losses(self, rows: Split) -> Losses:
        self.forwards += 1
        if self.balancer is not None and self.trial.route == "features":
            outputs = self.model(rows.inputs, share=self.balancer.share)
        else:
            outputs = self.model(rows.inputs)
        return {
            task.name: task.loss(outputs[task.name], rows.targets[task.name]) for task in self.tasks
        }

    def _forward(self, rows: Split) -> tuple[dict[str, float], Callable[[], object]]:
        """The training losses of a batch, and what takes their backward pass.

        A method that needs several batches a step gets equal parts of this one, so that every method sees
        the same examples in the same number of steps.
        """
        balancer = self.balancer
        if balancer is None:
            (loss,) = self._losses(rows).values()
            return {self.tasks[0].name: loss.item()}, lambda: torch.autograd.backward(loss)
        if balancer.method.needs == "bilevel":
            inner, outer = _parts(rows, 2)
            total = balancer.bilevel(lambda: self._losses(inner), lambda: self._losses(outer))
            metrics = balancer.metrics(prefix="")
            values = {task.name: metrics[f"loss/{task.name}"] for task in self.tasks}
            return values, lambda: torch.autograd.backward(total)
        pieces = _parts(rows, 3) if balancer.method.needs == "batches" else [rows]
        losses = [self._losses(piece) for piece in pieces]
        values = {
            task.name: fmean(batch[task.name].item() for batch in losses) for task in self.tasks
        }
        return values, lambda: balancer.backward(*losses)

    def _evaluate(self, epoch: int, name: Literal["validation", "test"], data: Split) -> str:
        """Losses and metrics on a whole split; returns what is not finite, or nothing."""
        outputs = _predict(self.model, data)
        for task in self.tasks:
            out, target = outputs[task.name], data.targets[task.name]
            found = {"loss": float(task.loss(out, target))}
            found |= {metric.name: metric.score(out, target) for metric in task.metrics}
            for metric, value in found.items():
                if not math.isfinite(value):
                    return _diverged(epoch, f"{metric} of {task.name!r} on the {name} split")
                self.metrics.append(MetricRow(epoch, name, task.name, metric, value))
        return ""

    def _trace(self, epoch: int, probe: Split) -> None:
        """Norms and cosines of the task gradients of the trunk, on examples that never change."""
        if self.trial.stage == "tune" or len(self.tasks) < 2:
            return
        norms, cosines = task_gradients(self.model, self.tasks, probe)
        names = [task.name for task in self.tasks]
        for i, name in enumerate(names):
            self.gradients.append(GradientRow(epoch, name, name, norms[i]))
            for j in range(i):
                # Undefined where a gradient vanished: then there is no angle to report.
                if math.isfinite(cosines[i][j]):
                    self.gradients.append(GradientRow(epoch, names[j], name, cosines[i][j]))

    def _count(self, _: Tensor) -> None:
        self.passes += 1


def _parts(rows: Split, count: int) -> list[Split]:
    """The batch in equal parts."""
    size = len(rows) // count
    return [rows.take(slice(k * size, (k + 1) * size)) for k in range(count)]


def balancer(trial: Trial, names: list[str]) -> equipoise.Balancer | None:
    """The balancer of a trial over these tasks; None for a single-task trial.

    Raises:
        ValueError: no such method or option, or the method does not go with the route.
    """
    if trial.method == SINGLE_TASK:
        return None
    route: Any = trial.route
    # Methods with one route of their own take it, whatever the study asks of the others.
    if route not in equipoise.method(trial.method, **trial.options()).routes:
        route = "auto"
    weight_sum: Any = trial.weight_sum
    return equipoise.Balancer(
        trial.method,
        tasks=names,
        route=route,
        weight_sum=weight_sum,
        seed=trial.seed,
        **trial.options(),
    )


def _optimizer(trial: Trial, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    rate, decay = trial.learning_rate, trial.weight_decay
    if trial.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=rate, momentum=0.9, weight_decay=decay)
    return torch.optim.AdamW(groups, lr=rate, weight_decay=decay)


def _schedule(trial: Trial, optimizer: torch.optim.Optimizer, steps: int) -> Callable[[], None]:
    if trial.schedule == "constant":
        return lambda: None
    return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps).step


def _predict(model: nn.Module, data: Split) -> Losses:
    """Outputs of the whole split, by task."""
    model.eval()
    with torch.no_grad():
        pieces = [model(data.inputs[start : start + PIECE]) for start in range(0, len(data), PIECE)]
    return {name: torch.cat([piece[name] for piece in pieces]) for name in pieces[0]}


def _watch(model: nn.Module, count: Callable[[Tensor], None]) -> Any:
    """Calls ``count`` for each gradient that comes to the bottom of the trunk: it went through all of it."""
    trunk = getattr(model, "trunk", model)
    bottom = next(
        module
        for module in trunk.modules()
        if any(p.requires_grad for p in module.parameters(recurse=False))
    )

    def watched(_: nn.Module, __: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.requires_grad:
            output.register_hook(count)  # type: ignore[no-untyped-call]

    return bottom.register_forward_hook(watched)


def _digest(tensors: Any) -> str:
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _fast(times: list[float]) -> float:
    """The time under which a tenth of the steps stayed: what else the machine did disturbs it least."""
    return sorted(times)[len(times) // 10] if times else math.nan


def _diverged(epoch: int, what: str) -> str:
    return f"{what} is not finite in epoch {epoch}"


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
