"""Cityscapes from small files in both of its layouts."""

import os
import runpy
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from equipoise.cli.data import app as commands
from equipoise.problems import DataError, data_sets, problem
from equipoise.problems.files import build, ready
from equipoise.problems.files.prepared import JOURNAL, damaged
from equipoise.problems.vision import cityscapes, cityscapes_folders
from equipoise.problems.vision.cityscapes import DATASET
from equipoise.problems.vision.pictures import held_out

fixture = SimpleNamespace(
    **runpy.run_path(str(Path(__file__).parents[1] / "fixtures" / "cityscapes.py"))
)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    fixture.write(tmp_path)
    monkeypatch.setenv("EQUIPOISE_DATA", str(tmp_path))
    return tmp_path / "cityscapes"


@pytest.fixture
def official(tmp_path, monkeypatch):
    fixture.write_official(tmp_path)
    monkeypatch.setenv("EQUIPOISE_DATA", str(tmp_path))
    return tmp_path / "cityscapes"


def read(split, **options):
    source = problem("cityscapes", **{**fixture.OPTIONS, **options}).source(split)
    return next(iter(source.batches(64, None)))


def test_the_published_division_is_that_of_xin_et_al():
    train, validation = held_out(2975)
    assert (len(train), len(validation)) == (2380, 595)


def test_rows_are_the_arrays_of_the_files(folder):
    for classes in (7, 19):
        batch = read("test", classes=classes)
        for row in range(4):
            label = np.load(folder / "val" / f"label_{classes}" / f"{row}.npy")
            np.testing.assert_array_equal(batch.targets["segmentation"][row], label)
            depth = np.load(folder / "val" / "depth" / f"{row}.npy")
            np.testing.assert_array_equal(batch.targets["depth"][row][0], depth[..., 0])


def test_official_pictures_are_read_by_the_official_tables(official):
    options = {**fixture.OFFICIAL_OPTIONS, "size": [48, 96]}
    batch = read("test", **options, classes=19)
    names = sorted((official / "leftImg8bit" / "val" / "lindau").iterdir())
    for row, path in enumerate(names):
        pixels = np.array(Image.open(path))
        np.testing.assert_allclose(batch.inputs[row].movedim(0, -1), pixels / 255, atol=1e-6)
        stem = path.name.removesuffix("_leftImg8bit.png")
        ids = np.array(Image.open(official / f"gtFine/val/lindau/{stem}_gtFine_labelIds.png"))
        wanted = np.vectorize(dict(zip(fixture.IDS, fixture.TRAIN_IDS, strict=True)).get)(ids)
        np.testing.assert_array_equal(batch.targets["segmentation"][row], wanted)
        stored = np.array(Image.open(official / f"disparity/val/lindau/{stem}_disparity.png"))
        # As the arrays of MTAN's authors have it, whose largest number is 32257 / 65535.
        inverse = stored.astype(np.float64) / 65535
        np.testing.assert_allclose(batch.targets["depth"][row][0], inverse, rtol=1e-5)
    assert (batch.targets["depth"] > 0).float().mean() > 0.5


def test_seven_classes_are_the_categories_of_the_nineteen(official):
    fine = read("test", **fixture.OFFICIAL_OPTIONS, classes=19).targets["segmentation"]
    coarse = read("test", **fixture.OFFICIAL_OPTIONS, classes=7).targets["segmentation"]
    # Building, road, sky, pole, car, person, vegetation.
    for nineteen, seven in ((2, 1), (0, 0), (10, 4), (5, 2), (13, 6), (11, 5), (8, 3), (-1, -1)):
        assert (coarse[fine == nineteen] == seven).all()


def test_the_table_of_labels_has_every_class_once():
    table = cityscapes_folders.train_ids()
    assert sorted(table[table >= 0]) == list(range(19))
    assert len(cityscapes_folders.TO_7) == 19
    assert set(cityscapes_folders.TO_7) == set(range(7))


