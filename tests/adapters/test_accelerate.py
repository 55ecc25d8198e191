"""Accelerate trains as the plain loop does, and resumes bit for bit."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from two_tasks import TASKS, Net, batches, losses_of, net, plain_loop, same

from equipoise import Balancer
from equipoise.adapters.accelerate import prepare

accelerate = pytest.importorskip("accelerate")
METHODS = ["uw_so", "dwa", "famo", "cagrad", "uw"]


@pytest.fixture(autouse=True)
def alone() -> Iterator[None]:
    """Accelerate keeps its settings in the process."""
    yield
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)
    accelerate.state.GradientState._reset_state()


class Loop:
    def __init__(self, method: str, **options: Any) -> None:
        self.accelerator = accelerate.Accelerator(cpu=True, **options)
        self.model, self.balancer = net(), Balancer(method, TASKS)
        optimizer = torch.optim.Adam(self.model.parameters(), lr=0.05)
        self.model, self.optimizer = prepare(
            self.accelerator, self.balancer, self.model, optimizer, lr=0.05
        )

    def epochs(self, count: int) -> None:
        for _ in range(count):
            for batch in batches():
                self.step(batch)
            self.balancer.end_epoch()

    def step(self, batch: Any) -> None:
        with self.accelerator.accumulate(self.model):
            losses = losses_of(self.model(batch["x"]), batch)
            self.accelerator.backward(self.balancer(losses))
            self.optimizer.step()
            self.optimizer.zero_grad()
            if self.accelerator.sync_gradients:
                self.balancer.after_step(lambda: losses_of(self.model(batch["x"]), batch))


def plainly(method: str, accumulate: int = 1) -> tuple[Net, Balancer]:
    model, balancer = net(), Balancer(method, TASKS)
    groups = [{"params": list(model.parameters())}, *balancer.param_groups(lr=0.05)]
    plain_loop(model, balancer, torch.optim.Adam(groups, lr=0.05), [batches()] * 2, accumulate)
    return model, balancer


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("method", METHODS)
def test_training_equals_the_plain_loop(method: str, accumulate: int) -> None:
    loop = Loop(method, gradient_accumulation_steps=accumulate)
    loop.epochs(2)
    model, balancer = plainly(method, accumulate)
    assert same(loop.model, model)
    assert same(loop.balancer, balancer)


@pytest.mark.filterwarnings("ignore")
def test_bfloat16_goes_on() -> None:
    loop = Loop("cagrad", mixed_precision="bf16")
    loop.epochs(2)
    assert not same(loop.model, plainly("cagrad")[0])
    assert all(p.isfinite().all() for p in loop.model.parameters())


@pytest.mark.parametrize("method", METHODS)
def test_resuming_is_bit_identical(method: str, tmp_path: Path) -> None:
    loop = Loop(method)
    loop.epochs(1)
    loop.accelerator.save_state(str(tmp_path))
    loop.epochs(1)
    torch.manual_seed(99)
    again = Loop(method)
    again.accelerator.load_state(str(tmp_path))
    again.epochs(1)
    assert same(again.model, loop.model)
    assert same(again.balancer, loop.balancer)


def test_a_balancer_inside_the_model_is_saved_with_it_and_once(tmp_path: Path) -> None:
    accelerator = accelerate.Accelerator(cpu=True)
    model = net()
    model.balancer = Balancer("uw", TASKS)
    optimizer = torch.optim.Adam(model.parameters())
    prepare(accelerator, model.balancer, model, optimizer)
    assert len(optimizer.param_groups) == 1
    accelerator.save_state(str(tmp_path))
    assert not list(tmp_path.glob("custom_checkpoint*"))


def test_learned_weights_without_a_single_optimiser_are_told() -> None:
    accelerator = accelerate.Accelerator(cpu=True)
    with pytest.raises(ValueError, match="got 0 optimisers and 0 schedules"):
        prepare(accelerator, Balancer("uw", TASKS), net())
    model = net()
    optimizer = torch.optim.Adam(model.parameters())
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    with pytest.raises(ValueError, match="got 1 optimisers and 1 schedules"):
        prepare(accelerator, Balancer("uw", TASKS), model, optimizer, schedule)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        prepare(accelerator, Balancer("uw", TASKS, self_optimized=True), model, optimizer, schedule)
