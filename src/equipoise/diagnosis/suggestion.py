"""A few steps of your own network, and what they say about where to begin."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations, cycle, islice
from typing import Any

import torch
from torch import Tensor, nn

from equipoise.diagnosis.jacobians import Gradients, task_gradients

# Gradient norms that differ by more than this are a matter of scale.
SCALE = 10.0
# Mean gradients that point apart by more than this are told as a conflict.
APART = -0.2
# A task whose gradients agree less than this between batches, and whose loss has fallen by less than
# LEARNED, has learned nothing that these batches have in common.
AGREED = 0.1
LEARNED = 0.05

Losses = Callable[[nn.Module, Any], Mapping[str, Tensor | None]]


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
        norms: of the task gradients at the shared parameters, after the steps, by task.
        agreement: mean cosine between a task's gradients of different batches: low is noise.
        cosines: between the mean gradients of two tasks.
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
        lines += [f"cosine of {a} and {b}: {cosine:+.2f}" for (a, b), cosine in pairs]
        plain, exact = self.seconds
        lines.append(
            f"a step takes {plain * 1e3:.1f} ms; {exact / plain:.1f} times that with exact task gradients, "
            "and about once with balancer.share()"
        )
        given = "".join(f", {key}={value!r}" for key, value in self.options.items())
        return "\n".join([*lines, *self.reasons, f'begin with Balancer("{self.method}"{given})'])


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

    The losses are summed in units of their first values meanwhile. Nothing of the model is changed. A cosine
    is no verdict: whether balancing helps is found out by a comparison, see :mod:`equipoise.study`.

    Args:
        model: the network; a copy of it is trained.
        losses: from network and batch to the losses by task; a task without labels is left out, or None.
        batches: some of them, as many as ``most`` are taken; eight tell noise from signal better than two.
        tasks: names of all tasks, to be told of one that is in no batch.
        steps: of the copy, by Adam.
        learning_rate: of these steps.
        most: number of batches.

    Raises:
        ValueError: there are fewer than two batches or tasks, or nothing is shared.
    """
    taken = list(islice(batches, most))
    if len(taken) < 2:
        raise ValueError(
            f"suggest() got {len(taken)} batches; give two or more, to tell noise from signal"
        )
    network = copy.deepcopy(model).train()
    first = _means(network, losses, taken)
    if len(first) < 2:
        raise ValueError(
            f"the batches have losses of {', '.join(first) or 'no task'}; two tasks or more are balanced"
        )
    seconds, peak = _costs(network, losses, taken[0])
    _train(network, losses, taken, first, steps, learning_rate)
    last = _means(network, losses, taken)
    got = task_gradients(network, losses, taken)
    facts = _Facts(first, last, got)
    method, options, kind, reasons = facts.read(tuple(tasks))
    return Suggestion(
        method,
        options,
        kind,
        reasons,
        first,
        facts.learned,
        got.norms,
        got.agreement,
        got.cosines,
        seconds,
        peak,
    )


def _means(network: nn.Module, losses: Losses, batches: list[Any]) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    with torch.no_grad():
        for batch in batches:
            for name, loss in losses(network, batch).items():
                if loss is not None:
                    found.setdefault(name, []).append(float(loss))
    return {name: sum(values) / len(values) for name, values in found.items()}


def _train(
    network: nn.Module,
    losses: Losses,
    batches: list[Any],
    first: Mapping[str, float],
    steps: int,
    rate: float,
) -> None:
    optimizer = torch.optim.Adam((p for p in network.parameters() if p.requires_grad), lr=rate)
    for batch in islice(cycle(batches), steps):
        optimizer.zero_grad()
        parts = [
            loss / (abs(first[name]) or 1.0)
            for name, loss in losses(network, batch).items()
            if loss is not None
        ]
        if parts:
            torch.autograd.backward(torch.stack([part.reshape(()) for part in parts]).sum())
            optimizer.step()
    optimizer.zero_grad()


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


@dataclass(frozen=True)
class _Facts:
    first: Mapping[str, float]
    last: Mapping[str, float]
    got: Gradients

    @property
    def learned(self) -> dict[str, float]:
        return {
            name: (before - self.last[name]) / abs(before) if before else 0.0
            for name, before in self.first.items()
        }

    def read(self, tasks: tuple[str, ...]) -> tuple[str, dict[str, Any], str, tuple[str, ...]]:
        """Method, options, what stood out, and the reasons."""
        reasons = [
            f"task '{name}' is in none of the batches: is its loss computed?"
            for name in tasks
            if name not in self.first
        ]
        idle = [name for name, norm in self.got.norms.items() if norm == 0]
        reasons += [
            f"task '{name}' has no gradient at the shared parameters: it does not train them"
            for name in idle
        ]
        noisy = [
            name
            for name, agreed in self.got.agreement.items()
            if name not in idle and agreed < AGREED and self.learned[name] < LEARNED
        ]
        reasons += [
            f"the gradients of task '{name}' differ from batch to batch (mean cosine "
            f"{self.got.agreement[name]:+.2f}) and its loss has not fallen ({self.learned[name]:.0%}): its "
            "labels may be noise, or nothing of it is learned yet"
            for name in noisy
        ]
        good = [name for name in self.got.norms if name not in idle and name not in noisy]
        apart = [
            (a, b, self.got.cosines[a, b])
            for a, b in combinations(good, 2)
            if self.got.cosines[a, b] < APART
        ]
        compared = good if len(good) > 1 else [n for n in self.got.norms if n not in idle]
        largest = max(compared, key=self.got.norms.__getitem__, default=None)
        smallest = min(compared, key=self.got.norms.__getitem__, default=None)
        ratio = self.got.norms[largest] / self.got.norms[smallest] if largest and smallest else 1.0
        for a, b, cosine in apart:
            reasons.append(
                f"the gradients of '{a}' and '{b}' point apart (cosine {cosine:+.2f}): a conflict at this "
                "point, which does not tell that training them apart is better"
            )
        if ratio > SCALE:
            what = "beside the conflict" if apart else "and cosines are not far from 0 or above"
            problem = "scales differ" if apart else "a scale problem, not a conflict"
            reasons.append(
                f"gradient norms differ {ratio:,.0f} times ('{largest}' and '{smallest}'), {what}: {problem}"
            )
            if not apart:
                weights = ", ".join(
                    f"{name} {self.got.norms[largest] / self.got.norms[name]:.3g}"
                    for name in compared
                    if largest
                )
                reasons.append(f"fixed weights that even it out: {weights}")
        return (*_start(bool(apart), ratio > SCALE, self.first), tuple(reasons) or (_NOTHING,))


_NOTHING = "nothing stands out: gradients are of like size and do not point apart"


def _start(
    apart: bool, scaled: bool, first: Mapping[str, float]
) -> tuple[str, dict[str, Any], str]:
    if apart:
        # Insensitive to the scale of single gradients, so that it serves both cases.
        return "nash_mtl" if scaled else "cagrad", {}, "conflict"
    if scaled:
        return ("uw_o", {}, "scale") if min(first.values()) > 0 else ("unit_norm", {}, "scale")
    return "ew", {}, "nothing"
