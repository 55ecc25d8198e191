"""What every method of the catalogue promises, whatever it computes.

A new method is picked up by its line in the catalogue. A method that needs more than losses, a
Gramian or a Jacobian (several batches a step, a bilevel problem) is left out here.
"""

from __future__ import annotations

import copy
import inspect
import io
import re
from functools import cache
from typing import Any, NamedTuple, get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import equipoise
from equipoise.methods.base import GramianMethod, Heads, LossMethod, Method
from equipoise.methods.catalogue import CATALOGUE, classes
from equipoise.methods.drawing import Random

BY_ID = dict(zip(CATALOGUE, classes(), strict=True))
KINDS = ("losses", "gramian", "jacobian")
TESTED = [name for name, cls in BY_ID.items() if cls.needs in KINDS]
SYMMETRIC = [i for i in TESTED if BY_ID[i].symmetric and not issubclass(BY_ID[i], Random)]
WEIGHTS = [i for i in TESTED if issubclass(BY_ID[i], LossMethod | GramianMethod)]

every_method = pytest.mark.parametrize("name", TESTED)
few = settings(max_examples=15, deadline=None, derandomize=True)
seeds = st.integers(0, 2**16)


def build(name: str, tasks: int, dtype: torch.dtype = torch.float64, **options: Any) -> Method:
    """The method with its defaults; the same draws for the same options."""
    if "seed" in inspect.signature(BY_ID[name]).parameters:
        options.setdefault("seed", 0)
    method = equipoise.method(name, **options)
    method.begin(tasks)
    return method.to(dtype)


class Step(NamedTuple):
    """What a training step shows a method."""

    J: Tensor
    losses: Tensor
    after: Tensor  # the losses of the same batch after the step, as a share of those before

    def of(self, tasks: Any) -> Step:
        """The step of some tasks, or of the tasks in another order."""
        return Step(self.J[..., tasks, :], self.losses[..., tasks], self.after[..., tasks])

    def member(self, index: tuple[int, ...]) -> Step:
        """One member of a batch."""
        return Step(self.J[index], self.losses[index], self.after[index])

    def scaled(self, gradients: Any, losses: Any) -> Step:
        """The step in other units."""
        return Step(gradients * self.J, losses * self.losses, self.after)


def history(
    seed: int, steps: int, tasks: int, size: int = 7, batch: tuple[int, ...] = ()
) -> list[Step]:
    """Jacobians ``[..., K, P]`` and positive losses ``[..., K]`` of a few steps."""
    generator = torch.Generator().manual_seed(seed)
    options: dict[str, Any] = {"generator": generator, "dtype": torch.float64}
    return [
        Step(
            torch.randn(*batch, tasks, size, **options),
            0.2 + 2 * torch.rand(*batch, tasks, **options),
            0.7 + 0.4 * torch.rand(*batch, tasks, **options),
        )
        for _ in range(steps)
    ]


@cache
def least_tasks(name: str) -> int:
    """The fewest tasks the method works on with its defaults."""
    return next(tasks for tasks in range(1, 6) if works_on(name, tasks))


def works_on(name: str, tasks: int) -> bool:
    """Whether the number of tasks is enough; if not, the method has to say so and name itself."""
    try:
        build(name, tasks).direction(*history(0, 1, tasks)[0][:2])
    except ValueError as error:
        assert name in str(error)
        assert "tasks" in str(error)
        return False
    return True


def take(method: Method, step: Step, number: int) -> Tensor:
    """One training step: the combined gradient, the second evaluation, an epoch after every two."""
    direction = method.direction(step.J, step.losses).detach()
    method.after_step(step.after * step.losses)
    if number % 2:
        method.end_epoch()
    return direction


def run(method: Method, steps: list[Step]) -> list[Tensor]:
    return [take(method, step, number) for number, step in enumerate(steps)]


def weights_of(method: Method, step: Step) -> Tensor:
    if isinstance(method, LossMethod):
        return method.weights(step.losses).detach()
    assert isinstance(method, GramianMethod)
    return method.weights(step.J @ step.J.mT, step.losses).detach()


def assert_close(got: Tensor, want: Tensor, tolerance: float) -> None:
    assert got.shape == want.shape
    assert (got - want).abs().max() <= tolerance * want.abs().max().clamp(min=1e-300)


def cosine(a: Tensor, b: Tensor) -> Tensor:
    return torch.nn.functional.cosine_similarity(a, b, dim=-1)


@pytest.mark.parametrize("name", SYMMETRIC)
@few
@given(seed=seeds, more=st.integers(0, 3))
def test_order_of_tasks_does_not_matter(name: str, seed: int, more: int) -> None:
    tasks = least_tasks(name) + 1 + more
    steps = history(seed, 5, tasks)
    order = torch.randperm(tasks, generator=torch.Generator().manual_seed(seed))
    plain = run(build(name, tasks), steps)
    permuted = run(build(name, tasks), [step.of(order) for step in steps])
    for want, got in zip(plain, permuted, strict=True):
        assert_close(got, want, 1e-6)


