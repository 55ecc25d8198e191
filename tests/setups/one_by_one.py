"""The slow, obvious way: task gradients one by one, the method's maths, the chain rule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd import grad

import equipoise

TASKS = ("a", "b", "c")
# One or more of every family.
LOSS_METHODS = ("ew", "uw", "uw_o", "dwa", "famo")
GRADIENT_METHODS = ("mgda", "pcgrad", "cagrad", "nash_mtl", "upgrad", "rgw", "graddrop", "db_mtl")
FEATURE_METHODS = tuple(m for m in GRADIENT_METHODS if m != "db_mtl")
Call = Literal["scalar", "backward"]


class Model(nn.Module):
    """A trunk, a head per task, and losses whose sizes differ a thousandfold."""

    def __init__(self, dtype: torch.dtype = torch.float64, seed: int = 0) -> None:
        super().__init__()
        seeded(seed)
        self.trunk = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4), nn.Tanh())
        self.heads = nn.ModuleList(nn.Linear(4, 2) for _ in TASKS)
        self.x = torch.randn(8, 6)
        self.y = torch.randn(len(TASKS), 8, 2)
        self.to(dtype)
        self.x, self.y = self.x.to(dtype), self.y.to(dtype)

    def forward(self, x: Tensor) -> list[Tensor]:
        z = self.trunk(x)
        return [head(z) for head in self.heads]

    def losses(self, outputs: Sequence[Tensor]) -> dict[str, Tensor]:
        a, b, c = outputs
        return {
            "a": 10 * (a - self.y[0].to(a)).square().mean(),
            "b": (b - self.y[1].to(b)).abs().mean(),
            "c": 0.01 * nn.functional.smooth_l1_loss(c, self.y[2].to(c)),
        }

    def by_views(self, views: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return self.losses([head(views[t]) for t, head in zip(TASKS, self.heads, strict=True)])

    def plain(self) -> dict[str, Tensor]:
        return self.losses(self(self.x))


def seeded(seed: int) -> None:
    """``torch.manual_seed``, less a note of the whole call stack for every device there might be."""
    torch.default_generator.manual_seed(seed)


def method_of(name: str, **options: Any) -> Any:
    """The method, its draws always the same."""
    seeded(11)
    return equipoise.method(name, **options)


def balancer_of(name: str, tasks: Sequence[str] = TASKS, **arguments: Any) -> equipoise.Balancer:
    """A balancer whose method draws as that of :func:`method_of`."""
    seeded(11)
    return equipoise.Balancer(name, tasks, **arguments)


def weights_of(method: Any, rows: Tensor, values: Tensor) -> Tensor | None:
    """The method's weights; None where it has none."""
    if method.needs == "losses":
        return method.weights(values).detach().double()
    if method.needs == "gramian":
        wide = rows.double()
        return method.weights(wide @ wide.T, values.double()).double()
    return None


