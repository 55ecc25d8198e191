"""The shared features of a step, and the tasks' views of them, through which gradients are balanced."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias, cast

import torch
from torch import Tensor

from equipoise.gradients.delivery import refuse_double_backward
from equipoise.gradients.step import Step

Features: TypeAlias = "Tensor | Sequence[Tensor] | Mapping[Any, Tensor]"
# What to do with the gradients that arrive at the views, K tensors a feature, given the factor they were
# started with.
Arrived: TypeAlias = Callable[[list[list[Tensor]], "Tensor | None"], list[Tensor]]


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
        self._zeros = [(f.shape, f.dtype, f.device) for f in features]
        self._abandoned = False
        self._scale: Tensor | None = None
        # Positions of the tasks of the step among the views, and whether this rank has their losses.
        self._present: list[tuple[int, bool]] | None = None
        self._arrived: Arrived | None = None

    def arm(self, present: list[tuple[int, bool]], arrived: Arrived | None) -> None:
        """Says what is to be done; None adds the gradients up."""
        self._present = present
        self._arrived = arrived

    def note(self, scale: Tensor) -> None:
        """Takes the factor the backward pass was started with."""
        self._scale = scale.detach()

    def abandon(self) -> None:
        """The features were replaced by others before their losses came."""
        self._abandoned = True

    def backward(self, gradients: Sequence[Tensor | None]) -> list[Tensor | None]:
        """What goes on into the trunk."""
        if self._present is None:
            if self._abandoned:
                raise RuntimeError(
                    "balancer.share() was called again before balancer(losses), so the first features have "
                    "no losses; give all shared features in one call, share((z1, z2)) or share({'a': z1, "
                    "'b': z2})"
                )
            # Something else than the balanced loss, such as a gradient penalty: the plain chain rule.
            count = len(self._zeros)
            return [_sum(gradients[m::count]) for m in range(count)]
        refuse_double_backward()
        if self._arrived is None:
            return [_sum(rows) for rows in self.gather(gradients, self._present)]
        return list(self._arrived(self.gather(gradients, self._present), self._scale))

    def gather(
        self, gradients: Sequence[Tensor | None], present: list[tuple[int, bool]]
    ) -> list[list[Tensor]]:
        """The gradients at the views, K tensors for each feature."""
        count = len(self._zeros)
        for k, here in present:
            if here and all(g is None for g in gradients[k * count : (k + 1) * count]):
                raise RuntimeError(
                    f"loss '{self.names[k]}' does not depend on its view of the shared features; compute "
                    f"it from z['{self.names[k]}'], where z = balancer.share(features)"
                )
        parts = []
        for m, (shape, dtype, device) in enumerate(self._zeros):
            rows = [gradients[k * count + m] for k, _ in present]
            zeros = torch.zeros((), dtype=dtype, device=device).expand(shape)
            parts.append([zeros if g is None else g for g in rows])
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

    def arm(self, step: Step, arrived: Arrived | None = None) -> None:
        """Says what the backward pass of a step has to do with what arrives; None adds it up."""
        here = zip(step.names, step.losses, strict=True)
        self.plan.arm([(self.names.index(name), x is not None) for name, x in here], arrived)

    def gather(self, step: Step, gradients: Sequence[Tensor | None]) -> list[list[Tensor]]:
        """The gradients at all views, of the tasks of a step: K tensors for each feature."""
        here = zip(step.names, step.losses, strict=True)
        present = [(self.names.index(name), x is not None) for name, x in here]
        return self.plan.gather(gradients, present)

    def views_of(self, present: Sequence[str]) -> list[tuple[Tensor, ...]]:
        """The views of some tasks."""
        return [self.views[self.names.index(name)] for name in present]


class _Split(torch.autograd.Function):
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


_split: Any = _Split.apply


def noting_scale(total: Tensor, plan: Plan) -> Tensor:
    """The total; its backward pass tells the plan the factor it comes in with, such as a loss scale."""
    total.register_hook(plan.note)  # type: ignore[no-untyped-call]
    return total


def _sum(gradients: Sequence[Tensor | None]) -> Tensor | None:
    given = [g for g in gradients if g is not None]
    if not given:
        return None
    return given[0] if len(given) == 1 else torch.stack(given).sum(0)


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