def test_prepared_arrays_give_the_same_batches(official):
    options = {"network": "small", "width": 8, "layout": "official", "classes": 7}

    def batch():
        return next(iter(problem("cityscapes", **options).source("test").batches(8, None)))

    before = batch()
    for recipe in DATASET.recipes(official):
        build(official, recipe)
    # What is prepared is read instead of the pictures.
    for path in (official / "disparity" / "val").glob("*/*"):
        path.write_bytes(b"")
    after = batch()
    assert torch.equal(before.inputs, after.inputs)
    for name, target in before.targets.items():
        assert torch.equal(target, after.targets[name])


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_the_command_that_was_killed_goes_on_and_damage_is_found(tmp_path, monkeypatch):
    # The command names the folder to what runs after it.
    monkeypatch.setenv("EQUIPOISE_DATA", str(tmp_path))
    fixture.write_official(tmp_path, counts=(260, 4), size=(16, 32))
    folder = tmp_path / "cityscapes"
    root = ["cityscapes", "--data-root", str(tmp_path)]
    process = subprocess.Popen(
        [sys.executable, "-m", "equipoise.cli", "data", "prepare", *root],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    part = folder / "prepared" / "disparity-train-128x256.part" / JOURNAL
    for _ in range(12000):
        if part.exists() and len(part.read_bytes().splitlines()) > 1:
            break
        assert process.poll() is None
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert part.exists()
    before = part.read_bytes().splitlines()[:2]
    done = CliRunner().invoke(commands, ["prepare", *root])
    assert done.exit_code == 0
    assert "disparity-train-128x256" in done.stdout
    train, _ = DATASET.recipes(folder)
    assert (folder / "prepared" / train.key / JOURNAL).read_bytes().splitlines()[:2] == before
    arrays = ready(folder, train)
    for row in (0, 70, 259):
        for name, value in train.decode(folder, train.items[row]).items():
            np.testing.assert_array_equal(arrays[name][row], value)
    del arrays
    path = folder / "prepared" / train.key / "depth.npy"
    with path.open("r+b") as file:
        file.seek(-1000, os.SEEK_END)
        file.write(b"\xff\xfe")
    assert list(damaged(folder, train))
    found = CliRunner().invoke(commands, ["check", *root])
    assert found.exit_code == 1
    assert "the arrays are not what was written" in found.stdout


def _of_another_size(path):
    Image.open(path).resize((20, 10), 0).save(path)


def _truncated(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("kind", list(cityscapes_folders.ENDS))
@pytest.mark.parametrize("change", [Path.unlink, _truncated, _of_another_size])
def test_a_wrong_picture_is_told_by_its_name(official, kind, change):
    (path,) = (official / kind / "val" / "lindau").glob("*_000002_*")
    change(path)
    with pytest.raises(DataError) as raised:
        read("test", **fixture.OFFICIAL_OPTIONS)
    # Of an image of another size, its labels are told.
    stem = path.name.split("_000019")[0]
    assert stem in raised.value.file.name
    assert any(stem in line for line in data_sets("cityscapes")[0].complaints())


def test_a_label_beyond_the_table_is_told(official):
    (path,) = (official / "gtFine" / "val" / "lindau").glob("*_000002_*")
    ids = np.array(Image.open(path))
    ids[2, 2] = 34
    Image.fromarray(ids).save(path)
    with pytest.raises(DataError, match="label id of 34 beyond 33"):
        read("test", **fixture.OFFICIAL_OPTIONS)


def test_a_depth_that_is_not_finite_is_told(folder):
    path = folder / "train" / "depth" / "3.npy"
    depth = np.load(path)
    depth[0, 0] = np.inf
    np.save(path, depth)
    with pytest.raises(DataError, match="not finite") as raised:
        read("train")
    assert raised.value.file == path


def test_seven_classes_may_lie_in_the_folder_of_libmtl(folder):
    before = read("test")
    for part in ("train", "val"):
        (folder / part / "label_7").rename(folder / part / "label")
    assert torch.equal(before.targets["segmentation"], read("test").targets["segmentation"])
    assert list(data_sets("cityscapes")[0].complaints()) == []


def test_labels_of_one_kind_are_enough(folder):
    for part in ("train", "val"):
        shutil.rmtree(folder / part / "label_7")
    assert len(read("test", classes=19).inputs) == 4
    assert list(data_sets("cityscapes")[0].complaints()) == []
    with pytest.raises(DataError, match="label_7"):
        read("test")


def test_layout_and_size_are_those_of_the_files(folder, tmp_path):
    options = {"network": "small", "width": 8}
    (batch,) = problem("cityscapes", **options).source("test").batches(8, None)
    assert batch.inputs.shape == (4, 3, 16, 32)
    shutil.rmtree(folder)
    fixture.write_official(tmp_path)
    (batch,) = problem("cityscapes", **options).source("test").batches(8, None)
    assert batch.inputs.shape == (4, 3, 128, 256)
    shutil.rmtree(folder)
    folder.mkdir()
    with pytest.raises(DataError, match=r"train/image/\*\.npy .*leftImg8bit/train"):
        problem("cityscapes", **options).source("test")


def test_the_grid_of_xin_et_al():
    preset = cityscapes.PRESETS["xin2022"]
    assert preset["learning_rates"] == pytest.approx(np.logspace(-5, -2, 7))
    assert preset["weight_decays"] == pytest.approx([0, *np.logspace(-6, -2, 9)])


def test_unknown_options_are_refused():
    with pytest.raises(ValueError, match="7 or 19"):
        problem("cityscapes", classes=8)
    with pytest.raises(ValueError, match="layout"):
        problem("cityscapes", layout="zip")