def expected(
    method: Any,
    losses: Mapping[str, Tensor],
    shared: Sequence[Tensor],
    others: Sequence[Tensor],
    features: Sequence[Tensor] = (),
    heads: str | None = None,
) -> dict[Tensor, Tensor]:
    """What every tensor's ``.grad`` has to be; the method's state advances by a step.

    Args:
        method: a method object of the reference's own.
        losses: with a graph of their own.
        shared: the parameters that are balanced.
        others: all other tensors that the losses reach.
        features: where task gradients are taken; nothing for the parameters themselves.
        heads: "weighted" or "unweighted"; None for what the method's card says.
    """
    at = list(features or shared)
    values = torch.stack([loss.detach() for loss in losses.values()])
    rows = torch.stack([flat(grad_or_zero(loss, at)) for loss in losses.values()])
    # What is half precise in the network is widened before anything is computed with it.
    wide = torch.promote_types(rows.dtype, torch.float32)
    rows, values = rows.to(wide), values.to(torch.promote_types(values.dtype, wide))
    weights = weights_of(method, rows, values)
    if weights is not None:
        combined = (weights.to(rows) @ rows).split([t.numel() for t in at])
    elif features:
        tall = list(rows.split([t.numel() for t in at], 1))
        tall = [part.view(len(rows), *t.shape) for part, t in zip(tall, at, strict=True)]
        combined = method.combine_features(tall, [t.detach() for t in at], values)
    else:
        combined = method.combine(rows, values).split([t.numel() for t in at])
        weights = method.applied_weights if method.tells_weights else None
    pieces = [piece.reshape(t.shape).to(t.dtype) for piece, t in zip(combined, at, strict=True)]
    if features:
        found = grad(list(features), list(shared), pieces, retain_graph=True, allow_unused=True)
        pieces = [
            torch.zeros_like(p) if g is None else g for p, g in zip(shared, found, strict=True)
        ]
    own = method.head_factors(values)
    factors = torch.ones(len(rows), dtype=torch.float64) if own is None else own.double()
    if (heads or method.card.heads) == "weighted" and weights is not None:
        factors = weights
    total = sum(f.to(x) * x for f, x in zip(factors, losses.values(), strict=True))
    rest = grad_or_zero(total, others) if others else []
    return {t: g.detach() for t, g in zip([*shared, *others], [*pieces, *rest], strict=True)}


def of_model(method: Any, model: Model, features: bool = False, heads: str | None = None) -> Any:
    """:func:`expected` for the plain model."""
    z = model.trunk(model.x)
    losses = model.by_views(dict.fromkeys(TASKS, z))
    parts = [list(model.trunk.parameters()), list(model.heads.parameters())]
    return expected(method, losses, *parts, features=[z] if features else [], heads=heads)


def run(balancer: Any, losses: Mapping[str, Tensor], call: Call = "scalar") -> None:
    """One of the two calls that leave gradients."""
    if call == "backward":
        balancer.backward(losses)
    else:
        balancer(losses).backward()


def step_of(balancer: Any, model: Model, route: str, call: Call = "scalar") -> None:
    """One step of the plain model, its features shared on the features route."""
    if route == "features":
        run(balancer, model.by_views(balancer.share(model.trunk(model.x))), call)
    else:
        run(balancer, model.plain(), call)


def outcome(balancer: Any, model: Model, route: str, steps: int = 3) -> Tensor:
    """What some steps leave, end to end."""
    got = []
    for number in range(steps):
        model.x = model.x * 1.1
        clear(model.parameters())
        step_of(balancer, model, route)
        with torch.no_grad():
            for p in model.parameters():
                if p.grad is not None:
                    p -= 0.01 * p.grad
        balancer.after_step(model.plain)
        if number % 2:
            balancer.end_epoch()
        got.append(flat([p.grad for p in model.trunk.parameters()]))
    return torch.cat(got)


def assert_left(want: Mapping[Tensor, Tensor], tolerance: float = 1e-10, factor: float = 1) -> None:
    """Every ``.grad`` is that of ``want`` times ``factor``, up to a share of the largest entry."""
    for number, (tensor, gradient) in enumerate(want.items()):
        got = torch.zeros_like(tensor) if tensor.grad is None else tensor.grad.detach()
        scale = float(gradient.abs().max()) * abs(factor)
        gap = float((got.double() - factor * gradient.double()).abs().max())
        assert gap <= tolerance * scale + 1e-300, (
            f"tensor {number} of shape {tuple(tensor.shape)}: {gap:.2e} off, of {scale:.2e}"
        )


def clear(tensors: Any) -> None:
    """No gradient is left from before."""
    for tensor in tensors:
        tensor.grad = None


def grad_or_zero(loss: Tensor, at: Sequence[Tensor]) -> list[Tensor]:
    found = grad(loss, list(at), retain_graph=True, allow_unused=True)
    return [torch.zeros_like(t) if g is None else g for t, g in zip(at, found, strict=True)]


def flat(parts: Sequence[Tensor]) -> Tensor:
    return torch.cat([part.reshape(-1) for part in parts])
