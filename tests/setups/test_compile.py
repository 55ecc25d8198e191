"""Compiled models and compiled steps: the gradients of the eager ones, or a refusal with the remedy."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from one_by_one import TASKS, Model, assert_left, balancer_of, clear, method_of, of_model, run
from torch import Tensor, nn

import equipoise

LOSS_IDS = [card.id for card in equipoise.methods() if equipoise.method(card.id).needs == "losses"]


@pytest.fixture(autouse=True)
def fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


# A compiled graph that frees its own buffers cannot be passed once a task.
REMEDIES = ("shared=", "donated_buffer", "share(", "route='features'")


def right_or_refused(call: Callable[[], None], want: dict[Tensor, Tensor], *remedies: str) -> None:
    clear(want)
    try:
        call()
    except (ValueError, RuntimeError) as error:
        assert any(remedy in str(error) for remedy in remedies), f"no remedy: {error}"
        # What is refused leaves nothing behind.
        assert all(p.grad is None for p in want)
        return
    assert_left(want, 1e-9)


def test_a_model_compiled_as_a_whole() -> None:
    """The heads are one graph node with the trunk; one backward pass of it is never a question."""
    model = Model()
    compiled = torch.compile(model, backend="aot_eager")
    for method in ("uw_o", "famo", "mgda", "pcgrad", "nash_mtl", "rgw", "db_mtl"):
        for call in ("scalar", "backward"):
            want = of_model(method_of(method), model)
            balancer = balancer_of(method)
            losses = model.losses(compiled(model.x))
            if method in ("uw_o", "famo"):
                clear(want)
                run(balancer, losses, call)
                assert_left(want, 1e-9)
            else:
                right_or_refused(lambda b=balancer, x=losses, c=call: run(b, x, c), want, *REMEDIES)


def test_a_compiled_model_with_its_trunk_named() -> None:
    model = Model()
    compiled = torch.compile(model, backend="aot_eager")
    for method in ("mgda", "pcgrad", "graddrop"):
        want = of_model(method_of(method), model)
        clear(want)
        balancer_of(method, shared=model.trunk)(model.losses(compiled(model.x))).backward()
        assert_left(want, 1e-9)


def test_a_function_that_computes_compiled_losses() -> None:
    """Forward pass and losses in one graph, the balancer outside."""
    model = Model()
    losses_of = torch.compile(lambda x: model.losses(model(x)), backend="aot_eager")
    for method in ("uw_o", "mgda", "nash_mtl"):
        want = of_model(method_of(method), model)
        balancer = balancer_of(method)
        if method == "uw_o":
            clear(want)
            balancer(losses_of(model.x)).backward()
            assert_left(want, 1e-9)
        else:
            right_or_refused(lambda b=balancer: b(losses_of(model.x)).backward(), want, *REMEDIES)


def step_of_parts(balancer: Any, model: Model, trunk: Any, heads: Any, features: bool) -> None:
    z = trunk(model.x)
    views = balancer.share(z) if features else dict.fromkeys(TASKS, z)
    outputs = [head(views[t]) for t, head in zip(TASKS, heads, strict=True)]
    balancer(model.losses(outputs)).backward()


def check_parts(model: Model, trunk: Any, heads: Any, kept: bool = False) -> None:
    """Every method and route; refused only where a graph that cannot be kept is passed twice."""
    for method in ("uw_o", "mgda", "nash_mtl", "pcgrad"):
        for features in (False, True):
            at_views = features and method != "uw_o"
            want = of_model(method_of(method), model, features=at_views)
            once = method == "uw_o" or (features and method != "nash_mtl")
            remedies = () if once or kept else REMEDIES
            balancer = balancer_of(method)
            right_or_refused(
                lambda b=balancer, f=at_views: step_of_parts(b, model, trunk, heads, f),
                want,
                *remedies,
            )


def test_trunk_and_heads_compiled_one_by_one() -> None:
    model = Model()
    trunk = torch.compile(model.trunk, backend="aot_eager")
    heads = [torch.compile(head, backend="aot_eager") for head in model.heads]
    check_parts(model, trunk, heads)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="inductor needs a C++ compiler")
def test_a_trunk_of_generated_code() -> None:
    """Inductor frees what it can in the backward pass; a setting keeps it, and then all is right."""
    import torch._functorch.config as config

    model = Model()
    check_parts(model, torch.compile(model.trunk, backend="inductor"), model.heads)
    torch._dynamo.reset()
    with config.patch(donated_buffer=False):
        kept = torch.compile(model.trunk, backend="inductor")
        check_parts(model, kept, model.heads, kept=True)


# --- the balancer inside the compiled step --------------------------------------------------------


class Line(nn.Module):
    """A matrix and three losses of its product with the inputs: next to nothing to compile."""

    def __init__(self) -> None:
        super().__init__()
        draws = torch.Generator().manual_seed(0)
        self.matrix = nn.Parameter(torch.randn(4, 3, dtype=torch.float64, generator=draws))
        self.x = torch.randn(5, 4, dtype=torch.float64, generator=draws)
        self.sizes = torch.tensor([10.0, 1.0, 0.01], dtype=torch.float64)

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.matrix

    def losses(self, outputs: Tensor) -> dict[str, Tensor]:
        values = self.sizes * (outputs - 1).square().mean(0)
        return dict(zip(TASKS, values.unbind(), strict=True))

    def plain(self) -> dict[str, Tensor]:
        return self.losses(self(self.x))


def trained(method: str, backend: str | None, **arguments: Any) -> list[Tensor]:
    """Losses and parameters over three steps; the first and those after it are graphs of their own."""
    model, balancer = Line(), balancer_of(method, **arguments)
    groups = [{"params": list(model.parameters())}, *balancer.param_groups(lr=0.1)]
    optimizer = torch.optim.SGD(groups, lr=0.01)

    def loss_of(x: Tensor) -> Tensor:
        return balancer(model.losses(model(x)))

    if backend is not None:
        loss_of = torch.compile(loss_of, backend=backend, fullgraph=True)
    seen = []
    for step in range(3):
        loss = loss_of(model.x * (1 + 0.1 * step))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        balancer.after_step(model.plain)
        balancer.end_epoch()
        seen.append(loss.detach())
    return [*seen, *(p.detach() for p in model.parameters())]


@pytest.mark.parametrize("method", LOSS_IDS)
def test_a_loss_method_is_compiled_without_a_break(method: str) -> None:
    want = trained(method, None, checks="deferred")
    got = trained(method, "aot_eager", checks="deferred")
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("method", ["ew", "uw_o", "dwa"])
def test_a_compiled_step_is_not_compiled_again_and_again(method: str) -> None:
    """A count of steps that the compiler takes for a constant exhausts its patience in a few."""
    model, balancer = Model(), balancer_of(method, checks="deferred")
    balancer(model.plain())
    loss_of = torch.compile(
        lambda x: balancer(model.losses(model(x))), backend="eager", fullgraph=True
    )
    for _ in range(3 * torch._dynamo.config.recompile_limit):
        loss_of(model.x).backward()


@pytest.mark.parametrize(
    "options",
    [
        {"prior": {"a": 2.0}},
        {"weight_sum": "one"},
        {"weight_ema": 0.5},
        {"weight_cap": 1.5},
        {"transform": "log"},
        {"update_every": 2},
    ],
    ids=lambda options: next(iter(options)),
)
def test_options_are_compiled_without_a_break(options: dict[str, Any]) -> None:
    want = trained("dwa", None, checks="deferred", **options)
    got = trained("dwa", "aot_eager", checks="deferred", **options)
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-12)
