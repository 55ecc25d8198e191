"""What can be put around a method, with two ranks."""

from __future__ import annotations

from typing import Any

import pytest
from rank_cases import SAMPLE, Case, needs, sample
from rank_compare import assert_agreed_in_silence, assert_equal_to_one_process
from rank_pool import Pool

WEIGHING = tuple(m for m in SAMPLE if needs(m) != "jacobian")
READING = ("mgda", "pcgrad", "cagrad", "nash_mtl", "graddrop")


def around(**options: Any) -> list[Any]:
    """Around all methods, or those that the option is for."""
    if "transform" in options:
        # FAMO takes the logarithms' distance to what they cannot fall below; UW takes no negative ones.
        plain = ["dwa", *(m for m in SAMPLE if m not in ("famo", "uw"))]
        return [
            *sample(plain, options=options, calls=("scalar",), steps=3),
            *sample(["famo"], options={**options, "min_losses": -6.0}, calls=("scalar",), steps=3),
        ]
    few = set(options) & {"weight_ema", "weight_floor", "update_every", "heads"}
    return sample(WEIGHING if few else SAMPLE, options=options, calls=("scalar",), steps=3)


CASES = {
    "log": around(transform="log"),
    "weight_ema": around(weight_ema=0.6),
    "bounds": around(weight_floor=0.2, weight_cap=0.8),
    "update_every": around(update_every=2),
    "weight_sum": around(weight_sum="tasks"),
    "prior": around(prior={"left": 2.0, "rebuild": 0.5}),
    "seed": around(seed=3),
    "weighted_heads": around(heads="weighted"),
}


@pytest.mark.parametrize(
    "case",
    [pytest.param(*p.values, id=f"{name}-{p.id}") for name, ps in CASES.items() for p in ps],
)
def test_wrappers_see_the_whole_batch(pair: Pool, case: Case) -> None:
    assert_equal_to_one_process(pair, case)
    assert_agreed_in_silence(pair, case)


@pytest.mark.parametrize("method", [m for m in WEIGHING if needs(m) == "losses"])
@pytest.mark.parametrize("route", ["parameters", "features"])
def test_plain_heads_of_loss_methods(pair: Pool, method: str, route: str) -> None:
    case = Case(method, route, options={"heads": "unweighted"})  # type: ignore[arg-type]
    assert_equal_to_one_process(pair, case)


@pytest.mark.parametrize("method", [m for m in SAMPLE if needs(m) == "gramian"])
@pytest.mark.parametrize("route", ["parameters", "features"])
def test_plain_heads_of_gradient_methods(pair: Pool, method: str, route: str) -> None:
    case = Case(method, route, options={"heads": "unweighted"})  # type: ignore[arg-type]
    assert_equal_to_one_process(pair, case)


@pytest.mark.parametrize("call", ["scalar", "backward"])
@pytest.mark.parametrize("method", READING)
def test_averaged_gradients(pair: Pool, method: str, call: str) -> None:
    case = Case(method, "parameters", call, options={"gradient_ema": 0.5})  # type: ignore[arg-type]
    assert_equal_to_one_process(pair, case)
    assert_agreed_in_silence(pair, case)


@pytest.mark.parametrize("call", ["scalar", "backward"])
@pytest.mark.parametrize("method", ["mgda", "pcgrad", "cagrad", "aligned_mtl", "metabalance"])
def test_weights_of_every_tensor(pair: Pool, method: str, call: str) -> None:
    case = Case(method, "parameters", call, options={"blocks": "parameter"})  # type: ignore[arg-type]
    assert_equal_to_one_process(pair, case)
    assert_agreed_in_silence(pair, case)


@pytest.mark.parametrize("local", [0.0, 0.3])
@pytest.mark.parametrize("method", SAMPLE)
def test_sharpness_aware_gradients(pair: Pool, method: str, local: float) -> None:
    route = "losses" if needs(method) == "losses" else "parameters"
    case = Case(method, route, "sharpness_aware", local=local, steps=3)  # type: ignore[arg-type]
    assert_equal_to_one_process(pair, case)


@pytest.mark.parametrize("method", ["mgda", "graddrop"])
def test_perturbations_of_ranks_with_different_seeds(pair: Pool, method: str) -> None:
    case = Case(method, "parameters", "sharpness_aware", local=0.3, same_seeds=False, steps=3)
    assert_agreed_in_silence(pair, case)


@pytest.mark.parametrize("case", sample(("uw", "imtl_l", "ldc_mtl"), layout="outputs"))
def test_learned_weights_of_losses_computed_outside(pair: Pool, case: Case) -> None:
    assert_equal_to_one_process(pair, case)
    assert_agreed_in_silence(pair, case)


@pytest.mark.parametrize("local", [0.0, 0.3])
def test_sharpness_aware_with_a_task_that_a_rank_lacks_is_refused(pair: Pool, local: float) -> None:
    """Its passes are made together, task by task: the other ranks would wait for one that lacks it."""
    case = Case(
        "mgda",
        "parameters",
        "sharpness_aware",
        local=local,
        steps=2,
        unlabelled=((1, "right", 6, 12),),
        ddp={"find_unused_parameters": True},
    )
    for outcome in pair.run(case):
        ((step, told),) = outcome.errors
        assert step == 1
        assert "a process lacks a task" in told
