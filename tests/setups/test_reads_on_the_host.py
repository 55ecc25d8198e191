"""How often a step waits for a number: every such read stalls a device that works ahead."""

from __future__ import annotations

import warnings
from collections import Counter
from typing import Any

import pytest
import torch
from one_by_one import TASKS, Model, balancer_of, clear
from reads import READS, Operators, Place, copies, reads_of
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import equipoise

LOSS_IDS = [card.id for card in equipoise.methods() if equipoise.method(card.id).needs == "losses"]


def added(balancer: Any, route: str, call: str = "scalar") -> Counter[str]:
    """What a step with the balancer reads: forward pass, balancer, backward pass."""
    model = Model()

    def step() -> None:
        z = model.trunk(model.x)
        views = balancer.share(z) if route == "features" else dict.fromkeys(TASKS, z)
        losses = model.by_views(views)
        if call == "backward":
            balancer.backward(losses)
        else:
            balancer(losses).backward()

    place = Place(*model.parameters(), model.x, model.y, *balancer.parameters())
    with copies(place), Operators(place):
        # The first steps may make state; a step far into training is what counts.
        for _ in range(3):
            clear(model.parameters())
            step()
            balancer.after_step(model.plain)
            balancer.end_epoch()
        clear(model.parameters())
        place.reads.clear()
        step()
    return +place.reads


def test_the_counter_counts() -> None:
    x = torch.tensor([1.0, 2.0])
    for read in (
        lambda: x.sum().item(),
        lambda: float(x[0]),
        lambda: bool((x > 1).all()),
        lambda: (2 * x).nonzero(),
        lambda: x[x > 1],
        lambda: torch.equal(x, x + 1),
        lambda: x.exp().tolist(),
        lambda: (x @ x).cpu().tolist(),
        lambda: x.to("cpu").sum().item(),
        lambda: torch.ones(2).to(x).tolist(),
    ):
        assert sum(reads_of(read, x).values()) == 1, read
    for no_read in (
        lambda: (x.softmax(0) @ x).clamp_min(0),
        lambda: torch.ones(2).sum().item(),
        lambda: torch.tensor([1.0, 2.0]).to(x) * x,
        lambda: torch.zeros(2, device=x.device) + x,
    ):
        assert not reads_of(no_read, x), no_read


