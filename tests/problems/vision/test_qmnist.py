import os
from pathlib import Path
from runpy import run_path

import numpy as np
import pytest
import torch

from equipoise.problems import presets, problem
from equipoise.problems.files.idx import MNIST, pictures, written_by
from equipoise.problems.vision.qmnist import PRESETS, chosen_writers, divided, top
from equipoise.study import study

FIXTURES = Path(__file__).parents[1] / "fixtures"
REAL = os.environ.get("EQUIPOISE_DATA", "")
REAL_QMNIST = pytest.mark.skipif(
    not (REAL and (Path(REAL) / "qmnist").is_dir()), reason="qmnist is not there"
)
SPLITS = ("train", "validation", "test")


@pytest.fixture
def small(tmp_path, monkeypatch):
    run_path(str(FIXTURES / "qmnist.py"))["write"](tmp_path)
    monkeypatch.setenv("EQUIPOISE_DATA", str(tmp_path))


def rows_of(source, part):
    """The numbers of the official images that a split has."""
    official = torch.from_numpy(pictures(MNIST, part).images.astype(np.float32)) / 255
    same = (source.inputs[:, 0].unsqueeze(1) == official.unsqueeze(0)).all(3).all(2)
    assert (same.sum(1) == 1).all()
    return same.int().argmax(1).numpy()


def test_with_writers_every_split_has_its_share_of_each(small):
    table = written_by("train")
    used = []
    for split, share in (("train", 14), ("validation", 3), ("test", 3)):
        source = problem("qmnist").source(split)
        rows = rows_of(source, "train")
        used += rows.tolist()
        assert np.bincount(source.targets["writer"]).tolist() == [share] * 3
        assert source.targets["digit"].tolist() == table[rows, 0].tolist()
        assert source.targets["series"].tolist() == (table[rows, 1] == 4).astype(int).tolist()
        named = np.asarray([7, 1500, 2100])[source.targets["writer"]]
        assert named.tolist() == table[rows, 2].tolist()
    assert sorted(used) == list(range(60))


def test_without_writers_the_division_is_the_official_one(small):
    built = problem("qmnist", tasks=["digit", "series"])
    found = {
        split: rows_of(built.source(split), "t10k" if split == "test" else "train")
        for split in SPLITS
    }
    assert found["train"].tolist() == list(range(50))
    assert found["validation"].tolist() == list(range(50, 60))
    assert found["test"].tolist() == list(range(20))


def test_some_writers_are_always_the_same_and_have_classes_of_their_own(small):
    assert chosen_writers(2).tolist() == chosen_writers(2).tolist()
    built = problem("qmnist", writers=2)
    source = built.source("train")
    assert len(source) == 28 and set(source.targets["writer"].tolist()) == {0, 1}
    assert built.network(["writer"])(source.inputs[:3])["writer"].shape == (3, 2)


def test_each_task_alone_has_its_own_outputs(small):
    built = problem("qmnist")
    for name, outputs in (("digit", 10), ("series", 2), ("writer", 3)):
        assert built.network([name])(torch.rand(2, 1, 28, 28))[name].shape == (2, outputs)


def test_rows_limits_every_split(small):
    for options in ({}, {"tasks": ["digit", "series"]}):
        assert [len(problem("qmnist", rows=5, **options).source(s)) for s in SPLITS] == [5, 5, 5]


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"writers": 1}, "writers is 1"),
        ({"writers": 2, "tasks": ["digit", "series"]}, "only where 'writer'"),
        ({"rows": 1}, "rows is 1"),
        ({"tasks": ["author"]}, "no task 'author'"),
    ],
)
def test_options_that_make_no_sense_are_refused(small, options, what):
    with pytest.raises(ValueError, match=what):
        problem("qmnist", **options)


def test_more_writers_than_there_are_are_refused(small):
    with pytest.raises(ValueError, match="writers is 4, but QMNIST has 3"):
        problem("qmnist", writers=4).source("train")


def test_divided_holds_out_fifteen_percent_of_every_writer():
    writers = np.repeat([3, 1, 9], [100, 20, 7])
    found = divided(writers)
    assert sorted(np.concatenate(list(found.values())).tolist()) == list(range(127))
    for split in ("validation", "test"):
        assert np.unique(writers[found[split]], return_counts=True)[1].tolist() == [3, 15, 1]
    assert found["train"].tolist() == divided(writers)["train"].tolist()


def test_top_five_counts_rows_whose_class_is_among_the_five_likeliest():
    outputs = torch.tensor([[6.0, 5, 4, 3, 2, 1, 0]]).repeat(4, 1)
    assert top(5).score(outputs, torch.tensor([0, 4, 5, 6])) == 50.0
    assert top(5).score(outputs[:, :3], torch.tensor([0, 1, 2, 2])) == 100.0


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_is_a_study(preset):
    assert presets("qmnist")[preset] and study("qmnist", preset).epochs > 0


@REAL_QMNIST
def test_the_real_data_have_539_writers_and_none_of_the_test_in_the_official_division():
    assert len(chosen_writers(None)) == 539
    assert not set(written_by("train")[:, 2]) & set(written_by("t10k")[:, 2])
    sizes = [len(found) for found in divided(written_by("train")[:, 2]).values()]
    assert sizes == [41_982, 9_009, 9_009]
