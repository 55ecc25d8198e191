import shutil
from dataclasses import replace
from pathlib import Path

import fakes
import pytest
import tiny
from typer.testing import CliRunner

from equipoise.cli.commands import app
from equipoise.report.page import _kinds
from equipoise.study import Failure, Inline, Store, findings, run, warnings
from equipoise.study.lock import only_driver
from equipoise.study.shelf import entries


class Recorder:
    """An executor that remembers what it was asked to run."""

    def __init__(self, outcome=None):
        self.ran = []
        self._outcome = outcome or (lambda trial: fakes.result(trial, (1.0, 1.0, 5.0)))

    def run(self, trials):
        for trial in trials:
            self.ran.append(trial)
            yield trial, self._outcome(trial)


def stages(recorder):
    return [trial.stage for trial in recorder.ran]


def test_a_study_is_tuned_first_and_then_run_for_every_seed(tmp_path):
    recorder = Recorder()
    run(fakes.spec(methods=["uw"]), tmp_path / "s.db", recorder)
    # 2 single tasks, fixed weights, ew, rlw, rgw, uw: 7 arms, 3 candidates, 5 seeds.
    assert stages(recorder) == ["tune"] * 21 + ["final"] * 35


def test_where_every_seed_tunes_for_itself_nothing_is_run_twice(tmp_path):
    recorder = Recorder()
    run(fakes.spec(methods=["uw"], tuning="per seed"), tmp_path / "s.db", recorder)
    assert stages(recorder) == ["final"] * 7 * 3 * 5
    again = Recorder()
    run(fakes.spec(methods=["uw"], tuning="per seed"), tmp_path / "s.db", again)
    assert again.ran == []


def test_the_same_study_again_runs_nothing(tmp_path):
    run(fakes.spec(), tmp_path / "s.db", Recorder())
    again = Recorder()
    run(fakes.spec(), tmp_path / "s.db", again)
    assert again.ran == []


def test_more_seeds_run_only_the_new_ones(tmp_path):
    run(fakes.spec(seeds=3), tmp_path / "s.db", Recorder())
    again = Recorder()
    run(fakes.spec(seeds=5), tmp_path / "s.db", again)
    assert {(trial.stage, trial.seed) for trial in again.ran} == {("final", 3), ("final", 4)}


def test_another_method_runs_only_its_own_trials(tmp_path):
    run(fakes.spec(), tmp_path / "s.db", Recorder())
    again = Recorder()
    run(fakes.spec(methods=["gls"]), tmp_path / "s.db", again)
    assert {trial.method for trial in again.ran} == {"gls"} and len(again.ran) == 3 + 5


def test_fewer_seeds_leave_the_others_in_the_file_and_out_of_the_result(tmp_path):
    run(fakes.spec(seeds=5), tmp_path / "s.db", Recorder())
    run(fakes.spec(seeds=2), tmp_path / "s.db", Recorder())
    with Store(tmp_path / "s.db") as store:
        assert findings(store).arm("ew").scores.shape[0] == 2
        assert len([t for t in store.trials().values() if t.trial.seed == 4]) == 6


def test_another_problem_in_the_same_file_is_refused_and_explained(tmp_path):
    run(fakes.spec(), tmp_path / "s.db", Recorder())
    with pytest.raises(ValueError, match=r"holds a study of problem .*use another --out"):
        run(fakes.spec(problem_options={"rows": 40}), tmp_path / "s.db", Recorder())


