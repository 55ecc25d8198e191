"""Every mistake is told, with the task's name and the remedy."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import Tensor, nn

import equipoise
from equipoise import Balancer, SolverError
from networks import TASKS, Network, build, plain_views


@pytest.fixture
def network() -> Network:
    return build("mlp")


def losses_of(network: Network) -> dict[str, Tensor]:
    return network.losses(plain_views(network.trunk(network.example)))


def test_a_detached_loss(network: Network) -> None:
    losses = losses_of(network)
    losses["right"] = losses["right"].detach()
    with pytest.raises(ValueError, match=r"'right' has no graph.*detached"):
        Balancer("ew")(losses)


def test_a_number_instead_of_a_loss(network: Network) -> None:
    losses = losses_of(network)
    losses["right"] = losses["right"].item()  # type: ignore[assignment]
    with pytest.raises(TypeError, match=r"'right' is a float.*item"):
        Balancer("ew")(losses)


def test_a_loss_that_is_not_reduced(network: Network) -> None:
    with pytest.raises(ValueError, match=r"'a' has shape \(12, 5\).*mean"):
        Balancer("ew")({"a": network.trunk(network.example), "b": network.trunk[0].bias.sum()})


@pytest.mark.parametrize("method", ["mgda", "pcgrad", "graddrop", "rgw"])
def test_stacked_losses_with_a_gradient_method(method: str, network: Network) -> None:
    with pytest.raises(ValueError, match=r"one tensor.*NaN would spread.*separately"):
        Balancer(method)(torch.stack(list(losses_of(network).values())))


def test_an_unknown_method() -> None:
    with pytest.raises(ValueError, match=r"'cagrd'.*did you mean 'cagrad'"):
        Balancer("cagrd")


def test_an_unknown_option() -> None:
    with pytest.raises(ValueError, match=r"'temprature'; did you mean 'temperature'\?"):
        Balancer("uw_so", temprature=2.0)


@pytest.mark.parametrize("setting", ["route", "heads", "weight_sum", "nonfinite", "on_failure"])
def test_an_unknown_value_of_a_setting(setting: str) -> None:
    with pytest.raises(ValueError, match=rf"{setting}='sideways' is none of"):
        Balancer("ew", **{setting: "sideways"})


def test_an_unknown_task_in_the_prior(network: Network) -> None:
    with pytest.raises(ValueError, match=r"prior names 'depth'.*left, right"):
        Balancer("ew", ["left", "right"], prior={"depth": 2.0})
    with pytest.raises(ValueError, match="prior names 'depth'"):
        Balancer("ew", prior={"depth": 2.0})(losses_of(network))


def test_a_prior_that_is_not_positive(network: Network) -> None:
    with pytest.raises(ValueError, match=r"prior of task 'left' is 0\.0"):
        Balancer("ew", prior={"left": 0.0})(losses_of(network))


def test_a_loss_of_an_unknown_task(network: Network) -> None:
    balancer = Balancer("ew", ["left", "right", "rebuild"])
    losses = losses_of(network)
    losses["rigth"] = losses.pop("right")
    with pytest.raises(ValueError, match=r"'rigth' belongs to no task \(did you mean 'right'\?\)"):
        balancer(losses)


def test_a_wrong_number_of_losses(network: Network) -> None:
    with pytest.raises(ValueError, match=r"2 losses were given for the 3 tasks"):
        Balancer("ew", TASKS)(list(losses_of(network).values())[:2])


def test_no_loss_at_all() -> None:
    with pytest.raises(ValueError, match="no loss is present"):
        Balancer("ew", TASKS)({"left": None})


def test_nothing_shared() -> None:
    a, b = nn.Linear(2, 1), nn.Linear(2, 1)
    x = torch.ones(3, 2)
    with pytest.raises(
        ValueError, match=r"reached by two of the losses 'a', 'b'.*nothing to balance"
    ):
        Balancer("mgda")({"a": a(x).mean(), "b": b(x).mean()})


def test_a_task_that_does_not_depend_on_the_shared_parameters(network: Network) -> None:
    losses = losses_of(network)
    apart = nn.Linear(2, 1)
    losses["apart"] = apart(torch.ones(1, 2)).mean()
    with pytest.raises(ValueError, match=r"gradient of loss 'apart' is None for every shared"):
        Balancer("mgda")(losses)


def test_shared_parameters_that_are_frozen(network: Network) -> None:
    for p in network.trunk.parameters():
        p.requires_grad_(False)
    with pytest.raises(ValueError, match="none of the shared parameters requires a gradient"):
        Balancer("mgda", shared=network.trunk)(losses_of(network))


@pytest.mark.parametrize("method", ["gls", "uw_o", "uw_so"])
def test_a_loss_that_is_not_positive_for_a_method_that_divides_by_it(
    method: str, network: Network
) -> None:
    losses = losses_of(network)
    losses["left"] = losses["left"] - 10
    with pytest.raises(
        ValueError, match=rf"'left' is -.*'{method}' needs losses that are not negative"
    ):
        Balancer(method)(losses)


def test_a_loss_that_is_not_finite(network: Network) -> None:
    losses = losses_of(network)
    losses["left"] = losses["left"] * torch.nan
    with pytest.raises(ValueError, match=r"'left' is not finite.*skip_task"):
        Balancer("ew")(losses)


@pytest.mark.parametrize("method", ["ew", "mgda", "graddrop"])
def test_skip_task_leaves_the_loss_out_and_counts_it(method: str, network: Network) -> None:
    balancer = Balancer(method, TASKS, nonfinite="skip_task")
    losses = losses_of(network)
    losses["left"] = losses["left"] * torch.nan
    balancer(losses).backward()
    assert network.trunk[0].weight.grad.isfinite().all()
    assert network.heads["left"].weight.grad is None
    assert balancer.metrics()["balance/nonfinite/left"] == 1


def test_skip_step_touches_no_gradient(network: Network) -> None:
    balancer = Balancer("mgda", TASKS, nonfinite="skip_step")
    losses = losses_of(network)
    losses["left"] = losses["left"] * torch.inf
    total = balancer(losses)
    total.backward()
    assert total.item() == 0 and all(p.grad is None for p in network.parameters())


def test_a_gradient_that_is_not_finite(network: Network) -> None:
    losses = losses_of(network)
    losses["left"] = losses["left"] + (network.trunk[0].bias * 0).abs().sqrt().sum()
    with pytest.raises(ValueError, match=r"gradient of loss 'left' is not finite"):
        Balancer("mgda")(losses)


def test_a_constant_zero_is_absent_with_a_warning(network: Network) -> None:
    losses = losses_of(network)
    losses["left"] = torch.zeros(())
    balancer = Balancer("uw_o", TASKS)
    with pytest.warns(UserWarning, match="'left' is a constant 0"):
        balancer(losses)
    assert "left" not in balancer.weights


def test_training_mode_under_no_grad(network: Network) -> None:
    with torch.no_grad(), pytest.raises(ValueError, match=r"no_grad.*balancer\.eval\(\)"):
        Balancer("ew")(losses_of(network))


def test_the_losses_route_with_a_gradient_method() -> None:
    with pytest.raises(ValueError, match=r"'mgda' looks at task gradients.*route='parameters'"):
        Balancer("mgda", route="losses")


def test_the_features_route_without_shared_features(network: Network) -> None:
    with pytest.raises(ValueError, match=r"call z = balancer\.share\(features\)"):
        Balancer("mgda", route="features")(losses_of(network))


def test_sharing_before_the_tasks_are_known(network: Network) -> None:
    with pytest.raises(ValueError, match=r"share\(\) needs the tasks up front"):
        Balancer("mgda").share(network.trunk(network.example))


@pytest.mark.filterwarnings("ignore:losses .* past the features")
def test_sharing_twice_in_a_step(network: Network) -> None:
    balancer = Balancer("mgda", TASKS)
    first = balancer.share(network.trunk(network.example))
    balancer.share(network.trunk(network.example))
    with pytest.raises(RuntimeError, match=r"share\(\) was called again"):
        (balancer(network.losses(first)) + first["left"].sum()).backward()


def test_features_without_a_graph(network: Network) -> None:
    with pytest.raises(ValueError, match="shared features have no graph"):
        Balancer("mgda", TASKS).share(network.trunk(network.example).detach())


def test_a_loss_that_ignores_its_view(network: Network) -> None:
    balancer = Balancer("mgda", TASKS)
    views = balancer.share(network.trunk(network.example))
    losses = network.losses({**views, "right": views["left"]})
    with pytest.raises(RuntimeError, match=r"'right' does not depend on its view"):
        balancer(losses).backward()


def test_a_loss_that_reaches_the_trunk_past_the_features(network: Network) -> None:
    balancer = Balancer("mgda", TASKS)
    features = network.trunk(network.example)
    losses = network.losses(balancer.share(features))
    losses["left"] = losses["left"] + features.square().mean()
    with pytest.warns(UserWarning, match=r"\(left\) reach shared parameters past the features"):
        balancer(losses).backward()


def test_a_view_of_an_unknown_task(network: Network) -> None:
    views = Balancer("mgda", TASKS).share(network.trunk(network.example))
    with pytest.raises(KeyError, match=r"no task is called 'depth'"):
        views["depth"]


@pytest.mark.parametrize("setting", [{"heads": "weighted"}, {"update_every": 2}])
def test_settings_that_need_weights_of_a_method_without(setting: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="'graddrop' has no loss weights"):
        Balancer("graddrop", **setting)


def test_options_beside_a_method_object() -> None:
    with pytest.raises(ValueError, match=r"temperature.*method object itself"):
        Balancer(equipoise.method("uw_so"), temperature=1.0)


def test_learning_weights_that_are_not_learnable() -> None:
    with pytest.raises(ValueError, match="'ew' has no weights to learn"):
        Balancer("ew", self_optimized=True)


def test_the_fast_path_in_evaluation(network: Network) -> None:
    with pytest.raises(RuntimeError, match=r"balancer\.train\(\)"):
        Balancer("mgda").eval().backward(losses_of(network))


def test_a_failed_solver_raises_with_the_gramian_or_keeps_the_last_weights(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(gramian: Tensor, losses: Tensor) -> Tensor:
        raise SolverError("stopped", gramian, torch.tensor(1.0))

    strict, lenient = Balancer("mgda", TASKS), Balancer("mgda", TASKS, on_failure="keep")
    lenient(losses_of(network)).backward()
    kept = lenient.weights
    monkeypatch.setattr(strict.method, "weights", fail)
    monkeypatch.setattr(lenient.method, "weights", fail)
    with pytest.raises(SolverError) as told:
        strict(losses_of(network))
    assert told.value.gramian.shape == (3, 3)
    lenient(losses_of(network)).backward()
    assert lenient.weights == kept
    assert lenient.metrics()["balance/solver_failures"] == 1


def test_duplicate_task_names() -> None:
    with pytest.raises(ValueError, match="tasks must be different names"):
        Balancer("ew", ["a", "a"])


def test_a_saved_balancer_of_other_tasks(network: Network) -> None:
    saved = Balancer("ew", ["a", "b"]).state_dict()
    with pytest.raises(ValueError, match="the saved balancer has the tasks"):
        Balancer("ew", ["a", "c"]).load_state_dict(saved)


@pytest.mark.parametrize("method", ["moco", "db_mtl", "modo"])
def test_the_features_route_of_a_method_that_compares_gradients(
    method: str, network: Network
) -> None:
    with pytest.raises(ValueError, match=f"'{method}' needs gradients that can be compared"):
        Balancer(method, TASKS, route="features")


def test_a_wrong_number_of_batches(network: Network) -> None:
    with pytest.raises(
        TypeError, match="'modo' takes the losses of 3 independent batches a step, got 1"
    ):
        Balancer("modo", TASKS)(losses_of(network))
    with pytest.raises(
        TypeError, match="'ew' takes the losses of 1 independent batch a step, got 2"
    ):
        Balancer("ew", TASKS)(losses_of(network), losses_of(network))


@pytest.mark.parametrize(("method", "call"), [("dwa", "end_epoch"), ("famo", "after_step")])
def test_a_call_between_steps_that_never_comes(method: str, call: str, network: Network) -> None:
    losses = {name: loss.detach().requires_grad_() for name, loss in losses_of(network).items()}
    silent = Balancer(method, TASKS)
    with pytest.warns(UserWarning, match=rf"'{method}' has taken 1000 steps without .*{call}"):
        for _ in range(1001):
            silent(losses)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        silent(losses)
        heard = Balancer(method, TASKS)
        for step in range(1001):
            heard(losses)
            if step == 5:
                heard.end_epoch() if call == "end_epoch" else heard.after_step(lambda: losses)
