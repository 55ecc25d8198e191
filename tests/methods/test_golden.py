"""Every method against the reference numbers of a folder: ``pytest ... --golden DIR``."""

from __future__ import annotations

import json
from collections import Counter
from importlib import import_module, util
from pathlib import Path
from typing import Any

import pytest
import torch
from golden_adapter import GENERIC, Adapter, Case, Comparison, Inputs, Skip
from torch import Tensor

from equipoise.methods.catalogue import CATALOGUE


def adapters() -> dict[str, Adapter]:
    found: dict[str, Adapter] = {}
    for module in ("golden_losses", "golden_gradients"):
        if util.find_spec(module):
            found.update(import_module(module).ADAPTERS)
    return found


ADAPTERS = adapters()


def close(got: Tensor, want: Any, allowed: dict[str, float], jacobian: Tensor | None) -> str:
    """Empty where ``got`` is within the file's tolerance, else what is wrong."""
    expected = torch.tensor(want, dtype=torch.float64)
    if got.shape != expected.shape:
        return f"shape {tuple(got.shape)}, expected {tuple(expected.shape)}"
    if expected.numel() == 0:
        return ""
    error = (got.double() - expected).abs().max()
    atol = allowed.get("atol", 0.0)
    if "atol_rel_J" in allowed:
        assert jacobian is not None, "a gradient case needs Comparison.jacobian"
        atol += allowed["atol_rel_J"] * jacobian.abs().max().item()
    limit = atol + allowed["rtol"] * expected.abs().max()
    return "" if error <= limit else f"off by {error:.2e}, allowed {limit:.2e}"


def judge(case: Case, comparison: Comparison) -> str:
    """Empty where the comparison holds, else what is wrong."""
    if not bool(comparison.got.isfinite().all()):
        return "not finite"
    if comparison.want is None:
        return ""
    if case["difficulty"] == "degenerate" and comparison.leaf != "grad":
        return ""
    if comparison.leaf == "weights" and case.get("weights_unique") is False:
        return ""
    wrong = ""
    for want in (comparison.want, *comparison.alternatives):
        wrong = wrong or close(comparison.got, want, case["tol"], comparison.jacobian)
        if not close(comparison.got, want, case["tol"], comparison.jacobian):
            return ""
    return wrong


# What a method may raise; named, so that a keyboard interrupt or a broken harness still stops the
# run.
ERRORS = (ArithmeticError, AssertionError, LookupError, RuntimeError, TypeError, ValueError)


def run(case: Case, inputs: Inputs, adapter: Adapter) -> str:
    """Empty where the case passes, else what is wrong."""
    seen = numbers = 0
    try:
        for comparison in adapter(case, inputs):
            seen += 1
            numbers += comparison.want is not None
            if wrong := judge(case, comparison):
                return f"{comparison.name}: {wrong}"
    except ERRORS as error:
        return f"{type(error).__name__}: {error}"
    if not seen or (not numbers and has_numbers(case)):
        return "the adapter compared nothing"
    return ""


def outcome(case: Case, inputs: Inputs, adapter: Adapter) -> tuple[str, str]:
    """What is wrong with a case, and why it was skipped; both empty where it passes."""
    try:
        return run(case, inputs, adapter), ""
    except Skip as reason:
        return "", str(reason)


def has_numbers(case: Case) -> bool:
    """Whether the file expects a gradient or weights somewhere in the case."""
    wanted = [case["expected"]] if "expected" in case else [s["expected"] for s in case["steps"]]
    return any(want.get(key) is not None for want in wanted for key in ("grad", "weights"))


def test_method_matches_reference_numbers(
    golden_file: Path, record_property: pytest.RecordProperty
) -> None:
    data = json.loads(golden_file.read_text(encoding="utf-8"))
    assert data["format"] == "golden-1", f"{golden_file}: format {data['format']}"
    name = data["method"]
    if name not in CATALOGUE and name not in ADAPTERS:
        record_property("golden", (name, 0, 0, len(data["cases"]), ["not in the catalogue"]))
        pytest.skip(f"{name}: not in the catalogue")
    adapter = ADAPTERS.get(name, GENERIC)
    failures: dict[str, str] = {}
    skips: dict[str, str] = {}
    for case in data["cases"]:
        wrong, why_skipped = outcome({**case, "method": name}, data["inputs"], adapter)
        if why_skipped:
            skips[case["id"]] = why_skipped
        elif wrong:
            failures[case["id"]] = wrong
    reasons = [f"{why}: {count}" for why, count in Counter(skips.values()).items()]
    passed = len(data["cases"]) - len(failures) - len(skips)
    record_property("golden", (name, passed, len(failures), len(skips), reasons))
    assert not failures, f"{len(failures)} of {len(data['cases'])} cases failed\n" + "\n".join(
        f"  {case}: {wrong}" for case, wrong in list(failures.items())[:20]
    )
    assert passed, f"every case of {name} was skipped: {'; '.join(reasons)}"
