"""What a balancer shows of itself: the last step in numbers, and what is in force."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.module import register_module_forward_pre_hook

from equipoise.routes.tasks import Step

if TYPE_CHECKING:
    from equipoise.balancer import Balancer


class Record:
    """The last step, kept as tensors; they become numbers when somebody asks."""

    def __init__(self) -> None:
        self.names: tuple[str, ...] = ()
        self.values: Tensor | None = None
        self.applied: Tensor | None = None
        self.gramian: Tensor | None = None
        self.route = ""
        self.shared: list[Tensor] = []
        self.solver_failures = 0
        self.nonfinite: Counter[str] = Counter()

    def step(self, step: Step, applied: Tensor | None, gramian: Tensor | None) -> None:
        """Notes a step."""
        self.names = step.names
        self.values = step.raw
        self.applied = None if applied is None else applied.detach()
        self.gramian = gramian

    def skipped(self, names: list[str]) -> None:
        """Notes losses that were left out because they were not finite."""
        self.nonfinite.update(names)

    def weights(self) -> dict[str, float]:
        """The weights applied last, by task."""
        if self.applied is None:
            return {}
        return dict(zip(self.names, self.applied.tolist(), strict=True))

    def raw_total(self) -> Tensor:
        """The unweighted sum of the last losses."""
        if self.values is None:
            raise RuntimeError("there is no raw_total before the first training step")
        return self.values.sum()

    def metrics(self, prefix: str) -> dict[str, float]:
        """Everything, flat."""
        out = {f"{prefix}weight/{name}": weight for name, weight in self.weights().items()}
        if self.values is not None:
            for name, value in zip(self.names, self.values.tolist(), strict=True):
                out[f"{prefix}loss/{name}"] = value
        if self.gramian is not None:
            out.update({prefix + key: value for key, value in self._geometry(self.gramian).items()})
        for name, count in self.nonfinite.items():
            out[f"{prefix}nonfinite/{name}"] = float(count)
        if self.solver_failures:
            out[f"{prefix}solver_failures"] = float(self.solver_failures)
        return out

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

    def state(self) -> dict[str, Any]:
        """The counts, for ``state_dict``."""
        return {"solver_failures": self.solver_failures, "nonfinite": dict(self.nonfinite)}

    def restore(self, state: dict[str, Any]) -> None:
        """Restores them."""
        self.solver_failures = state["solver_failures"]
        self.nonfinite = Counter(state["nonfinite"])


@contextmanager
def untouched() -> Iterator[None]:
    """Batch-norm statistics and random generators end as they began."""
    kept: dict[nn.Module, dict[str, Tensor]] = {}

    def keep(module: nn.Module, _: Any) -> None:
        if isinstance(module, _NormBase) and module not in kept:
            kept[module] = {name: b.clone() for name, b in module.named_buffers(recurse=False)}

    hook = register_module_forward_pre_hook(keep)
    try:
        with torch.random.fork_rng():
            yield
    finally:
        hook.remove()
        with torch.no_grad():
            for module, buffers in kept.items():
                for name, buffer in buffers.items():
                    module.get_buffer(name).copy_(buffer)


def explanation(balancer: Balancer) -> str:
    """What is in force, in a few lines."""
    card, record = balancer.card, balancer._record
    tasks = balancer.tasks
    count = len(tasks) if tasks else 0
    route = record.route or ("losses" if balancer.method.needs == "losses" else balancer.route)
    passes = {
        "losses": "1 backward pass",
        "features": "1 backward pass, weights solved inside it",
        "parameters": f"{count or 'K'} backward passes, one a task",
    }.get(route, "1 backward pass with share(), else one a task")
    shared = "found from the graph at the first step"
    if record.shared:
        entries = sum(p.numel() for p in record.shared)
        shared = f"{len(record.shared)} tensors, {entries:,} entries"
    elif route == "losses":
        shared = "not needed"
    elif route == "features":
        shared = "what lies below the features given to share()"
    heads = {"weighted": "the weighted loss", "unweighted": "the plain loss"}[balancer.heads]
    lines = [
        f"method      {card.name} ({card.id}): {card.authors}, {card.venue} {card.year}",
        f"tasks       {', '.join(tasks) if tasks else 'from the first call'}",
        f"route       {route}: {passes}",
        f"shared      {shared}",
        f"heads get   the gradient of {heads}",
        f"weight sum  {balancer.weight_sum}"
        + (f" (the paper's: {card.weight_sum})" if balancer.weight_sum == "paper" else ""),
    ]
    if balancer.prior:
        given = ", ".join(
            f"{name} {'by step' if callable(p) else format(p, 'g')}"
            for name, p in balancer.prior.items()
        )
        lines.append(f"prior       {given}")
    if balancer.update_every > 1:
        lines.append(f"new weights every {balancer.update_every} steps")
    if balancer.method.learns:
        who = (
            "the balancer" if balancer._learning.rate else "your optimiser, through param_groups()"
        )
        lines.append(f"learned by  {who}")
    return "\n".join(lines)
