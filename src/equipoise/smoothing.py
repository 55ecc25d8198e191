"""What can be put around any method: averages of its weights or gradients, and bounds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from equipoise.methods.base import JacobianMethod, LossMethod, Method
from equipoise.routes.tasks import Step


@dataclass
class Smoothing:
    """Averages over time and bounds; the defaults do nothing.

    Attributes:
        weight_ema: share of the last weights in the new ones.
        gradient_ema: share of the last task gradients in the new ones.
        weight_floor: no weight is below.
        weight_cap: no weight is above.
        gradients: the averaged task gradients, ``Tensor[K, P]``; NaN for a task never seen.
    """

    weight_ema: float = 0.0
    gradient_ema: float = 0.0
    weight_floor: float | None = None
    weight_cap: float | None = None
    gradients: Tensor | None = None

    def check(self, method: Method) -> None:
        """Refuses what would have no effect or no meaning.

        Raises:
            ValueError: a share outside [0, 1), crossed bounds, or a method that has no weights or looks
                at no gradients.
        """
        for name, share in (("weight_ema", self.weight_ema), ("gradient_ema", self.gradient_ema)):
            if not 0 <= share < 1:
                raise ValueError(f"{name}={share}: the share of the past is in [0, 1)")
        low, high = self.weight_floor, self.weight_cap
        if low is not None and high is not None and low > high:
            raise ValueError(f"weight_floor={low} is above weight_cap={high}")
        if isinstance(method, JacobianMethod) and (self.weight_ema or self.bounded):
            raise ValueError(
                f"'{method.card.id}' has no loss weights, which weight_ema, weight_floor and weight_cap "
                "are about"
            )
        blind = isinstance(method, LossMethod) or not getattr(method, "reads_gramian", True)
        if self.gradient_ema and blind:
            raise ValueError(f"'{method.card.id}' looks at no task gradients to average")

    @property
    def bounded(self) -> bool:
        """Whether weights are kept in bounds."""
        return self.weight_floor is not None or self.weight_cap is not None

    def of_weights(self, new: Tensor, last: Tensor | None) -> Tensor:
        """The averaged weights; a task seen first takes its new ones."""
        if not self.weight_ema or last is None:
            return new
        return torch.where(last.isnan(), new, self.weight_ema * last + (1 - self.weight_ema) * new)

    def bound(self, weights: Tensor) -> Tensor:
        """The weights within the bounds."""
        return weights.clamp(self.weight_floor, self.weight_cap) if self.bounded else weights

    def of_gradients(self, rows: Tensor, step: Step, tasks: int) -> Tensor:
        """The averaged task gradients of the tasks present, ``Tensor[k, P]``."""
        if not self.gradient_ema:
            return rows
        if self.gradients is None:
            self.gradients = rows.new_full((tasks, rows.shape[1]), torch.nan)
        if self.gradients.shape[1] != rows.shape[1]:
            raise ValueError(
                f"gradient_ema keeps gradients of {self.gradients.shape[1]:,} shared entries, but this step "
                f"has {rows.shape[1]:,}; name the shared parameters with shared="
            )
        index = slice(None) if step.index is None else step.index.to(rows.device)
        last = self.gradients[index]
        mean = torch.where(last.isnan(), rows, torch.lerp(rows, last, self.gradient_ema))
        self.gradients[index] = mean
        return mean

    def state(self) -> dict[str, Any]:
        """The averaged gradients, for ``state_dict``."""
        return {"gradients": self.gradients}

    def restore(self, state: dict[str, Any]) -> None:
        """Restores them."""
        self.gradients = state["gradients"]