def test_a_problem_whose_file_was_edited_is_refused_and_explained(tmp_path):
    own = tmp_path / "own.py"
    shutil.copy(tiny.HERE, own)
    run(fakes.spec(problem=f"{own}:tiny"), tmp_path / "s.db", Recorder())
    own.write_text(own.read_text() + "\n# edited\n")
    with pytest.raises(ValueError, match=r"own.py has changed.*another --out, or --keep"):
        run(fakes.spec(problem=f"{own}:tiny"), tmp_path / "s.db", Recorder())


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        ([{"id": "uw_so", "options": {"temperatur": 1}}], "no option 'temperatur'"),
        ([{"id": "uw_so", "options": {"temperature": -1}}], "method 'uw_so"),
    ],
)
def test_a_mistake_in_a_method_is_told_before_the_first_trial(tmp_path, methods, message):
    recorder = Recorder()
    with pytest.raises(ValueError, match=message):
        run(fakes.spec(methods=methods), tmp_path / "s.db", recorder)
    assert recorder.ran == [] and not (tmp_path / "s.db").exists()


def test_a_second_run_on_the_same_file_is_refused(tmp_path):
    with only_driver(tmp_path / "s.db"), pytest.raises(ValueError, match="another run is writing"):
        run(fakes.spec(), tmp_path / "s.db", Recorder())
    run(fakes.spec(), tmp_path / "s.db", Recorder())


@pytest.fixture
def package(tmp_path):
    """A problem that imports what lies beside it."""
    (tmp_path / "own.py").write_text(
        "from helpers_of_own import rows\nfrom equipoise.problems import problem\n"
        f"def mine():\n    return problem({tiny.HERE!r} + ':tiny', rows=rows())\n"
    )
    (tmp_path / "helpers_of_own.py").write_text("def rows():\n    return 40\n")
    (tmp_path / "unused.py").write_text("")
    return tmp_path


def test_a_file_beside_the_problem_is_found_and_noticed_when_it_changes(package):
    spec = fakes.spec(problem=f"{package / 'own.py'}:mine")
    run(spec, package / "s.db", Recorder())
    (package / "unused.py").write_text("edited = True\n")
    run(spec, package / "s.db", Recorder())
    (package / "helpers_of_own.py").write_text("def rows():\n    return 41\n")
    with pytest.raises(ValueError, match=r"helpers_of_own.py has changed\."):
        run(spec, package / "s.db", Recorder())
    again = Recorder()
    run(spec, package / "s.db", again, keep=True)
    assert again.ran == []
    with Store(package / "s.db") as store:
        (told,) = [each.text for each in warnings(findings(store)) if each.id == "kept"]
    assert "(--keep)" in told and "helpers_of_own.py has changed" in told
    run(spec, package / "s.db", again)
    with Store(package / "s.db") as store:
        assert any(each.id == "kept" for each in warnings(findings(store)))


def test_trials_of_another_version_of_the_package_are_not_kept_silently(tmp_path, monkeypatch):
    run(fakes.spec(), tmp_path / "s.db", Recorder())
    monkeypatch.setattr("equipoise.__version__", "99.0")
    with pytest.raises(ValueError, match=r"equipoise was .* and is 99.0"):
        run(fakes.spec(), tmp_path / "s.db", Recorder())


def test_a_failed_trial_is_tried_again_by_the_next_run_and_only_it(tmp_path):
    def fails_once(trial):
        if trial.method == "rgw" and trial.stage == "final" and trial.seed == 1:
            return Failure("RuntimeError: out of luck")
        return fakes.result(trial, (1.0, 1.0, 5.0))

    run(fakes.spec(), tmp_path / "s.db", Recorder(fails_once))
    again = Recorder()
    run(fakes.spec(), tmp_path / "s.db", again)
    assert [(trial.method, trial.seed) for trial in again.ran] == [("rgw", 1)]


def test_runs_of_one_seed_are_neighbours_in_time(tmp_path):
    recorder = Recorder()
    run(fakes.spec(), tmp_path / "s.db", recorder)
    seeds = [trial.seed for trial in recorder.ran if trial.stage == "final"]
    assert seeds == sorted(seeds)


