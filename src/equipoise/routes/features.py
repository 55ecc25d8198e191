"""The features route: task gradients of the shared representation, combined inside the one backward pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias, cast

import torch
from torch import Tensor

Features: TypeAlias = "Tensor | Sequence[Tensor] | Mapping[Any, Tensor]"
# From the gradients of the raw losses, one [K, ...] tensor per feature, to the combined ones.
Combine: TypeAlias = Callable[[list[Tensor]], list[Tensor]]


class Views(dict[str, Any]):
    """One view of the shared features per task, by name or by position."""

    def __missing__(self, key: object) -> Any:
        """The view at a position."""
        if isinstance(key, int) and -len(self) <= key < len(self):
            return list(self.values())[key]
        raise KeyError(f"no task is called {key!r}; the tasks are {', '.join(self)}")


class Plan:
    """What the backward pass of a step has to do with the task gradients that arrive at the features.

    It is all the graph keeps hold of, and refers to no tensor of the graph, so that nothing outlives the
    step.
    """

    def __init__(self, names: tuple[str, ...], features: Sequence[Tensor]) -> None:
        self.names = names
        self.zeros = [(f.shape, f.dtype, f.device) for f in features]
        self.scale: Tensor | None = None
        self.factors: list[float] | None = None
        self.present: list[int] = []
        self.combine: Combine | None = None

    def backward(self, gradients: Sequence[Tensor | None]) -> list[Tensor]:
        """What goes on into the trunk."""
        if self.factors is None:
            raise RuntimeError(
                "balancer.share() was called again before balancer(losses), so the first features have no "
                "losses; give all shared features in one call, share((z1, z2)) or share({'a': z1, 'b': z2})"
            )
        stacked = self.gather(gradients)
        if self.combine is None:
            return [part.sum(0) for part in stacked]
        scale = 1.0 if self.scale is None else float(self.scale)
        undo = [1.0 / (scale * factor) for factor in self.factors]
        if any(u != 1.0 for u in undo):
            column = torch.tensor(undo, dtype=torch.float64)
            stacked = [part * column.to(part).view(-1, *[1] * (part.ndim - 1)) for part in stacked]
        combined = self.combine(stacked)
        return [part if scale == 1.0 else part * scale for part in combined]

    def gather(self, gradients: Sequence[Tensor | None]) -> list[Tensor]:
        """The gradients at the views, one ``[K, ...]`` tensor per feature."""
        count = len(self.zeros)
        for k in self.present:
            if all(g is None for g in gradients[k * count : (k + 1) * count]):
                raise RuntimeError(
                    f"loss '{self.names[k]}' does not depend on its view of the shared features; compute "
                    f"it from z['{self.names[k]}'], where z = balancer.share(features)"
                )
        parts = []
        for m, (shape, dtype, device) in enumerate(self.zeros):
            rows = [gradients[k * count + m] for k in self.present]
            parts.append(
                torch.stack(
                    [
                        torch.zeros(shape, dtype=dtype, device=device) if g is None else g
                        for g in rows
                    ]
                )
            )
        return parts


class Share:
    """The shared features of one step and the tasks' views of them.

    Attributes:
        features: the tensors given to ``share``.
        views: for each task, the same tensors, to be read by its head.
        names: the tasks, in the order of ``views``.
        plan: what the backward pass will do.
        node: the graph node between features and views.
    """

    def __init__(self, features: Features, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self.features = _tensors(features)
        for tensor in self.features:
            if not tensor.requires_grad:
                raise ValueError(
                    "the shared features have no graph: they were computed under no_grad, detached, or "
                    "the trunk has no trainable parameter; share what the trunk returns"
                )
        self.plan = Plan(self.names, self.features)
        count = len(self.features)
        out = _split(self.plan, len(self.names), *self.features)
        self.views = [out[k * count : (k + 1) * count] for k in range(len(self.names))]
        self.node: Any = out[0].grad_fn
        self._like = features

    def handed_out(self) -> Views:
        """The views in the form of the features, by task name."""
        return Views(
            (name, _in_form(self._like, view))
            for name, view in zip(self.names, self.views, strict=True)
        )

    def arm(self, present: Sequence[str], factors: list[float], combine: Combine | None) -> None:
        """Says what the backward pass has to do.

        Args:
            present: tasks whose losses are in this step.
            factors: what each of their losses is multiplied with on its way to the head.
            combine: how task gradients become one; None adds them up.
        """
        self.plan.present = [self.names.index(name) for name in present]
        self.plan.factors = factors
        self.plan.combine = combine

    def views_of(self, present: Sequence[str]) -> list[tuple[Tensor, ...]]:
        """The views of the tasks in this step."""
        return [self.views[self.names.index(name)] for name in present]

    def upstream(self, present: Sequence[str], losses: Sequence[Tensor]) -> list[Tensor]:
        """The task gradients at the features, one ``[K, ...]`` tensor per feature: one pass of the heads."""
        views = self.views_of(present)
        found = torch.autograd.grad(
            list(losses),
            [view for task in views for view in task],
            retain_graph=True,
            allow_unused=True,
        )
        count = len(self.features)
        everywhere: list[Tensor | None] = [None] * (count * len(self.names))
        for position, name in enumerate(present):
            k = self.names.index(name)
            everywhere[k * count : (k + 1) * count] = found[
                position * count : (position + 1) * count
            ]
        self.plan.present = [self.names.index(name) for name in present]
        return self.plan.gather(everywhere)

    def noting_scale(self, total: Tensor) -> Tensor:
        """The total; its backward pass tells the plan the factor it is started with."""
        out: Tensor = _scaled(total, self.plan)
        return out


class Split(torch.autograd.Function):
    """Copies of the features for the tasks; the backward pass combines the tasks' gradients."""

    @staticmethod
    def forward(ctx: Any, plan: Plan, tasks: int, *features: Tensor) -> tuple[Tensor, ...]:
        """K aliases of every feature."""
        ctx.plan = plan
        ctx.set_materialize_grads(False)
        return tuple(f.view_as(f) for _ in range(tasks) for f in features)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Any, ...]:
        """The combined gradient."""
        return None, None, *ctx.plan.backward(gradients)


class Scaled(torch.autograd.Function):
    """The identity; notes the factor the scalar's gradient comes in with (loss scaling, accumulation)."""

    @staticmethod
    def forward(ctx: Any, total: Tensor, plan: Plan) -> Tensor:
        """The total itself."""
        ctx.plan = plan
        return total.clone()

    @staticmethod
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor, None]:
        """Passes the scale on and keeps it."""
        ctx.plan.scale = scale
        return scale, None


_split: Any = Split.apply
_scaled: Any = Scaled.apply


def _tensors(features: Features) -> list[Tensor]:
    if isinstance(features, Tensor):
        return [features]
    if isinstance(features, Mapping):
        return list(features.values())
    return list(features)


def _in_form(features: Features, view: tuple[Tensor, ...]) -> Any:
    if isinstance(features, Tensor):
        return view[0]
    if isinstance(features, Mapping):
        return dict(zip(features, view, strict=True))
    return cast(Any, type(features))(view) if type(features) in (list, tuple) else tuple(view)
