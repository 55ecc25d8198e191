"""A wrapper for gradient accumulation: one set of weights for all calls of an optimiser step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from equipoise.balance.rule import Outcome, Rule, Wrapper, refuse_nonfinite
from equipoise.gradients.base import TaskGradients
from equipoise.gradients.step import Step


class Windowed(Wrapper):
    """The weights of a window of calls are found once, from the means of the window before.

    What is averaged are losses and inner products of task gradients. The calls of the first window, and those
    with a task that the window before did not have, are balanced each by itself.

    Args:
        inner: the rule inside; it sees a step a window.
        calls: of a window.
    """

    state: ClassVar[Mapping[str, tuple[int, ...]]] = {
        "given": (-1,),
        "losses": (-1,),
        "products": (-2, -1),
        "counts": (-2, -1),
    }
    numbers = ("phase",)
    # Weights of this window; and sums over it so far.
    given: Tensor
    losses: Tensor
    products: Tensor
    counts: Tensor
    # Calls of this window so far.
    phase: int

    def __init__(self, inner: Rule, calls: int) -> None:
        super().__init__(inner)
        self.calls = calls
        self._names: dict[int, str] = {}

    def forward(self, step: Step, gradients: TaskGradients) -> Outcome:
        """See :meth:`Rule.forward`."""
        here = list(step.positions or range(self.tasks))
        self._names.update(zip(here, step.names, strict=True))
        values = step.values.detach().double().cpu()
        if self.inner.blind(step):
            gramian = torch.zeros(len(here), len(here), dtype=torch.float64)
        else:
            gramian, values = gradients.with_losses(step.values)
            refuse_nonfinite(step, gradients)
        if self.phase == 0 and self.knows("counts"):
            self.given = self._found(step)
            self.counts = torch.zeros_like(self.counts)
        weights = self.given[here] if self.knows("given") else None
        if weights is None or bool(weights.isnan().any()):
            outcome = self.inner.forward(step, gradients)
        else:
            outcome = Outcome(weights, None, gradients)
        self._add(here, values, gramian)
        self.phase = (self.phase + 1) % self.calls
        return outcome

    def _found(self, step: Step) -> Tensor:
        """Weights ``Tensor[K]`` from the means of the last window; NaN for a task that it did not have."""
        times = self.counts.diagonal()
        seen = times.nonzero().flatten().tolist()
        values = (self.losses[seen] / times[seen]).to(step.values)
        gramian = self.products[seen][:, seen] / self.counts[seen][:, seen].clamp_min(1)
        whole = step._replace(
            names=tuple(self._names.get(k, str(k)) for k in seen),
            values=values,
            positions=None if len(seen) == self.tasks else tuple(seen),
        )
        weights = self.inner.forward(whole, _Means(gramian)).weights
        assert weights is not None
        found = weights.new_full((self.tasks,), torch.nan)
        found[seen] = weights
        return found

    def _add(self, here: list[int], values: Tensor, gramian: Tensor) -> None:
        if not self.knows("counts") or not bool(self.counts.any()):
            self.losses = values.new_zeros(self.tasks)
            self.products = gramian.new_zeros(self.tasks, self.tasks)
            self.counts = torch.zeros(self.tasks, self.tasks)
        index = torch.tensor(here)
        pairs = index.unsqueeze(1), index.unsqueeze(0)
        self.losses = self.losses.index_add(0, index, values)
        self.products = self.products.index_put(pairs, gramian, accumulate=True)
        self.counts = self.counts.index_put(pairs, torch.ones(()), accumulate=True)


class _Means(TaskGradients):
    """Task gradients of which only the mean inner products are known."""

    def __init__(self, gramian: Tensor) -> None:
        super().__init__()
        self._gramian = gramian


def refuse_window(name: str, *, learns: bool, bilevel: bool, by_tensor: bool, every: int) -> None:
    """Refuses a window where it has no meaning.

    Raises:
        ValueError: saying why.
    """
    if learns or bilevel:
        raise ValueError(
            f"{name} learns its weights, and window would find them once in several calls; accumulate "
            "without window, so that every call adds to their gradient"
        )
    if by_tensor:
        raise ValueError(
            "window has one set of weights for the model, and blocks='parameter' one for every tensor; leave "
            "one of them out"
        )
    if every > 1:
        raise ValueError(
            "window finds weights once a window and update_every once in several calls; leave one of them out"
        )