def test_a_real_study_end_to_end(tmp_path):
    run(fakes.spec(methods=["pcgrad"], seeds=3, epochs=8), tmp_path / "s.db", Inline())
    with Store(tmp_path / "s.db") as store:
        found = findings(store)
    assert found.arm("pcgrad").complete
    assert found.arm("pcgrad").spent.backwards == 2
    untrained = found.found.curve(found.arm("ew").trials[0], "train")
    assert untrained[8]["a", "loss"] < untrained[1]["a", "loss"]
    assert Path(tmp_path / "s.db").stat().st_size > 0


class Heard:
    """A listener that keeps what it was told of stages."""

    def __init__(self):
        self.stages, self.ended = [], 0

    def stage(self, name, total, kept):
        self.stages.append((name, total, kept))

    def finished(self, trial, outcome):
        self.ended += 1


REFINED = {
    "methods": [{"id": "uw_so", "search": {"temperature": {"coarse": [1, 9], "fine": 2}}}],
    "learning_rates": [0.01],
    "allow_unequal_budgets": True,
    "seeds": 3,
}


def test_progress_is_that_of_the_whole_stage_though_trials_are_named_in_rounds(tmp_path):
    heard = Heard()
    run(fakes.spec(**REFINED), tmp_path / "s.db", Recorder(), heard)
    # 2 single tasks, fixed weights, ew, rlw, rgw with one trial each; 2 coarse and 2 fine ones of uw_so.
    assert heard.stages == [("tuning", 6 + 4, 0), ("final", 7 * 3, 0)] and heard.ended == 31
    again = Heard()
    run(fakes.spec(**{**REFINED, "seeds": 4}), tmp_path / "s.db", Recorder(), again)
    assert again.stages == [("tuning", 10, 10), ("final", 7 * 4, 7 * 3)] and again.ended == 7


def test_what_never_comes_of_a_stage_leaves_its_total(tmp_path):
    def diverging(trial):
        done = fakes.result(trial, (1.0, 1.0, 5.0))
        return replace(done, status="diverged") if trial.method == "uw_so" else done

    heard = Heard()
    run(fakes.spec(**REFINED), tmp_path / "s.db", Recorder(diverging), heard)
    assert heard.stages == [("tuning", 10, 0), ("tuning", 8, 0), ("final", 6 * 3, 0)]
    assert heard.ended == 8 + 18


def test_trials_of_earlier_settings_are_kept_and_counted_apart(tmp_path):
    path = tmp_path / "s.db"
    run(fakes.spec(seeds=5), path, Recorder())
    run(fakes.spec(seeds=2), path, Recorder())
    with Store(path) as store:
        found = findings(store)
        assert len(store.trials()) == 6 * 3 + 6 * 5
    assert (len(found.stored), found.others) == (6 * 3 + 6 * 2, 6 * 3)
    (entry,) = entries(tmp_path)
    assert (entry.done, entry.failed, entry.others) == (30, 0, 18)
    listed = CliRunner().invoke(app, ["ls", str(tmp_path)]).stdout
    assert "s.db: 18 trials of earlier settings are kept in the file and counted nowhere" in listed
    assert "18 trials of earlier settings" in CliRunner().invoke(app, ["show", str(path)]).stdout
    assert _kinds(found).startswith("18 tuning, 12 final (18 trials of earlier settings are kept")


def test_trials_of_all_values_that_a_study_sweeps_are_its_own(tmp_path):
    sweep = {"sweep": {"rows": [40, 48]}, "seeds": 2}
    run(fakes.spec(**sweep), tmp_path / "s.db", Recorder())
    with Store(tmp_path / "s.db") as store:
        for setting in ("rows = 40", "rows = 48"):
            found = findings(store, setting=setting)
            assert (len(found.stored), found.others) == (2 * 6 * 5, 0)


def test_where_every_seed_tunes_for_itself_trials_are_not_called_final_ones(tmp_path):
    run(fakes.spec(tuning="per seed", seeds=2), tmp_path / "s.db", Recorder())
    with Store(tmp_path / "s.db") as store:
        assert _kinds(findings(store)) == "36, among which every seed chose its final ones"
