"""The commands that tell of problems and data sets, and how a study is asked for by a problem's name."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from equipoise.cli import data as commands
from equipoise.cli.asking import asked
from equipoise.cli.commands import app
from equipoise.study import Store

OWN = """
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from equipoise.problems import DataSet, Problem, Recipe, Task, Tensors, TrunkAndHeads, rmse
from equipoise.problems.files import ready


def rows(folder):
    return [str(n) for n in range(3)]


def decode(folder, item):
    return {"x": np.full(2, float(item), dtype=np.float32)}


def recipes(folder):
    return [Recipe(key="rows", items=rows(folder), layout={"x": ((2,), "float32")}, decode=decode)]


def examine(folder):
    if "nan" in PEBBLES.file("table.csv").read_text():
        yield f"{folder / 'table.csv'}: a number is missing"


PEBBLES = DataSet(
    name="pebbles",
    page="https://pebbles.example",
    licence="CC BY 4.0",
    files={"table.csv": None, "note.txt": None},
    optional=frozenset({"note.txt"}),
    examine=examine,
    recipes=recipes,
)
DATA = (PEBBLES,)
SETTINGS = {"learning_rates": [0.01], "seeds": 3, "epochs": 1, "batch_size": 16}
PRESETS = {
    "paper": {**SETTINGS, "methods": ["uw", "mgda"], "problem_options": {"width": 6}},
    "quick": {**SETTINGS, "methods": ["uw"], "problem_options": {"rows": 32}},
}


def pebbles(width=8, rows=48, arch="plain", tasks=None):
    if arch != "plain":
        raise ValueError(f"there is no architecture {arch!r} for pebbles")

    def data(split):
        table = np.loadtxt(PEBBLES.file("table.csv"), delimiter=",", dtype=np.float32)
        random = torch.Generator().manual_seed(len(split))
        x = torch.randn(rows, 3, generator=random) * float(table.max())
        return Tensors(x, {"a": x[:, :1] ** 2, "b": x[:, 1:2], "c": x[:, 2:].abs()})

    def model(names):
        trunk = nn.Sequential(nn.Linear(3, width), nn.Tanh())
        return TrunkAndHeads(trunk, {name: nn.Linear(width, 1) for name in names})

    return Problem(
        name="pebbles",
        tasks=tuple(Task(name=n, loss=functional.mse_loss, metrics=(rmse(),)) for n in "abc"),
        data=data,
        model=model,
    ).only(tasks)


def gravel(width=8, rows=48, arch="plain", tasks=None):
    return pebbles(width, rows, arch, tasks)
"""
BARE = "def bare():\n    raise ValueError('never built')\n"
NAME, OTHER = "own.py:pebbles", "own.py:gravel"


@pytest.fixture
def call(tmp_path, monkeypatch):
    """Runs a command in a folder with a problem file of one's own and its data set."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EQUIPOISE_DATA", raising=False)
    Path("own.py").write_text(OWN)
    Path("bare.py").write_text(BARE)
    Path("place/pebbles").mkdir(parents=True)
    Path("place/pebbles/table.csv").write_text("1,0.5\n0.25,1\n")

    def run(*arguments):
        # The option names the place in the environment, of which this test gives its own back.
        monkeypatch.setenv("EQUIPOISE_DATA", "")
        return CliRunner().invoke(app, list(arguments), catch_exceptions=False)

    return run


def at(*arguments):
    return (*arguments, "--data-root", "place")


def studied(call, *arguments):
    return call("run", *at(*arguments), "--executor", "inline", "--no-report")


def kept(path):
    """The study that a store holds."""
    with Store(path, read_only=True) as store:
        return store.get("spec")


# --- problems -------------------------------------------------------------------------------------


def test_problems_lists_what_each_reads_and_its_presets(call, monkeypatch):
    monkeypatch.setattr(commands, "PROBLEMS", {"digits": "", NAME: ""})
    shown = call("problems")
    assert shown.exit_code == 0
    lines = {line.split()[0]: line for line in shown.stdout.splitlines()}
    assert "none" in lines["digits"] and "litmus, quick" in lines["digits"]
    assert "pebbles" in lines[NAME] and "paper, quick" in lines[NAME]


def test_problems_as_json(call, monkeypatch):
    monkeypatch.setattr(commands, "PROBLEMS", {NAME: ""})
    told = json.loads(call("problems", "--json").stdout)
    assert told["problems"] == [
        {"problem": NAME, "data": ["pebbles"], "presets": ["paper", "quick"]}
    ]


# --- data -----------------------------------------------------------------------------------------


def test_data_list_says_whether_a_data_set_is_there_and_who_reads_it(call):
    (row,) = json.loads(call("data", "list", *at(NAME, OTHER), "--json").stdout)["data"]
    assert row["data"] == "pebbles" and row["there"] is True
    assert row["problems"] == [NAME, OTHER] and row["page"] == "https://pebbles.example"
    shown = call("data", "list", *at(NAME)).stdout
    assert "pebbles: there" in shown and "CC BY 4.0" in shown


