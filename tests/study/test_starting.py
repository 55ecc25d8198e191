"""A study from Python, a template of a problem, and a look at a study before it runs."""

from dataclasses import replace
from pathlib import Path

import fakes
import odd
import pytest
import tiny
from typer.testing import CliRunner

from equipoise.cli.commands import app
from equipoise.problems import Problem, Task, Tensors, TrunkAndHeads, rmse
from equipoise.study import Inline, Local, Store, compare, findings, parse, run
from equipoise.study.check import check
from equipoise.study.standing import counts, standing

SMALL = {"learning_rates": [0.01, 0.03], "epochs": 1, "batch_size": 16, "seeds": 3}


@pytest.fixture
def call(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(app, list(arguments))


def numbers(study):
    return {each.arm.label: each.scores.tolist() for each in study.findings().arms}


@pytest.mark.parametrize(
    "given", [f"{tiny.HERE}:tiny", tiny.tiny, tiny.tiny()], ids=["name", "function", "problem"]
)
def test_a_study_is_one_call_from_python(given, tmp_path):
    out = tmp_path / "s.db"
    study = compare(given, ["uw"], **SMALL, out=out, executor=Inline())
    assert "fixed weights" in " ".join(numbers(study)) and str(study).count("\n") >= 2
    assert study.findings().arm("uw").complete
    with Store(out, read_only=True) as store:
        assert (
            findings(store).arm("uw").deltas.tolist() == study.findings().arm("uw").deltas.tolist()
        )


def test_a_function_runs_in_processes_of_its_own_and_gives_the_same_numbers(tmp_path):
    apart = compare(tiny.tiny, ["uw"], **SMALL, out=tmp_path / "a.db", executor=Local(2))
    here = compare(tiny.tiny, ["uw"], **SMALL, out=tmp_path / "b.db", executor=Inline())
    assert numbers(apart) == numbers(here)


def test_a_problem_that_lives_here_only_runs_here_only():
    calm = tiny.tiny()
    with pytest.raises(ValueError, match="lives in this process only"):
        compare(calm, ["uw"], **SMALL, executor=Local(1))
    assert compare(lambda: calm, ["uw"], **SMALL).findings().arm("uw").complete


def test_what_is_no_problem_is_told():
    with pytest.raises(TypeError, match=r"problem is 3 \(int\)"):
        compare(3, ["uw"], **SMALL)
    with pytest.raises(ValueError, match=r"compare\(\): key 'epoch' is not known; did you mean"):
        compare(tiny.tiny, ["uw"], **SMALL, epoch=3)


def test_the_simplest_problem_takes_twenty_lines():
    import torch
    from torch import nn

    def data(split):
        torch.manual_seed(len(split))
        x = torch.randn(64, 3)
        return Tensors(x, {"sum": x.sum(1, keepdim=True), "norm": x.norm(dim=1, keepdim=True)})

    def model(tasks):
        trunk = nn.Sequential(nn.Linear(3, 8), nn.ReLU())
        return TrunkAndHeads(trunk, {task: nn.Linear(8, 1) for task in tasks})

    tasks = tuple(
        Task(name=name, loss=nn.functional.mse_loss, metrics=(rmse(),)) for name in ("sum", "norm")
    )
    problem = Problem(name="two numbers", tasks=tasks, data=data, model=model)
    assert compare(problem, ["uw"], **SMALL).findings().arm("uw").complete


# --- the template ---------------------------------------------------------------------------------


def test_the_template_runs_as_it_is(call):
    written = call("new", "problem", "shapes")
    assert written.exit_code == 0 and "shapes.toml" in written.stdout
    checked = call("check", "shapes.toml", "--workers", "2")
    assert checked.exit_code == 0, checked.stdout
    assert "150 trials, about" in checked.stdout and "fixed weights (tuned)" in checked.stdout
    written_files = sorted(path.name for path in Path().iterdir())
    assert written_files == ["shapes.py", "shapes.toml"], "a check writes nothing"
    ran = call(
        "run", "shapes.toml", "--seeds", "3", "--epochs", "1", "--methods", "uw",
        "--executor", "inline", "--no-report",
    )  # fmt: skip
    assert ran.exit_code == 0, ran.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("new", "problem", "not a name"), "makes no good file name"),
        (("new", "method"), "known: problem"),
        (("check", "nothing.toml"), "there is no file 'nothing.toml'"),
    ],
)
def test_mistakes_are_one_line(call, arguments, message):
    done = call(*arguments)
    assert done.exit_code == 2 and message in done.stderr and "Traceback" not in done.stderr


