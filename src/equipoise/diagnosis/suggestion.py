"""A few steps of your own network, and what they say about where to begin."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any

import torch
from torch import Tensor, nn

from equipoise.diagnosis.facts import Facts
from equipoise.diagnosis.jacobians import Gradients, over_points, task_gradients

# Points of the run, over its last third, at which gradients are looked at: at one point they swing.
POINTS = 3

Losses = Callable[[nn.Module, Any], Mapping[str, Tensor | None]]


_COMPARE = "is found out by a comparison (equipoise.study), not by these numbers"


@dataclass(frozen=True)
class Suggestion:
    """What a few steps showed. Printed, it is a few lines of text.

    Attributes:
        method: id of a method to begin with.
        options: of :class:`equipoise.Balancer` for it.
        kind: ``"scale"``, ``"conflict"`` or ``"nothing"``: what stood out.
        reasons: a sentence each.
        losses: means over the batches, before the steps, by task.
        learned: by which share of itself each loss fell in the steps.
        norms: of the task gradients at the shared parameters, by task: mean over three points of the last
            third of the steps.
        agreement: mean cosine between a task's gradients of different batches: low is noise.
        cosines: between the mean gradients of two tasks, as a mean over the three points.
        spread: the least and the greatest of these cosines at the three points.
        seconds: of a forward and backward pass of the sum; and with a backward pass a task.
        peak_bytes: memory that was allocated at most in each of the two, on a GPU; None elsewhere.
    """

    method: str
    options: Mapping[str, Any]
    kind: str
    reasons: tuple[str, ...]
    losses: Mapping[str, float]
    learned: Mapping[str, float]
    norms: Mapping[str, float]
    agreement: Mapping[str, float]
    cosines: Mapping[tuple[str, str], float]
    spread: Mapping[tuple[str, str], tuple[float, float]]
    seconds: tuple[float, float]
    peak_bytes: tuple[int, int] | None

    def __str__(self) -> str:
        """The numbers by task, the reasons, and what to begin with."""
        lines = [f"{'task':<20} {'loss':>10} {'fell by':>8} {'gradient':>10} {'agreement':>9}"]
        for name, loss in self.losses.items():
            lines.append(
                f"{name:<20} {loss:>10.4g} {self.learned[name]:>8.0%} {self.norms[name]:>10.3g} "
                f"{self.agreement[name]:>9.2f}"
            )
        pairs = sorted(self.cosines.items(), key=lambda pair: pair[1])[:3]
        for (a, b), cosine in pairs:
            least, most = self.spread[a, b]
            lines.append(
                f"cosine of {a} and {b}: {cosine:+.2f}, {least:+.2f} to {most:+.2f} at {POINTS} points"
            )
        plain, exact = self.seconds
        lines.append(
            f"forward and backward take {plain * 1e3:.1f} ms; {exact / plain:.1f} times that with exact task "
            "gradients, and about once with balancer.share()"
        )
        given = "".join(f", {key}={value!r}" for key, value in self.options.items())
        begin = f'begin with Balancer("{self.method}"{given})'
        what = "any method does" if self.method == "ew" else "it does"
        last = f"whether {what} better than equal weights {_COMPARE}"
        return "\n".join([*lines, *self.reasons, begin, last])


def suggest(
    model: nn.Module,
    losses: Losses,
    batches: Iterable[Any],
    *,
    tasks: Iterable[str] = (),
    steps: int = 30,
    learning_rate: float = 1e-3,
    most: int = 8,
) -> Suggestion:
    """Trains a copy for a few steps and says what stands out, and where to begin.

    The losses are summed in units of their first values meanwhile. Nothing of the model is changed, nor what
    torch draws afterwards. Gradients swing from step to step, so that a conflict is told only where two tasks
    point apart at all of three points. A cosine is no verdict: whether balancing helps is found out by a
    comparison, see :mod:`equipoise.study`.

    Args:
        model: the network; a copy of it is trained.
        losses: from network and batch to the losses by task; a task without labels is left out, or None.
        batches: some of them, as many as ``most`` are taken; eight tell noise from signal better than two.
        tasks: names of all tasks, to be told of one that is in no batch.
        steps: of the copy, by Adam.
        learning_rate: of these steps; give the one that you train with, what is found depends on it.
        most: number of batches.

    Raises:
        ValueError: there are fewer than two batches or tasks, nothing is shared, or a loss is not finite.
    """
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        taken = list(islice(batches, most))
        if len(taken) < 2:
            raise ValueError(
                f"suggest() got {len(taken)} batches; give two or more, to tell noise from signal"
            )
        network = copy.deepcopy(model).train()
        first = _means(network, losses, taken, "before the first step")
        if len(first) < 2:
            raise ValueError(
                f"the batches have losses of {', '.join(first) or 'no task'}; two tasks or more are balanced"
            )
        seconds, peak = _costs(network, losses, taken[0])
        looks = list(_looks(network, losses, taken, first, steps, learning_rate))
        last = _means(
            network,
            losses,
            taken,
            f"after {steps} steps at learning rate {learning_rate:g}; a smaller one may do",
        )
    got = over_points(looks)
    spread = {
        pair: (min(look.cosines[pair] for look in looks), max(look.cosines[pair] for look in looks))
        for pair in got.cosines
    }
    facts = Facts(first, last, got, spread, learning_rate)
    return Suggestion(
        *facts.read(tuple(tasks)),
        first,
        facts.learned,
        got.norms,
        got.agreement,
        got.cosines,
        spread,
        seconds,
        peak,
    )


def _means(network: nn.Module, losses: Losses, batches: list[Any], when: str) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    with torch.no_grad():
        for number, batch in enumerate(batches):
            given: Any = losses(network, batch)
            if not isinstance(given, Mapping):
                raise ValueError(
                    f"losses(model, batch) returned a {type(given).__name__}; return a mapping from task "
                    "name to loss"
                )
            for name, loss in given.items():
                if loss is None:
                    continue
                value = float(loss)
                if not math.isfinite(value):
                    raise ValueError(
                        f"the loss of task '{name}' in batch {number} is {value} {when}"
                    )
                found.setdefault(name, []).append(value)
    return {name: sum(values) / len(values) for name, values in found.items()}


def _looks(
    network: nn.Module,
    losses: Losses,
    batches: list[Any],
    first: Mapping[str, float],
    steps: int,
    rate: float,
) -> Iterator[Gradients]:
    """Trains, and looks at the gradients at points of the last third."""
    optimizer = torch.optim.Adam((p for p in network.parameters() if p.requires_grad), lr=rate)
    apart = steps // (3 * (POINTS - 1))
    points = {steps - k * apart for k in range(POINTS)}
    endless = cycle(batches)
    for step in range(steps + 1):
        if step in points:
            optimizer.zero_grad()
            yield task_gradients(network, losses, batches)
        if step == steps:
            break
        optimizer.zero_grad()
        parts = [
            loss / (abs(first[name]) or 1.0)
            for name, loss in losses(network, next(endless)).items()
            if loss is not None
        ]
        if parts:
            torch.autograd.backward(torch.stack([part.reshape(()) for part in parts]).sum())
            optimizer.step()


def _costs(
    network: nn.Module, losses: Losses, batch: Any
) -> tuple[tuple[float, float], tuple[int, int] | None]:
    """Seconds, and bytes on a GPU, of a step with one backward pass and of one with a pass a task."""
    device = next(network.parameters()).device
    cuda = device.type == "cuda"

    def plain() -> None:
        given = [loss for loss in losses(network, batch).values() if loss is not None]
        torch.autograd.backward(torch.stack([loss.reshape(()) for loss in given]).sum())

    def exact() -> None:
        task_gradients(network, losses, [batch])

    seconds, peaks = [], []
    for call in (plain, exact):
        times = []
        for _ in range(4):  # the first warms up
            if cuda:
                torch.cuda.synchronize(device)
                torch.cuda.reset_peak_memory_stats(device)
            began = time.perf_counter()
            call()
            if cuda:
                torch.cuda.synchronize(device)
            times.append(time.perf_counter() - began)
            network.zero_grad()
        seconds.append(min(times[1:]))
        peaks.append(torch.cuda.max_memory_allocated(device) if cuda else 0)
    return (seconds[0], seconds[1]), (peaks[0], peaks[1]) if cuda else None
