"""The peak of the memory that tensors take in an engine's first steps."""

from __future__ import annotations

import gc
from collections.abc import Callable

import torch
from torch.profiler import ProfilerActivity, profile

# The first step fills what an engine keeps; a later one works beside it.
STEPS = 3


def peak(build: Callable[[], Callable[[], None]], device: str) -> float:
    """MiB allocated at most, above what there was before.

    On the CPU it is read off the profiler's record of PyTorch's allocator, exact to the byte and the same in
    every process; the scratch space of BLAS and oneDNN is not in it. What is there before ``build``
    (parameters, batch) is not counted, what an engine keeps from one step to the next is.

    Args:
        build: makes the engine and returns its step.
        device: where it runs.
    """
    # Garbage of earlier engines would be freed in the middle of the record.
    gc.collect()
    if device != "cpu":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        _run(build)
        torch.cuda.synchronize()
        return float(torch.cuda.max_memory_allocated() - before) / 2**20
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        _run(build)
    held = most = 0
    for event in record.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
    return most / 2**20


def _run(build: Callable[[], Callable[[], None]]) -> None:
    step = build()
    for _ in range(STEPS):
        step()