class ReadsBehind(torch.autograd.Function):
    """Reads in its backward pass alone."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return g * (g @ g).cpu().item()


def test_a_read_in_the_backward_pass_is_counted() -> None:
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    reads = reads_of(lambda: ReadsBehind.apply(x).sum().backward(), x)
    assert reads == {"cpu": 1}


def test_a_plain_step_reads_nothing() -> None:
    model = Model()
    device = (*model.parameters(), model.x, model.y)
    assert not reads_of(lambda: sum(model.plain().values()).backward(), *device)


LIMITS = [
    *((m, "losses", 0) for m in LOSS_IDS),
    *(
        (m, "parameters", 1)
        for m in ("mgda", "pcgrad", "cagrad", "nash_mtl", "upgrad", "rgw", "graddrop", "db_mtl")
    ),
]


@pytest.mark.parametrize(("checks", "more"), [("deferred", 0), ("now", 1)])
@pytest.mark.parametrize(("method", "route", "limit"), LIMITS)
def test_a_step_reads_no_more_than_it_has_to(
    method: str, route: str, limit: int, checks: str, more: int
) -> None:
    reads = added(balancer_of(method, checks=checks), route)
    assert sum(reads.values()) <= limit + more, dict(reads)


@pytest.mark.parametrize(("checks", "more"), [("deferred", 0), ("now", 1)])
@pytest.mark.parametrize(
    "method", ["mgda", "pcgrad", "cagrad", "nash_mtl", "upgrad", "rgw", "graddrop"]
)
def test_the_features_route_reads_the_gramian_at_most(method: str, checks: str, more: int) -> None:
    """Solvers are on the host; one copy of K x K numbers brings them what they need."""
    reads = added(balancer_of(method, checks=checks), "features")
    limit = 0 if method == "rgw" else 1
    assert sum(reads.values()) <= limit + more, dict(reads)


@pytest.mark.parametrize("method", ["mgda", "pcgrad", "cagrad", "nash_mtl", "upgrad", "graddrop"])
def test_a_step_at_the_features_reads_no_single_number(method: str) -> None:
    """What torch itself counts: no tensor is asked for a Python number."""
    model, balancer = Model(), balancer_of(method, checks="deferred")
    balancer(model.by_views(balancer.share(model.trunk(model.x)))).backward()
    seen: Counter[str] = Counter()

    class Counts(TorchDispatchMode):
        def __torch_dispatch__(
            self, op: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            seen[op.overloadpacket.__name__] += 1
            return op(*args, **(kwargs or {}))

    with Counts():
        balancer(model.by_views(balancer.share(model.trunk(model.x)))).backward()
    assert seen and not READS & set(seen), READS & set(seen)


@pytest.mark.parametrize("method", ["mgda", "nash_mtl", "db_mtl"])
def test_the_fast_call_reads_no_more(method: str) -> None:
    reads = added(balancer_of(method, checks="deferred"), "parameters", "backward")
    assert sum(reads.values()) <= 1, dict(reads)


@pytest.mark.parametrize(
    "options",
    [
        {"prior": {"a": 2.0}},
        {"weight_sum": "one"},
        {"weight_sum": "tasks"},
        {"weight_ema": 0.5},
        {"weight_floor": 0.1, "weight_cap": 2.0},
        {"transform": "log"},
        {"update_every": 2},
        {"heads": "unweighted"},
        {"nonfinite": "raise"},
    ],
    ids=lambda options: next(iter(options)),
)
def test_options_read_nothing(options: dict[str, Any]) -> None:
    # Logarithms of losses are negative, which UW-O does not take.
    method = "dwa" if "transform" in options else "uw_o"
    reads = added(balancer_of(method, checks="deferred", **options), "losses")
    assert not reads, dict(reads)


# --- a check that comes a step later --------------------------------------------------------------


@pytest.mark.parametrize("method", ["uw_o", "mgda"])
def test_a_deferred_check_is_made_in_the_next_step(method: str) -> None:
    model, balancer = Model(), balancer_of(method, checks="deferred")
    losses = model.plain()
    losses["b"] = losses["b"] * torch.nan
    try:
        balancer(losses).backward()
    except ValueError as told:  # a read that is allowed may tell at once
        assert "'b'" in str(told)
        return
    clear(model.parameters())
    with pytest.raises(ValueError, match=r"'b'.* not finite"):
        balancer(model.plain()).backward()


@pytest.mark.parametrize("method", ["uw_o", "mgda"])
@pytest.mark.parametrize("checks", ["now", "deferred"])
def test_checks_change_no_gradient(method: str, checks: str) -> None:
    got = []
    for arguments in ({}, {"checks": checks}):
        model = Model()
        balancer_of(method, **arguments)(model.plain()).backward()
        got += [p.grad for p in model.parameters()]
    half = len(got) // 2
    assert all(torch.equal(a, b) for a, b in zip(got[:half], got[half:], strict=True))


def test_checks_are_now_or_deferred() -> None:
    with pytest.raises(ValueError, match=r"checks='later' is none of 'now', 'deferred'"):
        equipoise.Balancer("ew", checks="later")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(("method", "route", "limit"), [*LIMITS, ("mgda", "features", 0)])
def test_a_cuda_device_is_not_waited_for(method: str, route: str, limit: int) -> None:
    """The same by the driver's own account."""
    model = Model().cuda()
    model.x, model.y = model.x.cuda(), model.y.cuda()
    balancer = balancer_of(method, checks="deferred").cuda()

    def step() -> None:
        z = model.trunk(model.x)
        views = balancer.share(z) if route == "features" else dict.fromkeys(TASKS, z)
        balancer(model.by_views(views)).backward()

    for _ in range(3):
        step()
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    waits = [str(w.message) for w in told if "synchronizing" in str(w.message)]
    assert len(waits) <= limit, waits