@pytest.mark.parametrize("name", [i for i in TESTED if BY_ID[i].card.degree is not None])
@few
@given(seed=seeds, scale=st.floats(0.2, 5))
def test_weights_have_the_stated_degree(name: str, seed: int, scale: float) -> None:
    steps = history(seed, 5, 3)
    method, rescaled = build(name, 3), build(name, 3)
    degree = method.card.degree
    assert degree is not None
    if method.needs == "losses":
        scaled = [step.scaled(1, scale) for step in steps]
        law = scale**degree
    else:
        # The Gramian times c is the Jacobian times sqrt(c).
        scaled = [step.scaled(scale**0.5, 1) for step in steps]
        law = scale ** (degree + 0.5)
    for number, (step, other) in enumerate(zip(steps, scaled, strict=True)):
        plain = take(method, step, number)
        assert_close(take(rescaled, other, number), law * plain, 1e-5)


@pytest.mark.parametrize("name", [i for i in TESTED if BY_ID[i].card.unit_free])
@few
@given(seed=seeds, units=st.lists(st.floats(0.2, 5), min_size=3, max_size=3))
def test_unit_free_methods_do_not_notice_a_change_of_units(
    name: str, seed: int, units: list[float]
) -> None:
    steps = history(seed, 5, 3)
    c = torch.tensor(units, dtype=torch.float64)
    plain = run(build(name, 3), steps)
    changed = run(build(name, 3), [step.scaled(c[:, None], c) for step in steps])
    for want, got in zip(plain, changed, strict=True):
        assert cosine(got, want) > 1 - 1e-8


@pytest.mark.parametrize("name", [i for i in TESTED if not BY_ID[i].card.unit_free])
def test_other_methods_do_notice_a_change_of_units(name: str) -> None:
    steps = history(3, 5, 3)
    c = torch.tensor([5.0, 1.0, 0.2], dtype=torch.float64)
    plain = run(build(name, 3), steps)
    changed = run(build(name, 3), [step.scaled(c[:, None], c) for step in steps])
    assert min(cosine(a, b) for a, b in zip(plain, changed, strict=True)) < 1 - 1e-6


@every_method
@pytest.mark.parametrize("more", [0, 1, 3])
def test_identical_tasks_keep_their_direction(name: str, more: int) -> None:
    """One task alone, and several that agree; the same at every step, for methods with momentum."""
    tasks = least_tasks(name) + more
    (step,) = history(2, 1, 1)
    least = 1 - 1e-9 if BY_ID[name].keeps_direction else 0.0
    for direction in run(build(name, tasks), [step.of([0] * tasks)] * 5):
        assert cosine(direction, step.J[0]) > least


@st.composite
def degenerate(draw: st.DrawFn) -> Step:
    """A Jacobian with a defect, and losses."""
    tasks, size = draw(st.integers(1, 5)), draw(st.integers(1, 6))
    ((J, losses, after),) = history(draw(seeds), 1, tasks, size)
    defect = draw(
        st.sampled_from(["zero", "all zero", "duplicate", "opposite", "rank 1", "scales", "tiny"])
    )
    if defect == "zero":
        J[0] = 0
    elif defect == "all zero":
        J[:] = 0
    elif defect == "duplicate":
        J[-1] = J[0]
    elif defect == "opposite":
        J[-1] = -J[0] if tasks > 1 else J[0]
    elif defect == "rank 1":
        J = torch.linspace(-1, 2, tasks, dtype=J.dtype).unsqueeze(1) * J[:1]
    elif defect == "scales":
        J = J * torch.logspace(-4, 4, tasks, dtype=J.dtype).unsqueeze(1)
    else:
        J = 1e-8 * J
    return Step(J, losses, after)


@every_method
@settings(max_examples=60, deadline=None, derandomize=True)
@given(step=degenerate())
def test_degenerate_gradients_have_a_finite_answer(name: str, step: Step) -> None:
    given_tasks = step.losses.shape[0]
    tasks = max(given_tasks, least_tasks(name))
    step = step.of([task % given_tasks for task in range(tasks)])
    method = build(name, tasks)
    for number in range(3):
        assert take(method, step, number).isfinite().all()


@every_method
def test_float32_agrees_with_float64(name: str) -> None:
    steps = history(5, 5, 3, size=12)
    wide = run(build(name, 3), steps)
    narrow = run(
        build(name, 3, torch.float32),
        [Step(*(tensor.float() for tensor in step)) for step in steps],
    )
    for want, got in zip(wide, narrow, strict=True):
        assert got.dtype == torch.float32
        assert_close(got.double(), want, 1e-3)


