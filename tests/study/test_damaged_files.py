"""A broken file of a data set ends a study with its name, at once, wherever it is met."""

from pathlib import Path

import damaged
import pytest

from equipoise.study import Inline, Local, Store, parse, run

STUDY = {
    "problem": f"{damaged.__file__}:damaged",
    "learning_rates": [0.01, 0.03],
    "seeds": 2,
    "epochs": 1,
    "batch_size": 16,
}


@pytest.mark.parametrize("executor", [Inline(), Local(workers=1)])
def test_a_file_that_is_met_in_training_ends_the_study(executor, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("broken").touch()
    spec = parse(STUDY)
    with pytest.raises(ValueError, match=r"^place/7\.png: it is truncated; fetch it anew$"):
        run(spec, "study.db", executor)
    with Store("study.db") as store:
        failed = [each for each in store.trials().values() if each.status == "failed"]
    assert len(failed) == 1 and failed[0].cause == "data"
    # Mended, the same study goes on.
    Path("broken").unlink()
    run(spec, "study.db", executor)


def test_a_file_that_is_met_before_the_first_trial_is_told_without_a_traceback(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    Path("broken").touch()
    spec = parse({**STUDY, "problem_options": {"late": False}})
    with pytest.raises(ValueError, match=r"^place/7\.png: it is truncated; fetch it anew$"):
        run(spec, "study.db", Inline())
