"""Which parameters are shared, however the losses come together, and what all others get."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from one_by_one import (
    TASKS,
    Model,
    assert_left,
    balancer_of,
    clear,
    expected,
    method_of,
    of_model,
    run,
)
from torch import Tensor, nn

METHODS = ("mgda", "pcgrad", "nash_mtl", "db_mtl")


class Sink(torch.autograd.Function):
    """All outputs pass one node, as a wrapper around the model makes them."""

    @staticmethod
    def forward(ctx: Any, *outputs: Tensor) -> tuple[Tensor, ...]:
        return tuple(out.clone() for out in outputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        return gradients


class Whole(torch.autograd.Function):
    """The whole model as one node, as a compiler makes it: every parameter gets zeros at least."""

    @staticmethod
    def forward(ctx: Any, model: Model, x: Tensor, *parameters: Tensor) -> tuple[Tensor, ...]:
        ctx.model, ctx.x, ctx.parameters = model, x, parameters
        return tuple(out.detach() for out in model(x))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        with torch.enable_grad():
            outputs = ctx.model(ctx.x)
        found = torch.autograd.grad(outputs, ctx.parameters, gradients, materialize_grads=True)
        return None, None, *found


def columns(outputs: Sequence[Tensor]) -> list[Tensor]:
    wide = torch.cat(list(outputs), 1)
    return [wide[:, 2 * k : 2 * k + 2] for k in range(len(outputs))]


OUTPUTS: dict[str, Callable[[Sequence[Tensor]], Sequence[Tensor]]] = {
    "separate": lambda outs: outs,
    "columns of cat": columns,
    "split of cat": lambda outs: torch.split(torch.cat(list(outs), 1), 2, dim=1),
    "stack by index": lambda outs: [torch.stack(list(outs))[k] for k in range(len(outs))],
    "one stack": lambda outs: list(torch.stack(list(outs))),
    "unbind": lambda outs: torch.stack(list(outs)).unbind(),
    "one function": lambda outs: Sink.apply(*outs),
}
LOSSES: dict[str, Callable[[Tensor], Any]] = {
    "by name": lambda stacked: {t: stacked[k] for k, t in enumerate(TASKS)},
    "list": list,
    "unbind": lambda stacked: stacked.unbind(),
    "split": lambda stacked: dict(zip(TASKS, stacked.split(1), strict=True)),
}
WAYS = [*(f"outputs: {way}" for way in OUTPUTS), *(f"losses: {way}" for way in LOSSES), "whole"]


def joined(model: Model, way: str, outputs: Sequence[Tensor] | None = None) -> Any:
    """The losses, brought together in that way."""
    kind, _, how = way.partition(": ")
    if kind == "whole":
        return model.losses(Whole.apply(model, model.x, *model.parameters()))
    outputs = model(model.x) if outputs is None else outputs
    if kind == "outputs":
        return model.losses(OUTPUTS[how](outputs))
    return LOSSES[how](torch.stack(list(model.losses(outputs).values())))


def right_or_refused(balancer: Any, losses: Any, want: dict[Tensor, Tensor], call: str) -> bool:
    """Whether it was right; a refusal has to name the remedy."""
    clear(want)
    try:
        run(balancer, losses, call)
    except (ValueError, RuntimeError) as error:
        assert "shared=" in str(error), f"refused without the remedy: {error}"
        return False
    assert_left(want)
    return True


@pytest.mark.parametrize("call", ["scalar", "backward"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("method", METHODS)
def test_where_losses_meet_the_heads_are_still_heads(method: str, way: str, call: str) -> None:
    model = Model()
    want = of_model(method_of(method), model)
    right = right_or_refused(balancer_of(method), joined(model, way), want, call)
    assert right or way != "outputs: separate"


@pytest.mark.parametrize("heads", ["weighted", "unweighted"])
@pytest.mark.parametrize("method", ["uw_o", "mgda"])
def test_a_head_rule_asked_for_holds_where_losses_meet(method: str, heads: str) -> None:
    for way in WAYS:
        model = Model()
        want = of_model(method_of(method), model, heads=heads)
        right_or_refused(balancer_of(method, heads=heads), joined(model, way), want, "scalar")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("method", ["mgda", "graddrop"])
def test_naming_the_trunk_settles_it(method: str, way: str) -> None:
    model = Model()
    want = of_model(method_of(method), model)
    balancer_of(method, shared=model.trunk)(joined(model, way)).backward()
    assert_left(want)


@pytest.mark.parametrize("way", [way for way in WAYS if way != "whole"])
@pytest.mark.parametrize("method", ["mgda", "nash_mtl", "graddrop"])
def test_views_need_no_search_and_no_warning(method: str, way: str) -> None:
    model = Model()
    want = of_model(method_of(method), model, features=True)
    balancer = balancer_of(method)
    views = balancer.share(model.trunk(model.x))
    outputs = [head(views[t]) for t, head in zip(TASKS, model.heads, strict=True)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        balancer(joined(model, way, outputs)).backward()
    assert_left(want)


def shared_line(balancer: Any) -> str:
    (line,) = [line for line in balancer.explain().splitlines() if line.startswith("shared")]
    return line


@pytest.mark.parametrize("way", WAYS)
def test_the_explanation_counts_the_trunk_alone(way: str) -> None:
    model = Model()
    balancer = balancer_of("mgda")
    want = of_model(method_of("mgda"), model)
    if right_or_refused(balancer, joined(model, way), want, "scalar"):
        entries = sum(p.numel() for p in model.trunk.parameters())
        assert f"4 tensors, {entries} entries" in shared_line(balancer)


def test_the_explanation_says_how_the_trunk_was_found() -> None:
    lines = []
    for way, named in [("separate", False), ("separate", True), ("columns of cat", False)]:
        model = Model()
        balancer = balancer_of("mgda", shared=model.trunk if named else None)
        try:
            balancer(joined(model, f"outputs: {way}"))
        except (ValueError, RuntimeError) as error:
            assert "shared=" in str(error)
            continue
        lines.append(shared_line(balancer))
    assert len(set(lines)) == len(lines) > 1, lines


def train_three_steps(
    model: Model, method: str, way: str, losses: Callable[[Any, int], Any]
) -> None:
    """Plain descent; the reference sees the same parameters in every step."""
    balancer, reference = balancer_of(method), method_of(method)
    parts = [list(model.trunk.parameters()), list(model.heads.parameters())]
    for step in range(3):
        plain = losses(joined(model, "outputs: separate"), step)
        want = expected(reference, plain, *parts)
        if not right_or_refused(balancer, losses(joined(model, way), step), want, "scalar"):
            return
        with torch.no_grad():
            for p, g in want.items():
                p -= 0.1 * g


@pytest.mark.parametrize("way", ["outputs: separate", "outputs: columns of cat", "whole"])
@pytest.mark.parametrize("method", ["mgda", "pcgrad"])
def test_heads_that_start_at_zero_stay_heads(method: str, way: str) -> None:
    """No gradient reaches the trunk in the first step, so nothing can be told from it then."""
    model = Model()
    for p in model.heads.parameters():
        nn.init.zeros_(p)
    train_three_steps(model, method, way, lambda losses, step: losses)


@pytest.mark.parametrize("way", ["outputs: separate", "outputs: columns of cat", "whole"])
@pytest.mark.parametrize("method", ["mgda", "pcgrad"])
def test_a_loss_that_is_zero_in_the_first_step_hides_no_head(method: str, way: str) -> None:
    """A hinge that is satisfied: its head has no gradient yet, as a stranger's head has none."""

    def hinged(losses: dict[str, Tensor], step: int) -> dict[str, Tensor]:
        margin = 1e6 if step == 0 else 0.0
        return {**losses, "b": (losses["b"] - margin).relu()}

    train_three_steps(Model(), method, way, hinged)


def test_one_architecture_after_another_is_not_confused() -> None:
    """What was found for one way of coming together is not kept for the next."""
    balancer, reference, model = balancer_of("mgda"), method_of("mgda"), Model()
    for way in ("outputs: columns of cat", "outputs: separate", "losses: unbind"):
        want = of_model(reference, model)
        right_or_refused(balancer, joined(model, way), want, "scalar")
