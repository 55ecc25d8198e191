"""No option is silently ignored, whatever the method and whatever other option is set."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple

import pytest
import torch
from one_by_one import TASKS, Model, balancer_of, flat
from torch import Tensor

from equipoise import SolverError

# A value that is not the default and has to show, for every option; what depends on the method is below.
OPTIONS: dict[str, Any] = {
    "prior": {"a": 3.0},
    "heads": None,
    "weight_sum": None,
    "update_every": 2,
    "window": 2,
    "nonfinite": "skip_task",
    "transform": "log",
    "weight_ema": 0.5,
    "weight_floor": None,
    "weight_cap": None,
    "gradient_ema": 0.5,
    "blocks": "parameter",
    "self_optimized": 0.05,
    "on_failure": "keep",
    "route": "features",
    "checks": "deferred",
    "memory": "low",
}


class Kind(NamedTuple):
    """A method, how it is called, and option values that bind for it."""

    method: str
    heads: str
    weight_sum: str
    floor: float
    cap: float
    call: str = "plain"
    options: Mapping[str, Any] = {}
    solver: str = ""  # where a failing solver is met
    steps: int = 3


# Weights that move in a few steps, and a problem that is solved quickly.
SHORT = {"lr": 0.3, "inner_steps": 1, "phi": 10.0}
KINDS = {
    "ew": Kind("ew", "unweighted", "one", 2.5, 0.05),
    "uw": Kind("uw", "unweighted", "one", 0.35, 0.6, options={"init": (-0.5, 0.0, 0.5)}),
    "uw_so": Kind("uw_so", "unweighted", "tasks", 0.33, 0.34),
    "dwa": Kind("dwa", "unweighted", "one", 0.9999, 1.0001, steps=5),
    "mgda": Kind("mgda", "weighted", "tasks", 0.1, 0.5, solver="weights", steps=4),
    "rgw": Kind("rgw", "weighted", "tasks", 0.2, 0.4, steps=4),
    "graddrop": Kind("graddrop", "weighted", "one", 0.2, 0.4),
    "db_mtl": Kind("db_mtl", "weighted", "one", 0.2, 0.4),
    "modo": Kind("modo", "weighted", "tasks", 0.3333, 0.3334, "batches", solver="weights", steps=4),
    "moml": Kind("moml", "unweighted", "tasks", 0.3, 0.35, "bilevel", {"lr": 0.3}, "learn"),
    "forum": Kind("forum", "unweighted", "tasks", 0.3, 0.35, "bilevel", SHORT, "mix"),
    "samo": Kind("mgda", "weighted", "tasks", 0.1, 0.5, "uphill", solver="weights", steps=4),
}
NAN_STEP, FAIL_STEP = 1, 2


class Outcome(NamedTuple):
    """Values and gradients of all steps, or the error that ended them."""

    seen: list[Tensor]
    error: Exception | None = None

    def same(self, other: Outcome) -> bool:
        if (self.error is None) != (other.error is None) or len(self.seen) != len(other.seen):
            return False
        return all(
            bool(torch.allclose(a, b, rtol=1e-9, atol=1e-14, equal_nan=True))
            for a, b in zip(self.seen, other.seen, strict=True)
        )


def setting(kind: Kind, option: str) -> Any:
    own = {
        "heads": kind.heads,
        "weight_sum": kind.weight_sum,
        "weight_floor": kind.floor,
        "weight_cap": kind.cap,
    }
    return own.get(option, OPTIONS[option])


@cache
def outcome(name: str, options: frozenset[str], spoiled: bool, failing: bool) -> Outcome:
    """Trains some steps; a loss may be NaN in one of them, and a solver may fail in another."""
    kind, model, seen = KINDS[name], Model(), []
    arguments = {option: setting(kind, option) for option in options}
    try:
        balancer = balancer_of(kind.method, **kind.options, **arguments)
        groups = [{"params": list(model.parameters())}, *balancer.param_groups(lr=0.1)]
        optimizer = torch.optim.SGD(groups, lr=0.05)
        for number in range(kind.steps):
            if failing and kind.solver and number == FAIL_STEP:
                setattr(balancer.method, kind.solver, fail)
            optimizer.zero_grad()
            total = call(kind, balancer, model, number, spoiled, "route" in options)
            total.backward()
            if failing and kind.solver and number == FAIL_STEP:
                delattr(balancer.method, kind.solver)
            grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in model.parameters()]
            seen.append(torch.cat([total.detach().view(1), flat(grads)]))
            optimizer.step()
            balancer.end_epoch()
    except (ValueError, TypeError, RuntimeError, SolverError) as error:
        return Outcome(seen, error)
    return Outcome(seen)


def fail(*arguments: Any) -> Tensor:
    raise SolverError("stopped", torch.eye(3), torch.tensor(1.0))


def call(
    kind: Kind, balancer: Any, model: Model, number: int, spoiled: bool, share: bool
) -> Tensor:
    """One call of the kind; every loss is above e, so that its logarithm is positive, too."""

    def losses(batch: int = 0) -> dict[str, Tensor]:
        z = model.trunk(model.x * (1 + 0.3 * number + 0.1 * batch))
        views = balancer.share(z) if share and kind.call == "plain" else dict.fromkeys(TASKS, z)
        parts = {"a": (3, 0.1), "b": (4, 1), "c": (6, 40)}
        raw = model.by_views(views)
        out = {task: base + size * raw[task] for task, (base, size) in parts.items()}
        if spoiled and number == NAN_STEP:
            out["b"] = out["b"] * torch.nan
        return out

    if kind.call == "batches":
        return balancer(losses(0), losses(1), losses(2))
    if kind.call == "bilevel":
        return balancer.bilevel(losses, lambda: {t: x.nan_to_num(3) for t, x in losses(5).items()})
    if kind.call == "uphill":
        return balancer.sharpness_aware(losses, local=0.0)
    return balancer(losses())


def cannot_change(name: str, given: str, option: str) -> bool:
    """Whether the option has no effect by what the method is, not by neglect."""
    kind = KINDS[name]
    if option in ("checks", "memory"):
        return True  # the same gradients are promised; that it is taken has a test of its own
    if option == "on_failure" and not kind.solver:
        return True  # nothing is solved
    if option == "route" and name in ("ew", "uw", "uw_so", "dwa", "rgw", "moml"):
        return True  # weights that do not come from gradients are the same wherever those are taken
    if name == "ew":
        if option in ("update_every", "window", "weight_ema"):
            return True  # the weights are always the same
        if option == "heads":  # and they are 1, unless they are told not to be
            return given not in ("weight_sum", "weight_floor", "weight_cap")
        if given == "weight_sum" and option in ("weight_floor", "weight_cap"):
            return True  # equal weights in equal bounds, brought to the same sum
    return False


def complaint(name: str, given: str, option: str) -> str | None:
    """What is wrong with the second option beside the first."""
    pair = frozenset((given, option))
    case = ("nonfinite" in pair, "on_failure" in pair)
    together, alone = outcome(name, pair, *case), outcome(name, frozenset((given,)), *case)
    if together.error is not None:
        told = str(together.error)
        named = isinstance(together.error, ValueError) and any(word in told for word in pair)
        return None if named else f"{type(together.error).__name__} names neither option: {told}"
    if not all(bool(step.isfinite().all()) for step in together.seen):
        return "the gradients are not finite"
    if option in ("checks", "memory"):
        return None if together.same(alone) else "changes gradients"
    if together.same(alone) and not cannot_change(name, given, option):
        return "is ignored"
    return None


@pytest.mark.parametrize("given", OPTIONS)
@pytest.mark.parametrize("name", KINDS)
def test_every_option_shows_beside_every_other_or_is_refused_by_name(name: str, given: str) -> None:
    found = {option: complaint(name, given, option) for option in OPTIONS if option != given}
    bad = [f"{option}: {what}" for option, what in found.items() if what]
    assert not bad, "; ".join(bad)


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("name", KINDS)
def test_every_option_shows_by_itself_or_is_refused_by_name(name: str, option: str) -> None:
    case = (option == "nonfinite", option == "on_failure")
    plain, got = outcome(name, frozenset(), *case), outcome(name, frozenset((option,)), *case)
    if got.error is not None:
        assert isinstance(got.error, ValueError) and option in str(got.error), got.error
    else:
        assert not got.same(plain) or cannot_change(name, "", option)


@pytest.mark.parametrize("name", KINDS)
def test_checks_may_be_deferred_with_every_method(name: str) -> None:
    case = (frozenset(("checks",)), False, False)
    assert outcome(name, *case).error is None
    assert outcome(name, *case).same(outcome(name, frozenset(), False, False))


@pytest.mark.parametrize("name", KINDS)
def test_what_the_pairs_are_compared_with_is_a_run_that_works(name: str) -> None:
    """The plain run ends; a spoiled loss and a failing solver end it where they come."""
    plain = outcome(name, frozenset(), False, False)
    assert plain.error is None and len(plain.seen) == KINDS[name].steps
    spoiled = outcome(name, frozenset(), True, False)
    assert isinstance(spoiled.error, ValueError) and "'b'" in str(spoiled.error)
    assert len(spoiled.seen) == NAN_STEP
    failing = outcome(name, frozenset(), False, True)
    if KINDS[name].solver:
        assert isinstance(failing.error, SolverError) and len(failing.seen) == FAIL_STEP
    else:
        assert failing.error is None
