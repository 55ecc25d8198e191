"""Many steps: nothing piles up, and balancers in threads of their own do not meet."""

from __future__ import annotations

import gc
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from one_by_one import TASKS, Model, balancer_of, clear, flat, outcome, step_of
from torch import Tensor

WAYS = [
    *((m, "losses") for m in ("ew", "uw_o", "dwa", "famo", "rlw")),
    *((m, "parameters") for m in ("mgda", "nash_mtl", "gradvac", "graddrop", "db_mtl")),
    *((m, "features") for m in ("mgda", "nash_mtl", "rgw", "graddrop")),
]
# What they do in a step depends on no step before it.
FORGETFUL = ("ew", "uw_o", "mgda")
# Counting what is alive takes time.
ALL_KINDS = ("famo", "mgda", "db_mtl", "graddrop")


def alive() -> int:
    gc.collect()
    return sum(issubclass(type(thing), Tensor) for thing in gc.get_objects())


@pytest.mark.parametrize(("method", "route"), [way for way in WAYS if way[0] in ALL_KINDS])
def test_no_tensor_is_left_over_from_a_step(method: str, route: str) -> None:
    model, balancer = Model(), balancer_of(method)

    def steps(count: int) -> None:
        for _ in range(count):
            clear(model.parameters())
            step_of(balancer, model, route)
            balancer.after_step(model.plain)
            balancer.end_epoch()

    steps(5)
    before = alive()
    steps(30)
    assert alive() <= before


@pytest.mark.parametrize(("method", "route"), [way for way in WAYS if way[0] in FORGETFUL])
def test_a_call_without_a_backward_pass_leaves_nothing_behind(method: str, route: str) -> None:
    """A step that is given up, as after an error elsewhere, is not mixed into the next."""
    model, given_up, plain = Model(), balancer_of(method), balancer_of(method)
    views = dict.fromkeys(TASKS, model.trunk(model.x))
    if route == "features":
        views = given_up.share(model.trunk(model.x))
    given_up(model.by_views(views))
    got = []
    for balancer in (given_up, plain):
        clear(model.parameters())
        step_of(balancer, model, route)
        got.append(flat([p.grad for p in model.parameters()]))
    assert torch.equal(*got)


@pytest.mark.parametrize("route", ["losses", "parameters", "features"])
def test_balancers_in_threads_of_their_own_do_not_meet(route: str) -> None:
    methods = [method for method, where in WAYS if where == route]
    pairs: list[tuple[Any, Any]] = [(balancer_of(m), Model(seed=n)) for n, m in enumerate(methods)]
    again: list[tuple[Any, Any]] = [(balancer_of(m), Model(seed=n)) for n, m in enumerate(methods)]
    want = [outcome(balancer, model, route, 10) for balancer, model in pairs]
    with ThreadPoolExecutor(len(methods)) as threads:
        got = list(threads.map(lambda pair: outcome(*pair, route, 10), again))
    assert all(torch.equal(a, b) for a, b in zip(got, want, strict=True))