def test_a_file_that_is_there_is_not_written_over(call, tmp_path):
    (tmp_path / "mine.py").write_text("mine")
    assert call("new", "problem", "mine").exit_code == 2
    assert (tmp_path / "mine.py").read_text() == "mine"


# --- the look before ------------------------------------------------------------------------------


def of(**changes):
    given = {"problem": f"{tiny.HERE}:tiny", "methods": ["uw", "mgda"], **SMALL}
    return parse({**given, **changes})


def test_a_check_counts_what_the_study_will_run():
    found = {each.label: each for each in check(of())}
    # 2 candidates by 3 seeds.
    assert {each.trials for each in found.values()} == {6}
    assert len(found) == 2 + 1 + 3 + 2 and not any(each.trouble for each in found.values())
    assert all(each.step_ms > 0 and each.seconds > 0 for each in found.values())
    once = {each.label: each for each in check(of(tuning="once"))}
    assert {each.trials for each in once.values()} == {2 + 3}


def test_a_trial_that_two_arms_share_is_counted_once(tmp_path, call):
    shared = [{"id": "scalarization", "options": {"weights": [1.0, 1.0]}, "label": "ones"}]
    found = {
        each.label: each for each in check(of(methods=shared, learning_rates=[0.01, 0.02, 0.03]))
    }
    # The family of fixed weights has equal ones at one of its learning rates.
    assert (found["ones"].trials, found["ones"].shared) == (9, 3)
    spec = of(methods=shared, learning_rates=[0.01, 0.02, 0.03])
    run(spec, tmp_path / "s.db", Inline(lambda trial: fakes.result(trial, (1.0, 1.0, 5.0))))
    with Store(tmp_path / "s.db") as store:
        assert len(store.trials()) == 7 * 9 - 3
        assert counts(store, standing(store)) == {"done": 7 * 9 - 3, "waiting": 0}
    assert (
        f"{7 * 9 - 3}/{7 * 9 - 3} trials" in call("watch", str(tmp_path / "s.db"), "--once").stdout
    )
    toml = spec.to_toml().replace("seeds = [0, 1, 2]", "seeds = 3")
    (tmp_path / "s.toml").write_text(toml)
    said = call("check", str(tmp_path / "s.toml")).stdout
    assert f"{7 * 9 - 3} trials, about" in said and "3 of them shared with an arm above" in said


def test_trouble_of_one_arm_is_told_and_the_others_are_looked_at():
    methods = ["uw", f"{odd.HERE}:Failing", "mgda"]
    broken = {each.label: each.trouble for each in check(of(methods=methods))}
    assert "RuntimeError: no weights today" in broken["Failing"]
    assert not broken["ew"] and not broken["mgda"]


def test_a_look_takes_a_few_steps_only(monkeypatch):
    steps = []
    from equipoise.study import check as module

    plain = module.run

    def counted(trial, **options):
        result = plain(trial, **options)
        steps.append(result.cost.steps)
        return result

    monkeypatch.setattr(module, "run", counted)
    list(check(of(problem_options={"rows": 640})))
    assert set(steps) == {module.STEPS}


def test_methods_of_ones_own_belong_to_a_study(tmp_path):
    own = {"id": f"{odd.HERE}:Half", "options": {"share": 0.3}, "arguments": {"update_every": 2}}
    study = compare(f"{odd.HERE}:mapping", [own], **SMALL, out=tmp_path / "s.db", executor=Inline())
    found = study.findings().arm("Half (share=0.3, update_every=2)")
    assert found.complete and found.runs[0].arguments == '{"update_every":2}'
    assert replace(found.runs[0], seed=9).id != found.runs[0].id
