"""Half precision, loss scaling, overflow, and a change of precision in mid-run."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from one_by_one import (
    LOSS_METHODS,
    TASKS,
    Model,
    assert_left,
    balancer_of,
    clear,
    expected,
    flat,
    method_of,
    of_model,
    run,
    step_of,
)
from torch import Tensor

import equipoise

HALF = {torch.float16: 4e-3, torch.bfloat16: 3e-2}
LOSS_IDS = [card.id for card in equipoise.methods() if equipoise.method(card.id).needs == "losses"]


def halved(
    model: Model, size: float = 1.0, balancer: Any = None, dtype: Any = torch.float16
) -> Any:
    """Losses of about the same size, from a forward pass in half precision."""
    with torch.autocast("cpu", dtype=dtype):
        z = model.trunk(model.x)
        views = dict.fromkeys(TASKS, z) if balancer is None else balancer.share(z)
        outputs = [head(views[t]) for t, head in zip(TASKS, model.heads, strict=True)]
    losses = model.losses([out.float() for out in outputs])
    sizes = {"a": 0.1, "b": 1.0, "c": 40.0}
    return {t: size * sizes[t] * loss for t, loss in losses.items()}


def parts_of(model: Model) -> tuple[list[Tensor], list[Tensor]]:
    return list(model.trunk.parameters()), list(model.heads.parameters())


def assert_about(want: Mapping[Tensor, Tensor], share: float) -> None:
    """The whole gradient of each tensor, to a share of its length."""
    for tensor, gradient in want.items():
        assert tensor.grad is not None and bool(tensor.grad.isfinite().all())
        gap = (tensor.grad.double() - gradient.double()).norm()
        assert float(gap) <= share * float(gradient.double().norm()), (
            f"{float(gap / gradient.double().norm()):.2e} off, {share:.0e} allowed"
        )


@pytest.mark.parametrize("inside", [False, True], ids=["outside", "inside"])
@pytest.mark.parametrize("call", ["scalar", "backward"])
@pytest.mark.parametrize("method", ["mgda", "pcgrad", "nash_mtl", "upgrad", "rgw", "db_mtl"])
def test_autocast_does_not_round_what_the_balancer_computes(
    method: str, call: Any, inside: bool
) -> None:
    """The task gradients are the same numbers, so their combination is, to single precision."""
    model = Model(torch.float32)
    trunk, heads = parts_of(model)
    want = expected(method_of(method), halved(model, dtype=torch.bfloat16), trunk, heads)
    balancer = balancer_of(method)
    losses = halved(model, dtype=torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=inside):
        run(balancer, losses, call)
    if method != "rgw":  # whose one pass is rounded as a whole
        assert_left({p: want[p] for p in trunk}, 2e-6)
    assert_about(want, 2e-2)


@pytest.mark.parametrize("inside", [False, True], ids=["outside", "inside"])
@pytest.mark.parametrize("method", ["ew", "uw_o", "famo", "mgda", "nash_mtl", "pcgrad", "graddrop"])
def test_autocast_on_the_routes_of_one_pass(method: str, inside: bool) -> None:
    model = Model(torch.float32)
    balancer, on_views = balancer_of(method), method not in LOSS_METHODS
    with torch.autocast("cpu", dtype=torch.bfloat16):
        z = model.trunk(model.x)
    losses = halved(model, 1.0, None, torch.bfloat16)
    if on_views:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            outs = [head(z) for head in model.heads]
        raw = model.losses([out.float() for out in outs])
        sizes = {"a": 0.1, "b": 1.0, "c": 40.0}
        losses = {t: sizes[t] * x for t, x in raw.items()}
    want = expected(method_of(method), losses, *parts_of(model), features=[z] if on_views else [])
    losses = halved(model, 1.0, balancer if on_views else None, torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=inside):
        total = balancer(losses)
    total.backward()
    assert_about(want, 2e-2)


@pytest.mark.parametrize("dtype", HALF, ids=["float16", "bfloat16"])
@pytest.mark.parametrize("method", LOSS_IDS)
def test_losses_in_half_precision_get_the_weights_of_the_same_numbers(
    method: str, dtype: torch.dtype
) -> None:
    balancer, reference = balancer_of(method), method_of(method)
    reference.begin(3)
    generator = torch.Generator().manual_seed(3)
    size = torch.tensor([10.0, 1.0, 0.01])
    for step in range(5):
        values = (size * (1 + 0.1 * torch.rand(3, generator=generator))).to(dtype)
        leaves = [v.clone().requires_grad_() for v in values]
        balancer(leaves).backward()
        want = reference.weights(values.float()).detach()
        scale = float(want.abs().max())
        got = torch.tensor(list(balancer.weights.values()))
        assert float((got - want).abs().max()) <= HALF[dtype] * scale, f"step {step}"
        pulled = torch.stack([leaf.grad for leaf in leaves]).float()
        assert float((pulled - want).abs().max()) <= HALF[dtype] * scale, f"step {step}"
        after = [(0.9 * v).to(dtype) for v in values]
        balancer.after_step(lambda after=after: after)
        reference.after_step(torch.stack(after).float())
        if step % 2:
            balancer.end_epoch()
            reference.end_epoch()


# --- loss scaling ---------------------------------------------------------------------------------


def scaler_of(scale: float) -> torch.amp.GradScaler:
    return torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=1000)


def scaled_step(balancer: Any, model: Model, scaler: Any, how: str, size: float) -> None:
    """A step's gradients, still scaled."""
    losses = halved(model, size, balancer if how == "features" else None)
    if how == "backward":
        balancer.backward(losses, scaler=scaler)
    else:
        scaler.scale(balancer(losses)).backward()