@pytest.mark.parametrize("lost", ["table.csv", "pebbles", "root"])
def test_data_list_says_no_where_something_is_missing(call, lost):
    Path("place/pebbles/table.csv").unlink()
    if lost != "table.csv":
        Path("place/pebbles").rmdir()
    arguments = ["data", "list", NAME] if lost == "root" else ["data", "list", *at(NAME)]
    done = call(*arguments)
    assert done.exit_code == 0 and "pebbles: not there" in done.stdout


@pytest.mark.parametrize("option", ["--root", "--data-root"])
def test_the_place_is_named_by_either_word(call, option):
    done = call("data", "check", NAME, option, "place")
    assert done.exit_code == 0 and done.stdout.startswith("pebbles: all well")


def test_data_list_takes_a_compressed_file_for_the_file(call):
    table = Path("place/pebbles/table.csv")
    table.rename("place/pebbles/table.csv.gz")
    (row,) = json.loads(call("data", "list", *at(NAME), "--json").stdout)["data"]
    assert row["there"] is True


def test_data_check_says_that_all_is_well_with_licence_and_page(call):
    done = call("data", "check", *at(NAME))
    assert done.exit_code == 0
    assert done.stdout == "pebbles: all well. Licence: CC BY 4.0. Page: https://pebbles.example\n"


def test_data_check_names_a_missing_file_and_the_exit_code_says_so(call):
    Path("place/pebbles/table.csv").unlink()
    done = call("data", "check", *at(NAME))
    assert done.exit_code == 1
    assert (
        "table.csv: there is no such file; get the data from https://pebbles.example" in done.stdout
    )
    assert "pebbles: 1 wrong" in done.stdout


def test_data_check_looks_into_the_files(call):
    Path("place/pebbles/table.csv").write_text("1,nan\n")
    done = call("data", "check", *at(NAME))
    assert done.exit_code == 1 and "table.csv: a number is missing" in done.stdout


def test_data_check_without_a_place_says_how_to_name_one(call):
    done = call("data", "check", NAME)
    assert done.exit_code == 1
    assert "no folder of data sets was named" in done.stdout
    assert "EQUIPOISE_DATA or --data-root" in done.stdout


def test_data_prepare_decodes_once_and_check_sees_damage(call):
    done = call("data", "prepare", *at(NAME))
    assert done.exit_code == 0
    there = Path(done.stdout.strip())
    assert there == Path("place/pebbles/prepared/rows").resolve()
    (array,) = [path for path in there.iterdir() if path.suffix != ".jsonl"]
    before = array.stat().st_mtime_ns
    assert call("data", "prepare", *at(NAME)).exit_code == 0
    assert array.stat().st_mtime_ns == before
    assert call("data", "check", *at(NAME)).exit_code == 0
    content = bytearray(array.read_bytes())
    content[-1] ^= 0xFF
    array.write_bytes(content)
    done = call("data", "check", *at(NAME))
    assert done.exit_code == 1 and "equipoise data prepare" in done.stdout
    call("data", "prepare", *at(NAME))
    assert call("data", "check", *at(NAME)).exit_code == 0
    assert np.frombuffer(array.read_bytes()[-8:], np.float32).tolist() == [2.0, 2.0]


def test_data_prepare_without_the_files_is_one_line(call):
    Path("place/pebbles/table.csv").unlink()
    Path("place/pebbles").rmdir()
    done = call("data", "prepare", *at(NAME))
    assert done.exit_code == 2 and done.stderr.startswith("equipoise: ")
    assert "there is no such folder" in done.stderr and len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("command", ["check", "prepare"])
def test_a_problem_without_files_has_nothing_to_do(call, command):
    done = call("data", command, "digits")
    assert (done.exit_code, done.stdout) == (0, "digits reads no files: nothing to do\n")


# --- run ------------------------------------------------------------------------------------------


def test_run_takes_the_first_preset_of_a_problem(call):
    done = studied(call, NAME)
    assert done.exit_code == 0 and "equal weights (ew)" in done.stdout
    study = kept("runs/pebbles.db")
    assert [each["id"] for each in study["methods"]] == ["uw", "mgda"]
    assert study["problem_options"] == {"width": 6}


@pytest.mark.parametrize("options", [["--quick"], ["--preset", "quick"]])
def test_quick_is_the_preset_of_that_name(call, options):
    assert studied(call, NAME, *options).exit_code == 0
    study = kept("runs/pebbles-quick.db")
    assert [each["id"] for each in study["methods"]] == ["uw"]
    assert study["problem_options"] == {"rows": 32}