@every_method
@pytest.mark.parametrize("stop", [0, 1, 2, 5])
def test_resumed_state_continues_bit_for_bit(name: str, stop: int) -> None:
    steps = history(6, 9, 3)
    kept = build(name, 3)
    with torch.no_grad():
        for parameter in kept.parameters():
            parameter.add_(torch.linspace(-0.3, 0.4, parameter.numel()).view_as(parameter))
    for number, step in enumerate(steps[:stop]):
        take(kept, step, number)
    file = io.BytesIO()
    torch.save(kept.state_dict(), file)
    file.seek(0)

    fresh = equipoise.method(name)
    fresh.load_state_dict(torch.load(file, weights_only=True))
    for number, step in enumerate(steps[stop:], start=stop):
        assert torch.equal(take(fresh, step, number), take(kept, step, number))


@every_method
def test_a_copy_lives_its_own_life(name: str) -> None:
    steps = history(6, 6, 3)
    method = build(name, 3)
    run(method, steps[:3])
    twin = copy.deepcopy(method)
    assert all(
        torch.equal(a, b) for a, b in zip(run(method, steps[3:]), run(twin, steps[3:]), strict=True)
    )


@pytest.mark.parametrize("name", [i for i in TESTED if not issubclass(BY_ID[i], Random)])
@pytest.mark.parametrize("batch", [(3,), (2, 2)])
def test_a_batch_equals_its_members_one_by_one(name: str, batch: tuple[int, ...]) -> None:
    steps = history(7, 5, 3, batch=batch)
    together = run(build(name, 3), steps)
    for index in torch.cartesian_prod(*[torch.arange(n) for n in batch]).view(-1, len(batch)):
        member = tuple(index.tolist())
        alone = run(build(name, 3), [step.member(member) for step in steps])
        for want, got in zip(alone, together, strict=True):
            assert_close(got[member], want, 1e-9)


@every_method
def test_absent_tasks_keep_their_state(name: str) -> None:
    present = torch.tensor([0, *range(2, least_tasks(name) + 2)])
    tasks = len(present) + 2
    steps = history(8, 5, tasks)
    method = build(name, tasks)
    run(method, steps[:3])
    before = {key: value.clone() for key, value in method.named_buffers()}
    some = steps[3].of(present)
    with method.only(present, tasks):
        direction = method.direction(some.J, some.losses)
        method.after_step(some.after * some.losses)
    assert direction.isfinite().all()
    for key, dims in method.state.items():
        if key not in before or not dims:
            continue
        after = getattr(method, key)
        assert after.shape == before[key].shape
        touched = torch.ones_like(after, dtype=torch.bool)
        for dim in dims:
            here = torch.zeros(tasks, dtype=torch.bool)
            here[present] = True
            shape = [1] * after.ndim
            shape[dim] = tasks
            touched = touched & here.view(shape)
        torch.testing.assert_close(
            after[~touched], before[key][~touched], rtol=0, atol=0, equal_nan=True
        )
    assert take(method, steps[4], 4).isfinite().all()


@every_method
def test_a_task_may_come_late(name: str) -> None:
    present = torch.tensor([0, *range(2, least_tasks(name) + 2)])
    tasks = len(present) + 1
    method = build(name, tasks)
    steps = history(9, 6, tasks)
    for step in steps[:2]:
        some = step.of(present)
        with method.only(present, tasks):
            method.direction(some.J, some.losses)
            method.after_step(some.after * some.losses)
    method.end_epoch()
    for number, step in enumerate(steps[2:], start=2):
        assert take(method, step, number).isfinite().all()


@every_method
def test_inputs_stay_as_they_are(name: str) -> None:
    method = build(name, 3)
    for number, step in enumerate(history(10, 4, 3)):
        before = Step(*(tensor.clone() for tensor in step))
        take(method, step, number)
        assert all(torch.equal(a, b) for a, b in zip(step, before, strict=True))


@pytest.mark.parametrize("name", WEIGHTS)
@few
@given(seed=seeds, more=st.integers(0, 4))
def test_weights_have_the_stated_sum(name: str, seed: int, more: int) -> None:
    tasks = least_tasks(name) + more
    method = build(name, tasks)
    expected = {"K": float(tasks), "1": 1.0}.get(method.card.weight_sum)
    for number, step in enumerate(history(seed, 5, tasks)):
        weights = weights_of(method, step)
        assert weights.shape == (tasks,)
        if expected is not None:
            assert abs(weights.sum().item() - expected) < 1e-9 * tasks
        method.after_step(step.after * step.losses)
        if number % 2:
            method.end_epoch()


