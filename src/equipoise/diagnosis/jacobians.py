"""Task gradients of several batches, and how far they agree."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from statistics import fmean
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from equipoise.gradients.parameters import Passes
from equipoise.gradients.passes import LossScale
from equipoise.gradients.sharded import at_parameters
from equipoise.gradients.shared import SharedParameters
from equipoise.gradients.step import Step, stacked


class Rows(NamedTuple):
    """The task gradients of a step.

    Attributes:
        jacobian: ``Tensor[K, P]``.
        gramian: ``Tensor[K, K]``, float64.
        shared: the parameters that they are gradients of.
    """

    jacobian: Tensor
    gramian: Tensor
    shared: list[Tensor]


def rows_of(losses: Mapping[str, Tensor], finder: SharedParameters) -> Rows:
    """The gradients of some losses at what they share; their graph stays.

    Raises:
        ValueError: nothing is shared.
    """
    given = list(losses.values())
    values = torch.stack([loss.detach().reshape(()) for loss in given]).double().cpu()
    step = Step(tuple(losses), given, stacked(given), values, values)
    how = Passes(None, average=False, keep_graph=True, factor=None, scale=LossScale())
    source = at_parameters(step, finder, None, how, None, "")
    gramian = source.gramian()
    (jacobian,) = source.rows()
    return Rows(jacobian.detach(), gramian, list(source.found.shared))


class Gradients(NamedTuple):
    """What the task gradients of several batches say.

    Attributes:
        norms: mean over batches, by task.
        agreement: mean cosine between a task's gradients of two batches; 1 where it has one only.
        cosines: between the mean gradients of two tasks.
    """

    norms: Mapping[str, float]
    agreement: Mapping[str, float]
    cosines: Mapping[tuple[str, str], float]


def task_gradients(
    network: nn.Module,
    losses: Callable[[nn.Module, Any], Mapping[str, Tensor | None]],
    batches: Sequence[Any],
) -> Gradients:
    """Norms and cosines of the task gradients of some batches.

    Batches without a task in common, such as those of a loader a task, are taken together.
    """
    finder = SharedParameters(None)
    found: dict[str, list[Tensor]] = {}
    for here in _together(losses(network, batch) for batch in batches):
        if len(here) < 2:
            continue
        rows = rows_of(here, finder).jacobian.double()
        for name, row in zip(here, rows, strict=True):
            found.setdefault(name, []).append(row)
    norms = {name: float(torch.stack(rows).norm(dim=1).mean()) for name, rows in found.items()}
    agreement = {name: _agreement(rows) for name, rows in found.items()}
    mean = {name: torch.stack(rows).mean(0) for name, rows in found.items()}
    cosines = {
        (a, b): float(torch.cosine_similarity(mean[a], mean[b], dim=0))
        for a, b in combinations(found, 2)
    }
    return Gradients(norms, agreement, cosines)


def over_points(looks: Sequence[Gradients]) -> Gradients:
    """Means over several points of a run."""

    def means(kind: Sequence[Mapping[Any, float]]) -> dict[Any, float]:
        return {key: fmean(each[key] for each in kind) for key in kind[0]}

    return Gradients(
        means([look.norms for look in looks]),
        means([look.agreement for look in looks]),
        means([look.cosines for look in looks]),
    )


def _together(
    given: Iterable[Mapping[str, Tensor | None]],
) -> Iterator[dict[str, Tensor]]:
    """The losses of every batch; those of batches that share no task as one."""
    here: dict[str, Tensor] = {}
    for losses in given:
        there = {name: loss.reshape(()) for name, loss in losses.items() if loss is not None}
        if here.keys() & there.keys():
            yield here
            here = {}
        here.update(there)
    yield here


def _agreement(rows: Sequence[Tensor]) -> float:
    pairs = [float(torch.cosine_similarity(a, b, dim=0)) for a, b in combinations(rows, 2)]
    return sum(pairs) / len(pairs) if pairs else 1.0
