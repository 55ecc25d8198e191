"""The examples run, and show what they say they show."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest
import torch

from equipoise.study import arms
from equipoise.study import load as load_study

FOLDER = Path(__file__).parent.parent / "examples"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", FOLDER / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def plain_loop(method: str, steps: int, capsys: pytest.CaptureFixture[str]) -> dict[str, float]:
    load("plain_loop").main(["--method", method, "--steps", str(steps)])
    told = capsys.readouterr().out
    assert f"({method})" in told
    return {task: float(v) for task, v in re.findall(r"validation loss, (\w+): (\S+)", told)}


@pytest.mark.parametrize("method", ["uw", "pcgrad", "graddrop"])
def test_the_plain_loop_trains_with_any_kind_of_method(
    method: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert plain_loop(method, 101, capsys)["size"] < 500  # about 3600 before the first step


def test_in_the_plain_loop_the_largest_loss_drowns_the_others_under_equal_weights(
    capsys: pytest.CaptureFixture[str],
) -> None:
    equal, balanced = plain_loop("ew", 200, capsys), plain_loop("uw_o", 200, capsys)
    assert balanced["class"] < 0.75 * equal["class"]
    assert balanced["copy"] < 0.5 * equal["copy"]


def test_the_features_route_passes_the_trunk_once_and_the_other_once_a_task(
    capsys: pytest.CaptureFixture[str],
) -> None:
    load("features_route").main(["--steps", "5"])
    told = capsys.readouterr().out
    assert "parameters route: 3 backward" in told
    assert "features route: 1 backward" in told


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_mixed_precision_with_accumulation_lowers_the_losses(
    dtype: str, capsys: pytest.CaptureFixture[str]
) -> None:
    load("amp_accumulation").main(["--dtype", dtype, "--steps", "41"])
    losses = re.findall(r"losses: class (\S+), copy (\S+) ", capsys.readouterr().out)
    (first_class, first_copy), (last_class, last_copy) = losses[0], losses[-1]
    assert float(last_class) < float(first_class) and float(last_copy) < float(first_copy)


def test_the_toy_losses_are_those_of_the_paper() -> None:
    """By hand: at (7, -8) the first loss is 0.1 * tanh(4) * -20; at (-8.5, 7.5) both are logarithms."""
    toy = load("two_dimensional_toy")
    got = toy.losses(torch.tensor([[7.0, -8.0], [-8.5, 7.5]], dtype=torch.float64))
    assert got[0].tolist() == pytest.approx([-1.998658599, -0.399731720], rel=1e-8)
    assert got[1].tolist() == pytest.approx([0.655236341, 7.900798143], rel=1e-8)


def test_the_toy_front_runs_between_the_two_minima() -> None:
    toy = load("two_dimensional_toy")
    front = toy.pareto_front(21)
    assert front[:, 1].tolist() == pytest.approx([-8.36] * 21, abs=0.1)
    ends = sorted(front[[0, -1], 0].tolist())
    assert ends == pytest.approx([-7.0, 7.0], abs=1e-3)


def test_the_toy_runs_and_draws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "toy.svg"
    toy = load("two_dimensional_toy")
    toy.main(["--steps", "40", "--methods", "ew,cagrad,famo", "--out", str(out)])
    told = capsys.readouterr().out
    assert {line.split()[0] for line in told.splitlines()[1:4]} == {"ew", "cagrad", "famo"}
    drawn = out.read_text(encoding="utf-8")
    assert drawn.count("on the front<") == 3 and "CAGrad" in drawn


def test_a_fixed_sum_brings_the_physics_informed_network_closer_than_the_plain_one() -> None:
    sizes = {"seed": 1, "adam": 60, "lbfgs": 100, "points": 32, "width": 12}
    physics = load("physics_informed")
    before, plain, _ = physics.solve("plain sum", **sizes)
    _, weighted, weights = physics.solve("fixed sum", **sizes)
    assert plain < 0.9 * before  # what L-BFGS adds
    assert weighted < 0.85 * plain
    assert weights == {"residual": 1.0, "start": 100.0, "speed": 1.0, "ends": 100.0}


def test_the_physics_informed_losses_are_zero_at_the_solution() -> None:
    physics = load("physics_informed")
    x, t = torch.rand(2, 32, 1, dtype=torch.float64)
    losses = physics.losses_of(lambda points: physics.exact(*points.split(1, 1)), x, t)
    assert [loss.item() for loss in losses.values()] == pytest.approx([0.0] * 4, abs=1e-20)


def test_the_physics_informed_script_tells_the_weights(capsys: pytest.CaptureFixture[str]) -> None:
    sizes = ["--seeds", "1", "--adam", "20", "--lbfgs", "5", "--points", "16", "--width", "8"]
    load("physics_informed").main(["--arms", "plain sum,unit_norm", *sizes])
    told = capsys.readouterr().out
    assert "weights: residual 1, start 1, speed 1, ends 1" in told
    assert told.count("error") == 1 and told.count("weights") == 2


def test_the_recommender_learns_less_where_a_missing_conversion_counts_as_none() -> None:
    sizes = {"seed": 0, "rows": 2000, "epochs": 3, "batch": 64, "width": 16}
    recommender = load("recommender")
    right = recommender.train("ew", **sizes)
    wrong = recommender.train("ew", **sizes, missing="0")
    assert min(right.values()) > 0.65
    assert wrong["bought at all"] < right["bought at all"] - 0.05


def test_a_batch_without_clicks_has_no_conversion_loss() -> None:
    recommender = load("recommender")
    rows = recommender.made_up(16, seed=3)._replace(click=torch.zeros(16))
    losses = recommender.losses_of(recommender.network(8), rows, "absent")
    assert losses["conversion"] is None and losses["click"] > 0


def test_the_auc_counts_pairs_in_order() -> None:
    scores, labels = torch.tensor([0.1, 0.4, 0.35, 0.8]), torch.tensor([0.0, 0.0, 1.0, 1.0])
    assert load("recommender").auc(scores, labels) == pytest.approx(0.75)


def test_lora_trains_adapters_and_heads_only() -> None:
    pytest.importorskip("transformers")
    lora = load("lora")
    base = lora.pretrained(10, 16)
    start, first = lora.tune("imtl_g", base, seed=0, steps=0, rank=2)
    model, last = lora.tune("imtl_g", base, seed=0, steps=50, rank=2)
    assert last["text"] > max(first["text"], 0.4)  # a third by chance
    moved = {
        name
        for (name, old), new in zip(start.named_parameters(), model.parameters(), strict=True)
        if not torch.equal(old, new)
    }
    assert moved and all(re.search(r"heads|\.up$|\.down$", name) for name in moved)
    assert any(name.endswith(".up") for name in moved)


def test_the_actor_critic_keeps_poles_up_longer_than_at_first() -> None:
    sizes = {"seed": 0, "poles": 8, "steps": 8}
    actor_critic = load("actor_critic")
    at_first = actor_critic.train("unit_norm", updates=5, **sizes)
    assert actor_critic.train("unit_norm", updates=150, **sizes) > 1.5 * at_first


def test_the_actor_critic_tells_which_methods_refuse_negative_losses(
    capsys: pytest.CaptureFixture[str],
) -> None:
    sizes = ["--seeds", "1", "--updates", "2", "--poles", "2", "--steps", "4"]
    load("actor_critic").main(["--arms", "plain sum,mgda", *sizes])
    first, second, *_ = capsys.readouterr().out.splitlines()
    assert {"uw_o", "gls", "imtl"} <= set(re.findall(r"\w+", first.partition(":")[2]))
    assert "mgda" not in first
    assert re.search(r"loss 'entropy' is -0\.\d+, but 'uw_o' needs losses", second)


def test_rewards_of_other_units_are_lost_in_a_sum_and_kept_by_normalising() -> None:
    rewards = load("rewards")
    lowest = {
        how: rewards.train(how, seed=1, steps=100, batch=64).min().item()
        for how in ("sum", "normalise, then sum", "mgda")
    }
    assert lowest["normalise, then sum"] > lowest["sum"] + 0.1
    assert lowest["mgda"] > lowest["sum"] + 0.1


def test_weighting_the_samples_is_the_direction_of_the_method() -> None:
    rewards = load("rewards")
    method, world = rewards.equipoise.method("upgrad"), rewards.World(0)
    x, policy = world.contexts(64), torch.zeros(rewards.CONTEXT, rewards.ACTIONS)
    actions = torch.randint(rewards.ACTIONS, (64,))
    paid = world.paid(x, actions)
    advantage = rewards.advantages("upgrad", method, x, policy, actions, paid)
    by_sample = rewards.reward_gradients(x, policy, actions, advantage.unsqueeze(1))[0]
    rows = -rewards.reward_gradients(x, policy, actions, rewards.normalised(paid))
    assert torch.allclose(by_sample, -method.direction(rows, -paid.mean(0)), atol=1e-6)


def test_federated_methods_differ_in_whom_they_serve_and_whom_they_believe() -> None:
    federated = load("federated")
    sizes = {"seed": 1, "rounds": 15, "clients": 8, "steps": 5}
    krum = {"n_byzantine": 1, "n_selected": 5}

    def worst(name: str, broken: bool, **options: int) -> float:
        return max(federated.train(name, options, broken=broken, **sizes))

    assert worst("mgda", False) < 0.75 * worst("mean", False)
    assert worst("krum", True, **krum) < 0.5 * worst("mean", True)


def test_the_scripts_of_rewards_and_clients_compare_with_the_plain_way(
    capsys: pytest.CaptureFixture[str],
) -> None:
    load("rewards").main(["--methods", "mgda", "--seeds", "1", "--steps", "3", "--batch", "16"])
    assert re.search(r"mgda .*lowest above the sum's in [01] of 1", capsys.readouterr().out)
    load("federated").main(["--seeds", "1", "--rounds", "2", "--clients", "5", "--steps", "1"])
    assert capsys.readouterr().out.count("krum") == 2


@pytest.mark.parametrize("path", sorted((FOLDER / "studies").glob("*.toml")), ids=lambda p: p.stem)
def test_the_studies_of_the_protocols_can_be_planned(path: Path) -> None:
    spec = load_study(path)
    assert spec.protocol.startswith(path.stem)
    first = dict.fromkeys(spec.problem_options.get("tasks", ["a", "b", "c"]), 1.0)
    assert len(arms(spec, first)) > 5
