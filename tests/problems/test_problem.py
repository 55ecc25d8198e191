import pytest
import torch
from torch import nn

from equipoise import Balancer
from equipoise.problems import (
    Metric,
    Problem,
    Task,
    Tensors,
    TrunkAndHeads,
    accuracy,
    fingerprint,
    mean_absolute_error,
    problem,
    rmse,
)

OWN = """
from torch import nn, rand
from torch.nn import functional
from equipoise.problems import Problem, Task, Tensors, TrunkAndHeads, rmse

def mine(rows=4):
    def model(tasks):
        return TrunkAndHeads(nn.Linear(2, 3), {task: nn.Linear(3, 1) for task in tasks})
    def data(name):
        return Tensors(rand(rows, 2), {"a": rand(rows, 1), "b": rand(rows, 1)})
    tasks = tuple(Task(name=n, loss=functional.mse_loss, metrics=(rmse(),)) for n in "ab")
    return Problem(name="mine", tasks=tasks, data=data, model=model)

def wrong():
    return 3
"""


@pytest.fixture
def own(tmp_path):
    file = tmp_path / "own.py"
    file.write_text(OWN)
    return file


def test_a_problem_of_ones_own_is_a_function_in_a_file(own):
    built = problem(f"{own}:mine", rows=7)
    assert built.name == "mine"
    assert len(built.data("train")) == 7


def test_a_problem_of_ones_own_is_a_function_in_a_module(own, monkeypatch):
    monkeypatch.syspath_prepend(str(own.parent))
    assert problem("own:mine").name == "mine"


def test_editing_the_file_of_a_problem_changes_its_fingerprint(own, tmp_path):
    before = fingerprint(f"{own}:mine")
    other = tmp_path / "edited.py"
    other.write_text(OWN.replace("rows=4", "rows=5"))
    assert fingerprint(f"{own}:mine") == before != fingerprint(f"{other}:mine")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("digit", "did you mean 'digits'"),
        ("nowhere.py:mine", "there is no file 'nowhere.py'"),
        ("no_such_module:mine", "there is no module 'no_such_module'"),
        ("equipoise.problems.vision.digits:nothing", "has no function 'nothing'"),
    ],
)
def test_a_problem_that_is_not_there_is_named(name, message):
    with pytest.raises(ValueError, match=message):
        problem(name)


def test_an_unknown_option_is_told_with_those_there_are(own):
    with pytest.raises(ValueError, match=r"does not take these options.*it takes: rows"):
        problem(f"{own}:mine", row=3)


def test_a_function_that_returns_something_else_is_refused(own):
    with pytest.raises(ValueError, match=r"returned a int; return an equipoise.problems.Problem"):
        problem(f"{own}:wrong")


def test_targets_must_have_as_many_rows_as_inputs():
    with pytest.raises(ValueError, match="targets of 'a' have 3 rows but there are 4 inputs"):
        Tensors(torch.rand(4, 2), {"a": torch.rand(3)})


def test_a_problem_needs_two_tasks():
    one = (Task(name="a", loss=nn.functional.mse_loss, metrics=(rmse(),)),)
    with pytest.raises(ValueError, match="needs two tasks"):
        Problem(name="p", tasks=one, data=lambda _: None, model=lambda _: nn.Linear(1, 1))


def test_a_task_needs_a_metric():
    with pytest.raises(ValueError, match="'a' has no metric"):
        Task(name="a", loss=nn.functional.mse_loss, metrics=())


def test_metrics_count_in_their_units_and_know_their_direction():
    out = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [1.0, 0.0]])
    assert accuracy().score(out, torch.tensor([0, 1, 1, 1])) == 75.0
    assert rmse().score(torch.zeros(4), torch.tensor([3.0, 0, 0, 4.0])) == pytest.approx(2.5)
    assert mean_absolute_error().score(torch.zeros(2), torch.tensor([1.0, -3.0])) == 2.0
    assert accuracy().higher_is_better and not rmse().higher_is_better
    assert isinstance(rmse(), Metric)


def test_heads_read_the_views_that_a_balancer_hands_out():
    torch.manual_seed(0)
    model = TrunkAndHeads(nn.Linear(2, 3), {"a": nn.Linear(3, 1), "b": nn.Linear(3, 1)})
    balancer = Balancer("mgda", tasks=["a", "b"], route="features")
    inputs = torch.rand(5, 2)
    shared = model(inputs, share=balancer.share)
    plain = model(inputs)
    assert all(torch.equal(shared[task], plain[task]) for task in ("a", "b"))
    balancer({task: out.square().mean() for task, out in shared.items()}).backward()
    assert model.trunk.weight.grad.abs().sum() > 0
    assert sum(balancer.weights.values()) == pytest.approx(1)