PARTICULAR: list[tuple[str, dict[str, Any]]] = [
    *[(i, {}) for i in TESTED if BY_ID[i].least_loss != "any"],
    ("mgda", {"normalization": "loss"}),
    ("mgda", {"normalization": "loss_plus"}),
    ("unit_norm", {"form": "ntk"}),
    ("softadapt", {"variant": "loss_weighted"}),
    ("uw_o", {"eps": 0.0}),
    ("uw_so", {"eps": 0.0}),
    ("igb", {"period": 2}),
    ("stch", {"period": 2, "warmup_epoch": 0}),
    ("cov", {"decay": 0.0}),
    ("gradnorm", {"form": "paper"}),
    ("relobralo", {"memory": 0.5}),
    ("cr_mogm", {"options": {"normalization": "loss"}}),
]
particular = pytest.mark.parametrize(("name", "options"), PARTICULAR)


@particular
@pytest.mark.parametrize("bad", [0.0, -0.5, float("nan")])
def test_methods_that_need_positive_losses_say_so(
    name: str, options: dict[str, Any], bad: float
) -> None:
    ((J, losses, _),) = history(11, 1, 3)
    losses[1] = bad
    method = build(name, 3, **options)
    assert method.least_loss in ("zero", "above_zero")
    if bad == 0.0 and method.least_loss == "zero":
        assert method.direction(J, losses).isfinite().all()
        return
    with pytest.raises(ValueError, match=r"takes no loss .* task 1 \(counted from 0\)"):
        method.direction(J, losses)


@particular
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_loss_that_reaches_zero_stops_nothing(
    name: str, options: dict[str, Any], dtype: torch.dtype
) -> None:
    """Zero at first, zero later, all of them zero; a hinge has no gradient there."""
    method = build(name, 3, dtype, **options)
    assert method.least_loss != "above_zero"
    for number, step in enumerate(history(14, 12, 3)):
        losses = step.losses.to(dtype)
        losses[0] *= number > 1
        losses[1] *= number % 5 < 3
        losses[2] *= number % 6 != 4
        J = step.J.to(dtype) * (losses > 0).unsqueeze(-1)
        assert method.direction(J, losses).isfinite().all()
        assert all(buffer.isfinite().all() for buffer in method.buffers())
        method.after_step(step.after.to(dtype) * losses)
        if number % 2 and "period" not in options:
            method.end_epoch()


@pytest.mark.parametrize("name", TESTED)
def test_learned_weights_carry_the_graph_of_their_parameters(name: str) -> None:
    method = build(name, 3)
    assert method.learns == bool(list(method.parameters()))
    if not isinstance(method, LossMethod):
        return
    ((_, losses, _),) = history(12, 1, 3)
    weights = method.weights(losses)
    assert weights.requires_grad == method.learns
    penalty = method.penalty()
    assert penalty is None or penalty.shape == (3,)


@pytest.mark.parametrize("name", [i for i in TESTED if issubclass(BY_ID[i], Random)])
def test_the_seed_governs_the_draws(name: str) -> None:
    steps = history(13, 300, 4)  # some methods draw a look back in every hundredth step
    again = [torch.stack(run(build(name, 4, seed=seed), steps)) for seed in (1, 1, 2)]
    assert torch.equal(again[0], again[1])
    assert not torch.equal(again[0], again[2])


@every_method
def test_the_card_is_complete(name: str) -> None:
    cls = BY_ID[name]
    card = cls.card
    assert card.id == name
    assert re.fullmatch(r"[a-z][a-z0-9_]*", card.id)
    assert cls.__module__ == f"equipoise.methods.{card.id}"
    assert card.heads in get_args(Heads)
    for text in (card.name, card.title, card.authors, card.venue, card.equation):
        assert text == text.strip() != ""
    assert 1950 <= card.year <= 2030
    if card.arxiv is not None:
        assert re.fullmatch(r"\d{4}\.\d{4,5}", card.arxiv)
        assert 2000 + int(card.arxiv[:2]) <= card.year
        assert card.arxiv in (cls.__doc__ or "")
    options = [p for p in inspect.signature(cls).parameters if p != "seed"]
    if options:
        assert card.defaults, "a method with options says where its defaults come from"
    doc = inspect.getdoc(cls) or ""
    assert ".. math::" in doc
    assert "References:" in doc
    for option in inspect.signature(cls).parameters:
        assert re.search(rf"^\s+{option}: ", doc, re.MULTILINE), f"'{option}' is not documented"


def test_the_catalogue_is_in_order_and_without_doubles() -> None:
    assert len(set(CATALOGUE.values())) == len(CATALOGUE)
    known = [KINDS.index(cls.needs) for cls in classes() if cls.needs in KINDS]
    assert known == sorted(known)


def test_a_wrong_option_is_answered_with_the_right_one() -> None:
    with pytest.raises(ValueError, match="temperature"):
        equipoise.method("uw_so", temper=1.0)
    with pytest.raises(ValueError, match="uw_so"):
        equipoise.method("uwso")