def test_options_of_the_problem_join_those_of_the_preset_and_what_they_replace_is_told(call):
    done = studied(
        call, NAME, "--quick", "--width", "4", "--tasks", "a, c", "--option", "rows=40",
        *("--arch", "plain"),
    )  # fmt: skip
    assert done.exit_code == 0
    assert "--option rows replaces rows = 32 of" in done.stderr
    assert kept("runs/pebbles-quick-plain.db")["problem_options"] == {
        "rows": 40, "width": 4, "tasks": ["a", "c"], "arch": "plain",
    }  # fmt: skip


def test_several_problems_in_one_run_end_in_a_report_across_them(call):
    small = ["--seeds", "3", "--quick", "--executor", "inline", "--quiet"]
    done = call("run", *at(NAME, OTHER), *small)
    assert done.exit_code == 0
    assert Path("runs/pebbles-quick.db").exists() and Path("runs/gravel-quick.db").exists()
    assert "Report across problems: runs/across.html" in done.stdout
    assert Path("runs/across.html").stat().st_size > 10_000


def test_several_problems_as_json_are_one_object(call):
    found = json.loads(studied(call, NAME, OTHER, "--quick", "--json").stdout)
    assert [each["store"] for each in found["studies"]] == [
        "runs/pebbles-quick.db",
        "runs/gravel-quick.db",
    ]
    assert "comparisons" in found["studies"][0] and "comparisons" not in found["across"]


def test_all_studies_are_read_before_the_first_begins(call):
    done = studied(call, NAME, "nowhere.toml", "--quick")
    assert done.exit_code == 2 and not Path("runs").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", NAME, OTHER, "--out", "one.db", "--no-report"], "--out is for one study"),
        (["run", NAME, NAME], "the same name"),
        (["run", NAME, "--quick", "--preset", "paper"], "give it or --preset"),
        (["run", NAME, "--preset", "paperr"], "has no preset 'paperr'; it has: paper, quick"),
        (["run", NAME, "--option", "rows"], "--option takes KEY=VALUE, not 'rows'"),
        (["run", NAME, "--option", "=3"], "--option takes KEY=VALUE, not '=3'"),
        (["run", NAME, "--option", "row=3"], "it takes: width, rows, arch, tasks"),
        (["run", NAME, "--option", "rows=NaN"], "--option rows=NaN"),
        (["run", NAME, "--option", "width=4", "--width", "5"], "width is given twice"),
        (["run", NAME, "--arch", "mtan"], "there is no architecture 'mtan'"),
        (["run", NAME, "--tasks", "a,z"], "has no task 'z'; it has: a, b, c"),
        (["run", NAME, "--tasks", "a"], "needs two tasks or more"),
        (["run", NAME, "--data-root", "gone"], "there is no folder 'gone'"),
        (["run", "bare.py:bare"], "comes with no settings"),
        (["run", "own.py"], "own.py"),
        (["run", "own.py:none"], "has no function 'none'"),
        (["data", "check", "digitz"], "did you mean 'digits'?"),
        (["data", "list", "digitz"], "did you mean 'digits'?"),
        (["data", "list", "--data-root", "gone"], "there is no folder 'gone'"),
        (["data", "prepare", "gone.py:x"], "there is no file 'gone.py'"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_two(call, arguments, message):
    if "--data-root" not in arguments:
        arguments = list(at(*arguments))
    done = call(*arguments)
    (told,) = (line for line in done.stderr.splitlines() if line.startswith("equipoise: "))
    assert done.exit_code == 2 and message in told and "Traceback" not in done.stderr
    assert not Path("runs").exists()


def test_a_preset_of_a_study_file_is_refused(call):
    Path("study.toml").write_text('problem = "digits"\n')
    done = call("run", "study.toml", "--quick")
    assert done.exit_code == 2 and "only a problem has presets" in done.stderr


def test_a_data_set_that_is_not_there_is_told_before_the_first_trial(call):
    done = call("run", NAME, "--quick", "--executor", "inline", "--no-report")
    assert done.exit_code == 2 and "no folder of data sets was named" in done.stderr
    assert "--data-root" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("text", "value"),
    [("3", 3), ("0.5", 0.5), ("true", True), ("[1, 2]", [1, 2]), ("null", None), ("deep", "deep")],
)
def test_values_of_options_are_numbers_lists_or_words(text, value):
    assert asked("digits", None, False, options=[f"key={text}"]).options["key"] == value


def test_presets_and_architectures_have_a_file_each():
    def store(*given, **options):
        return str(asked(*given, **options).store())

    assert store("digits", None, False) == "runs/digits.db"
    assert store("digits", None, True) == "runs/digits-quick.db"
    assert store("nyuv2", "xin2022", False, arch="mtan") == "runs/nyuv2-xin2022-mtan.db"
    assert store("my/own.py:build", None, False) == "runs/build.db"
    assert store("my/study.toml", None, False) == "runs/study.db"