def exact(model: Model, method: Any, how: str, size: float, heads: str | None) -> Any:
    """The reference in single precision throughout."""
    z = model.trunk(model.x)
    sizes = {"a": 0.1, "b": 1.0, "c": 40.0}
    raw = model.by_views(dict.fromkeys(TASKS, z))
    losses = {t: size * sizes[t] * x for t, x in raw.items()}
    features = [z] if how == "features" else []
    return expected(method, losses, *parts_of(model), features=features, heads=heads)


@pytest.mark.parametrize(("scale", "size"), [(1.0, 1.0), (1024.0, 1e-3), (65536.0, 1e-5)])
@pytest.mark.parametrize("heads", ["weighted", "unweighted"])
@pytest.mark.parametrize("how", ["call", "backward", "features"])
@pytest.mark.parametrize("method", ["mgda", "nash_mtl", "upgrad"])
def test_a_scaler_changes_no_weight(
    method: str, how: str, heads: str, scale: float, size: float
) -> None:
    """Small losses are what the scale is for; a call that comes before it may say so instead."""
    if method == "nash_mtl":
        scale = min(scale, 1024.0)  # its weighted gradients are about 1, whatever the losses
    model = Model(torch.float32)
    want = exact(model, method_of(method), how, size, heads)
    scaler = scaler_of(scale)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            scaled_step(balancer_of(method, heads=heads), model, scaler, how, size)
    except (ValueError, RuntimeError, UserWarning) as told:
        assert how != "backward" and "scaler" in str(told), told
        return
    scaler.unscale_(optimizer)
    assert_about(want, 3e-2)


@pytest.mark.filterwarnings("ignore:a task gradient left the range")
@pytest.mark.parametrize("scale", [65536.0, 1.0])
@pytest.mark.parametrize("how", ["backward", "features"])
@pytest.mark.parametrize("method", ["mgda", "nash_mtl", "gradvac", "db_mtl", "moco"])
def test_after_an_overflow_it_is_as_if_the_step_had_not_been(
    method: str, how: str, scale: float
) -> None:
    if how == "features" and method in ("db_mtl", "moco", "gradvac"):
        pytest.skip("compares gradients over steps")
    model = Model(torch.float32)
    scaler = scaler_of(scale)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    seeing, sparing = balancer_of(method), balancer_of(method)
    for balancer in (seeing, sparing):
        scaled_step(balancer, model, scaler, how, 1e-3)
        optimizer.zero_grad()
    before = copy.deepcopy(model.state_dict())
    scaled_step(seeing, model, scaler, how, 100.0 * 65536.0 / scale)
    assert not all(bool(p.grad.isfinite().all()) for p in model.parameters())
    scaler.step(optimizer)
    scaler.update()
    assert scaler.get_scale() == scale / 2
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    for _ in range(2):
        got = []
        for balancer in (seeing, sparing):
            optimizer.zero_grad()
            scaled_step(balancer, model, scaler, how, 1e-3)
            got.append(flat([p.grad for p in model.parameters()]))
        assert torch.equal(*got)
        model.x = model.x * 1.1


# --- another precision in mid-run -----------------------------------------------------------------

STATEFUL = ("db_mtl", "moco", "excess_mtl", "gradvac", "nash_mtl", "famo", "dwa", "uw")


def go_on(balancer: Any, reference: Any, model: Model, steps: int, tolerance: float) -> None:
    for _ in range(steps):
        model.x = model.x * 1.05
        clear(model.parameters())
        want = of_model(reference, model)
        step_of(balancer, model, "parameters")
        assert_left(want, tolerance)
        wide = torch.promote_types(model.x.dtype, torch.float32)
        with torch.no_grad():
            after = torch.stack(list(model.plain().values())).to(wide)
        balancer.after_step(model.plain)
        reference.after_step(after)
        balancer.end_epoch()
        reference.end_epoch()


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float16, 3e-2), (torch.bfloat16, 1e-1), (torch.float64, 1e-5)],
    ids=["half", "bfloat16", "double"],
)
@pytest.mark.parametrize("inside", [True, False], ids=["inside", "beside"])
@pytest.mark.parametrize("method", STATEFUL)
def test_a_model_may_change_precision_with_a_balancer_inside_or_beside_it(
    method: str, inside: bool, dtype: torch.dtype, tolerance: float
) -> None:
    model = Model(torch.float32)
    balancer = balancer_of(method)
    if inside:
        model.balancer = balancer
    reference = method_of(method)
    reference.begin(3)
    go_on(balancer, reference, model, 3, 1e-5)
    model.to(dtype)
    model.x, model.y = model.x.to(dtype), model.y.to(dtype)
    if dtype == torch.float64:
        reference.double()
    go_on(balancer, reference, model, 3, tolerance)


@pytest.mark.parametrize("saved", [torch.float64, torch.float32])
@pytest.mark.parametrize("method", STATEFUL)
def test_state_of_another_precision_can_be_loaded(method: str, saved: torch.dtype) -> None:
    first, reference = Model(saved), method_of(method)
    reference.begin(3)
    old = balancer_of(method)
    go_on(old, reference, first, 3, 1e-5)
    now = torch.float32 if saved == torch.float64 else torch.float64
    second, balancer = Model(now), balancer_of(method)
    balancer.load_state_dict(old.state_dict())
    go_on(balancer, reference.to(now), second, 3, 1e-5)
