"""That ranks did what one process does."""

from __future__ import annotations

from typing import Any

import torch
from rank_cases import Case, Outcome
from rank_network import TASKS
from rank_pool import Pool
from rank_training import run
from torch import Tensor

TOLERANCE = 1e-6
GROUPS = ("trunk.", *(f"heads.{task}." for task in TASKS), "balancer.", "rotations.")
# What torch itself says of options that a test asks for.
TORCH_SAYS = ("find_unused_parameters=True was specified",)


def assert_equal_to_one_process(pool: Pool, case: Case) -> None:
    """Gradients and weights of all ranks are those of the whole batch."""
    want = reference(case)
    got = pool.run(case)
    assert_no_errors(got)
    for rank, outcome in enumerate(got):
        assert_same_run(outcome, want, f"rank {rank}")


def assert_agreed_in_silence(pool: Pool, case: Case) -> None:
    """The balancers' states are equal at the end, and no rank was told what one process is not."""
    got = pool.run(case)
    assert_no_errors(got)
    assert_same_state(got)
    assert_no_warnings(got, reference(case))


def assert_told_everywhere(pool: Pool, case: Case, step: int, *told: str) -> None:
    """Every rank raises in that step, and says the same; the other steps are those of one process."""
    want = run(case)
    got = pool.run(case)
    for rank, outcome in enumerate(got):
        assert [s for s, _ in outcome.errors] == [step], f"rank {rank}: {outcome.errors}"
        for text in told:
            assert text in outcome.errors[0][1], f"rank {rank}: {outcome.errors[0][1]}"
        assert_same_run(outcome, want, f"rank {rank}")


def reference(case: Case) -> Outcome:
    """One process with the whole batch."""
    # How the ranks share the work does not concern one process.
    alone = case.but(ddp={}, wrapper="ddp", sizes=None, weight="none")
    key = repr(alone)
    if key not in _references:
        _references[key] = run(alone)
    want = _references[key]
    assert not want.errors, f"one process: {want.errors}"
    return want


_references: dict[str, Outcome] = {}


def assert_no_errors(got: list[Outcome]) -> None:
    """No rank raised."""
    for rank, outcome in enumerate(got):
        for step, error in outcome.errors:
            raise AssertionError(f"rank {rank}, step {step}: {error}")


def assert_same_run(got: Outcome, want: Outcome, who: str) -> None:
    """The gradients and the weights of every step."""
    assert len(got.gradients) == len(want.gradients), who
    for step, (g, w) in enumerate(zip(got.gradients, want.gradients, strict=True)):
        assert_close(g, w, f"{who}, step {step}")
    assert len(got.weights) == len(want.weights), who
    for step, (v, u) in enumerate(zip(got.weights, want.weights, strict=True)):
        assert set(v) == set(u), f"{who}, step {step}: weights of {sorted(v)}, not of {sorted(u)}"
        top = max(map(abs, u.values()), default=1.0)
        gap = max((abs(v[t] - u[t]) for t in u), default=0.0)
        assert gap <= TOLERANCE * top, f"{who}, step {step}: weights {v} instead of {u}"


def assert_close(got: dict[str, Tensor], want: dict[str, Tensor], where: str) -> None:
    """Relative to the largest entry of the trunk, or of the head a tensor belongs to."""
    assert set(got) == set(want), where
    off = {}
    for group in GROUPS:
        names = [n for n in want if n.startswith(group)]
        if not names:
            continue
        scale = max(float(want[n].abs().max()) for n in names)
        gap = max(float((got[n] - want[n]).abs().max()) for n in names)
        if not gap <= TOLERANCE * scale:
            off[group.rstrip(".")] = f"{gap / scale:.2g}" if scale else f"{gap:.2g} instead of 0"
    assert not off, f"{where}: gradients are off by (relative) {off}"


def assert_same_state(got: list[Outcome]) -> None:
    """Every number of the balancers' states."""
    first = dict(_flat("", got[0].state))
    for rank, outcome in enumerate(got[1:], 1):
        other = dict(_flat("", outcome.state))
        assert set(first) == set(other), f"states of rank 0 and {rank}"
        for name, value in first.items():
            same = _same(value, other[name])
            shown = f"{value!s:.150} on rank 0, {other[name]!s:.150} on rank {rank}"
            assert same, f"state {name}: {shown}"


def assert_no_warnings(got: list[Outcome], want: Outcome) -> None:
    """Nothing is said that one process would not say."""
    for outcome in got:
        said = [w for w in outcome.warnings if not w.startswith(TORCH_SAYS)]
        assert not set(said) - set(want.warnings), said


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        if a.dtype.is_floating_point and a.dtype == b.dtype:
            return torch.allclose(a, b, rtol=1e-12, atol=1e-14, equal_nan=True)
        return torch.equal(a, b)
    if isinstance(a, float) and isinstance(b, float):
        return a == b or abs(a - b) <= 1e-12 * abs(a) or (a != a and b != b)
    return bool(a == b)


def _flat(name: str, value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, dict):
        return [row for k, v in value.items() for row in _flat(f"{name}/{k}", v)]
    if isinstance(value, list | tuple):
        return [row for k, v in enumerate(value) for row in _flat(f"{name}/{k}", v)]
    return [(name, value)]
