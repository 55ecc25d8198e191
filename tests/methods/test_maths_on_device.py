"""The maths of loss methods never waits for a device: no host read, and one graph under compile."""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

import equipoise
from equipoise.methods.base import LossMethod
from equipoise.methods.catalogue import CATALOGUE, find
from equipoise.methods.drawing import Random

LOSS_METHODS = [name for name in CATALOGUE if issubclass(find(name), LossMethod)]
CASES: list[tuple[str, dict[str, Any]]] = [
    *[(name, {}) for name in LOSS_METHODS],
    ("dwa", {"period": 2}),
    ("dwa", {"window": 1}),
    ("stch", {"period": 2, "warmup_epoch": 0}),
    ("stch", {"form": "generic", "preference": [0.2, 0.3, 0.5]}),
    ("igb", {"period": 2, "base_epoch": 0}),
    ("softadapt", {"variant": "loss_weighted"}),
    ("uw", {"kind": ["regression", "classification", "regression"]}),
]
READS = {
    torch.ops.aten._local_scalar_dense.default,
    torch.ops.aten.is_nonzero.default,
    torch.ops.aten.nonzero.default,
    torch.ops.aten.equal.default,
}
every_case = pytest.mark.parametrize(("name", "options"), CASES)


class HostReads(TorchDispatchMode):
    """Notes every operation that hands a number of a tensor to Python."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in READS:
            self.seen.append(str(func))
        return func(*args, **(kwargs or {}))


class ListReads(TorchFunctionMode):
    """Notes ``tolist()``, which on the CPU copies memory without an operation of its own."""

    def __init__(self, seen: list[str]) -> None:
        super().__init__()
        self.seen = seen

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in (Tensor.tolist, Tensor.numpy):
            self.seen.append(str(func))
        return func(*args, **(kwargs or {}))


def build(name: str, options: dict[str, Any]) -> LossMethod:
    method = cast(LossMethod, equipoise.method(name, **options))
    method.begin(3)
    return method


def rows(steps: int) -> Tensor:
    return 0.1 + torch.rand(steps, 3, generator=torch.Generator().manual_seed(0))


def test_the_counter_of_host_reads_sees_them() -> None:
    with HostReads() as reads, ListReads(reads.seen):
        assert torch.ones(()) > 0
        torch.ones(1).tolist()
        torch.ones(2).nonzero()
    assert len(reads.seen) == 3


@every_case
def test_weights_read_nothing_on_the_host(name: str, options: dict[str, Any]) -> None:
    method = build(name, options)
    with HostReads() as reads, ListReads(reads.seen):
        for losses in rows(4):
            method.weights(losses)
    assert reads.seen == []


@every_case
def test_weights_are_one_graph_under_compile(name: str, options: dict[str, Any]) -> None:
    if issubclass(find(name), Random):
        pytest.skip("draws from a torch.Generator, which dynamo cannot trace")
    method, eager = build(name, options), build(name, options)
    torch._dynamo.reset()
    compiled = torch.compile(lambda losses: method.weights(losses), fullgraph=True, backend="eager")
    for losses in rows(3):
        torch.testing.assert_close(compiled(losses), eager.weights(losses))
