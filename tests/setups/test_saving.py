"""Everything that is saved, and models that hold a balancer."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from one_by_one import TASKS, Model, balancer_of, clear, flat, outcome, run, step_of
from torch import Tensor, nn

from equipoise import Balancer
from equipoise.methods.base import Card, LossMethod

STATEFUL = ("uw", "dwa", "famo", "rlw", "nash_mtl", "gradvac", "db_mtl", "moco", "graddrop", "rgw")
LEARNED = ("uw", "imtl_l")
INSIDE = [*STATEFUL, "ew", "mgda", "imtl_l", "cov", "gradnorm"]


@pytest.mark.parametrize("steps", [0, 3], ids=["new", "used"])
@pytest.mark.parametrize("method", INSIDE)
def test_a_state_dict_is_tensors_that_share_no_memory(method: str, steps: int) -> None:
    """Formats that hold nothing but tensors take a model with a balancer inside."""
    options: dict[str, Any] = {"self_optimized": 0.01} if method in LEARNED else {}
    model = Model()
    model.balancer = balancer_of(method, **options)
    outcome(model.balancer, model, "parameters", steps) if steps else None
    state = model.state_dict()
    assert all(isinstance(value, Tensor) for value in state.values()), [
        name for name, value in state.items() if not isinstance(value, Tensor)
    ]
    places = [v.untyped_storage().data_ptr() for v in state.values() if v.numel()]
    assert len(set(places)) == len(places)
    assert all(v.is_contiguous() and not v.requires_grad for v in state.values())


@pytest.mark.parametrize("method", INSIDE)
def test_resuming_with_the_balancer_inside_is_bit_identical(method: str, tmp_path: Path) -> None:
    model = Model()
    model.balancer = balancer_of(method)
    outcome(model.balancer, model, "parameters")
    torch.save(model.state_dict(), tmp_path / "model.pt")
    again = Model(seed=5)
    again.x, again.y = model.x, model.y
    torch.manual_seed(99)
    again.balancer = Balancer(method, TASKS)
    again.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True))
    want = outcome(model.balancer, model, "parameters")
    assert torch.equal(outcome(again.balancer, again, "parameters"), want)


@pytest.mark.parametrize("method", INSIDE)
def test_safetensors_hold_a_model_with_a_balancer_inside(method: str, tmp_path: Path) -> None:
    safe = pytest.importorskip("safetensors.torch")
    model = Model()
    model.balancer = balancer_of(method)
    outcome(model.balancer, model, "parameters")
    safe.save_model(model, str(tmp_path / "model.safetensors"))
    again = Model(seed=5)
    again.x, again.y = model.x, model.y
    again.balancer = Balancer(method, TASKS)
    safe.load_model(again, str(tmp_path / "model.safetensors"))
    want = outcome(model.balancer, model, "parameters")
    assert torch.equal(outcome(again.balancer, again, "parameters"), want)


def test_accelerate_saves_and_loads_it(tmp_path: Path) -> None:
    accelerate = pytest.importorskip("accelerate")
    accelerator = accelerate.Accelerator(cpu=True)
    model = Model()
    model.balancer = balancer_of("dwa")
    model = accelerator.prepare(model)
    outcome(model.balancer, model, "losses")
    accelerator.save_state(str(tmp_path))
    x = model.x
    want = outcome(model.balancer, model, "losses", 1)
    accelerator.load_state(str(tmp_path))
    model.x = x
    assert torch.equal(outcome(model.balancer, model, "losses", 1), want)


@pytest.mark.parametrize("how", ["two groups", "one group", "added later"])
@pytest.mark.parametrize("method", LEARNED)
def test_learned_weights_given_twice_to_the_optimiser_are_told_of(method: str, how: str) -> None:
    """Inside the model they are among its parameters, and in ``param_groups`` once more."""
    model = Model()
    model.balancer = balancer_of(method)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises((ValueError, UserWarning), match=r"param_groups|parameter group"):
            mine, (given,) = list(model.parameters()), model.balancer.param_groups(lr=0.1)
            if how == "two groups":
                optimizer = torch.optim.SGD([{"params": mine}, given], lr=0.1)
            elif how == "one group":
                optimizer = torch.optim.SGD([*mine, *given["params"]], lr=0.1)
            else:
                optimizer = torch.optim.SGD(mine, lr=0.1)
                optimizer.add_param_group(given)
            run(model.balancer, model.plain())
            optimizer.step()


@pytest.mark.parametrize("method", LEARNED)
def test_weights_that_the_balancer_steps_are_left_alone_by_the_optimiser(method: str) -> None:
    inside, beside = Model(), Model()
    inside.balancer = balancer_of(method, self_optimized=0.05)
    other = balancer_of(method, self_optimized=0.05)
    one = torch.optim.AdamW(inside.parameters(), lr=0.01, weight_decay=0.5)
    two = torch.optim.AdamW(beside.parameters(), lr=0.01, weight_decay=0.5)
    for _ in range(4):
        for optimizer, network, balancer in ((one, inside, inside.balancer), (two, beside, other)):
            optimizer.zero_grad()
            run(balancer, network.plain())
            optimizer.step()
    assert inside.balancer.weights == other.weights
    assert len(set(other.weights.values())) > 1


@pytest.mark.parametrize("method", LEARNED)
def test_a_model_with_a_balancer_inside_learns_its_weights_once(method: str) -> None:
    model, beside = Model(), Model()
    model.balancer = balancer_of(method)
    other = balancer_of(method)
    one = torch.optim.SGD(model.parameters(), lr=0.01)
    two = torch.optim.SGD([*beside.parameters(), *other.param_groups()[0]["params"]], lr=0.01)
    for _ in range(3):
        for optimizer, network, balancer in ((one, model, model.balancer), (two, beside, other)):
            optimizer.zero_grad()
            run(balancer, network.plain())
            optimizer.step()
    assert model.balancer.weights == other.weights
    assert len(set(other.weights.values())) > 1


def test_a_module_list_of_balancers_is_moved_and_saved_as_one() -> None:
    both = nn.ModuleList([balancer_of("dwa"), balancer_of("nash_mtl")])
    model = Model()
    for _ in range(2):
        for balancer in both:
            step_of(balancer, model, "parameters")
    again = nn.ModuleList([Balancer("dwa", TASKS), Balancer("nash_mtl", TASKS)])
    again.load_state_dict(both.double().state_dict())
    for old, new in zip(both, again, strict=True):
        clear(model.parameters())
        step_of(old, model, "parameters")
        first = flat([p.grad for p in model.parameters()]).clone()
        clear(model.parameters())
        step_of(new, model, "parameters")
        assert torch.equal(first, flat([p.grad for p in model.parameters()]))


class _Undeclared(LossMethod):
    """A method of one's own that forgets to declare its state."""

    card = Card(
        id="undeclared",
        name="Undeclared",
        equation="w",
        heads="weighted",
        weight_sum="1",
        degree=0.0,
        unit_free=False,
    )

    def weights(self, losses: Tensor) -> Tensor:
        return self.recall("before", losses)


def test_state_that_is_not_declared_is_told_of() -> None:
    with pytest.raises(ValueError, match=r"undeclared recalls 'before'.*add it to `state`"):
        Balancer(_Undeclared())(Model().plain())
