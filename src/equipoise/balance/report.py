"""What a balancer shows of itself: the last step in numbers, and what is in force."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from equipoise.balance.compose import Options
from equipoise.methods.base import Heads, Method


class Shown(NamedTuple):
    """The last step, kept as tensors; they become numbers when somebody asks.

    Attributes:
        names: the tasks that took part.
        values: their losses as they were given, ``Tensor[K]``.
        weights: those applied, ``Tensor[K]``, or None.
        gramian: of the task gradients, ``Tensor[K, K]``, or None.
        route: where task gradients were taken; empty if nowhere.
        shared: the shared parameters.
        how: in what way they were found.
    """

    names: tuple[str, ...] = ()
    values: Tensor | None = None
    weights: Tensor | None = None
    gramian: Tensor | None = None
    route: str = ""
    shared: Sequence[Tensor] = ()
    how: str = ""

    def weights_by_task(self) -> dict[str, float]:
        """The weights applied, by task."""
        if self.weights is None:
            return {}
        return dict(zip(self.names, self.weights.tolist(), strict=True))

    def raw_total(self) -> Tensor:
        """The unweighted sum of the losses."""
        if self.values is None:
            raise RuntimeError("there is no raw_total before the first training step")
        return self.values.sum()

    def metrics(self) -> dict[str, float]:
        """Weights, losses, gradient norms and cosines, flat."""
        out = {f"weight/{name}": weight for name, weight in self.weights_by_task().items()}
        if self.values is not None:
            for name, value in zip(self.names, self.values.tolist(), strict=True):
                out[f"loss/{name}"] = value
        if self.gramian is not None:
            out.update(self._geometry(self.gramian))
        return out

    def described(self) -> str:
        """The shared parameters in words; empty if there are none to show."""
        if not self.shared:
            return ""
        entries = sum(p.numel() for p in self.shared)
        return f"{len(self.shared)} tensors, {entries:,} entries, {self.how}"

    def _geometry(self, gramian: Tensor) -> dict[str, float]:
        norms = gramian.diagonal().clamp_min(0).sqrt()
        out = {
            f"grad_norm/{name}": norm for name, norm in zip(self.names, norms.tolist(), strict=True)
        }
        if len(self.names) > 1:
            scale = torch.where(norms > 0, norms, torch.ones_like(norms))
            cosines = gramian / scale.outer(scale)
            upper = cosines[tuple(torch.triu_indices(len(norms), len(norms), 1))]
            out["cos_mean"] = float(upper.mean())
            out["cos_min"] = float(upper.min())
            out["conflict_rate"] = float((upper < 0).double().mean())
        return out


_PASSES = {
    "losses": "1 backward pass",
    "features": "1 backward pass, weights solved inside it",
    "auto": "1 backward pass with share(), else one a task",
}
_SHARED = {"losses": "not needed", "features": "what lies below the features given to share()"}
_HEADS = {"weighted": "the weighted loss", "unweighted": "the plain loss"}


def explanation(
    method: Method,
    tasks: tuple[str, ...] | None,
    heads: Heads,
    shown: Shown,
    options: Options,
    learned_by: str,
) -> str:
    """What is in force, in a few lines.

    Args:
        method: the method.
        tasks: their names, if they are known.
        heads: what the heads get.
        shown: the last step.
        options: what else is set.
        learned_by: who trains learnable weights; empty where there are none.
    """
    card = method.card
    route = shown.route or ("losses" if method.needs == "losses" else options.route)
    passes = _PASSES.get(route, f"{len(tasks) if tasks else 'K'} backward passes, one a task")
    scale = f" (the paper's: {card.weight_sum})" if options.weight_sum == "paper" else ""
    lines = {
        "method": f"{card.name} ({card.id}): {card.authors}, {card.venue} {card.year}",
        "tasks": ", ".join(tasks) if tasks else "from the first call",
        "route": f"{route}: {passes}",
        "shared": shown.described() or _SHARED.get(route, "found from the graph at the first step"),
        "heads get": f"the gradient of {_HEADS[heads]}",
        "weight sum": options.weight_sum + scale,
    }
    if options.memory == "low":
        lines["memory"] = "low: no task gradient is kept, at one more pass for the weighted sum"
    if options.prior:
        lines["prior"] = ", ".join(
            f"{name} {'by step' if callable(p) else format(p, 'g')}"
            for name, p in options.prior.items()
        )
    if options.update_every > 1:
        lines["new weights"] = f"every {options.update_every} steps"
    if options.window > 1:
        lines["new weights"] = f"every {options.window} calls, from the means of the last ones"
    if learned_by:
        lines["learned by"] = learned_by
    return "\n".join(f"{name:<11} {text}" for name, text in lines.items())
