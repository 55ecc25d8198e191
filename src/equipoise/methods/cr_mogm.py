"""CR-MOGM: another method's weights, averaged over the steps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from equipoise.methods.base import Card, GramianMethod
from equipoise.methods.catalogue import method
from equipoise.methods.options import fraction


class CRMOGM(GramianMethod):
    r"""Correlation-reduced multi-objective gradient manipulation: smoothed weights.

    .. math:: w_t = \alpha w_{t-1} + (1 - \alpha) \hat w_t

    around the weights :math:`\hat w` of another gradient method.

    Args:
        inner: the method: its id, or an object.
        alpha: in [0, 1).
        initial: :math:`w_0`: ``"first"`` takes the first weights of the inner method, ``"uniform"``
            1 / K.
        options: the inner method's options, where it is given by its id.

    Raises:
        ValueError: the inner method does not weight gradients, or an option is out of its range.

    References:
        Zhou et al., *On the Convergence of Stochastic Multi-Objective Gradient Manipulation and
        Beyond*, NeurIPS 2022.
    """

    state: ClassVar[Mapping[str, tuple[int, ...]]] = {"smoothed": (-1,)}
    card = Card(
        id="cr_mogm",
        name="CR-MOGM",
        heads="unweighted",
        guarantee="converges with the inner method's weights from mini-batches",
        defaults="inner = 'mgda', alpha = 0.9, starting from the first weights.",
        deviations="TorchJD has it as a wrapper of its weightings, as here.",
        torchjd="CRMOGM",
    )

    def __init__(
        self,
        inner: str | GramianMethod = "mgda",
        alpha: float = 0.9,
        initial: Literal["first", "uniform"] = "first",
        options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        built = method(inner, **dict(options or {})) if isinstance(inner, str) else inner
        if not isinstance(built, GramianMethod):
            raise ValueError(
                f"cr_mogm smooths the weights of a method that looks at the Gramian; "
                f"'{built.card.id}' looks at {built.needs}"
            )
        if initial not in ("first", "uniform"):
            raise ValueError(f"option 'initial' is 'first' or 'uniform'; got '{initial}'")
        self.inner = built
        self.least_loss = built.least_loss
        self.alpha = fraction("alpha", alpha)
        self.initial = initial

    smoothed: Tensor

    def weights(self, gramian: Tensor, losses: Tensor) -> Tensor:
        """See :meth:`GramianMethod.weights`."""
        fresh = self.inner.weights(gramian, losses)
        start = fresh
        if self.initial == "uniform":
            start = torch.full_like(fresh, 1 / fresh.shape[-1])
        self.smoothed = self.alpha * self.recall("smoothed", start) + (1 - self.alpha) * fresh
        return self.smoothed.clone()

    def check(self, losses: Tensor) -> None:
        """See :meth:`Method.check`."""
        self.inner.check(losses)

    def begin(self, tasks: int) -> None:
        """See :meth:`Method.begin`."""
        self.inner.begin(tasks)

    def after_step(self, losses: Tensor) -> None:
        """See :meth:`Method.after_step`."""
        self.inner.after_step(losses)

    def end_epoch(self) -> None:
        """See :meth:`Method.end_epoch`."""
        self.inner.end_epoch()

    @contextmanager
    def only(self, present: Tensor, tasks: int) -> Iterator[None]:
        """See :meth:`Method.only`."""
        with super().only(present, tasks), self.inner.only(present, tasks):
            yield
