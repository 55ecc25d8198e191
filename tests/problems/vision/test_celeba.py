"""CelebA: its lists, its images, and what is wrong with them."""

from __future__ import annotations

import gzip
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from runpy import run_path
from typing import Any

import numpy as np
import pytest
import torch

from equipoise.problems import Problem, presets, problem
from equipoise.problems.files import PLACE, DataError, build
from equipoise.problems.vision import celeba as module
from equipoise.problems.vision.celeba import CELEBA, recipe
from equipoise.problems.vision.celeba_lists import ATTRIBUTES, lists_of
from equipoise.study.loading import parse
from equipoise.study.preparing import prepared
from equipoise.study.train import run
from equipoise.study.trial import Trial, canonical

pytest.importorskip("PIL")
FIXTURE = run_path(str(Path(__file__).parents[1] / "fixtures" / "celeba.py"))
LABELS, PARTS = Path("Anno/list_attr_celeba.txt"), Path("Eval/list_eval_partition.txt")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("faces")
    FIXTURE["write"](root)
    return root


@pytest.fixture
def folder(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of its own."""
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    monkeypatch.setenv(PLACE, str(tmp_path))
    return tmp_path / "celeba"


def small(**options: Any) -> Problem:
    return problem("celeba", **{"network": "small", "width": 8, "size": 16, **options})


def changed(path: Path, line: int, change: Callable[[str], str]) -> None:
    lines = path.read_text().splitlines()
    lines[line - 1] = change(lines[line - 1])
    path.write_text("\n".join(lines) + "\n")


def test_there_are_forty_attributes_and_the_official_parts(folder: Path) -> None:
    made = small()
    assert [task.name for task in made.tasks] == list(ATTRIBUTES)
    assert len(set(ATTRIBUTES)) == 40
    assert [len(made.source(s)) for s in ("train", "validation", "test")] == [96, 32, 32]
    rows = [set(made.source(s).rows.tolist()) for s in ("train", "validation", "test")]
    assert not rows[0] & rows[1] and not rows[0] & rows[2] and not rows[1] & rows[2]


def test_labels_are_those_of_the_list(folder: Path) -> None:
    second = (folder / LABELS).read_text().splitlines()[3].split()
    batch = next(iter(small().source("train").batches(4, None)))
    assert second[0] == "000002.jpg"
    assert [int(batch.targets[name][1]) for name in ATTRIBUTES] == [
        {"1": 1, "-1": 0}[value] for value in second[1:]
    ]


def test_images_are_those_of_their_rows(folder: Path) -> None:
    from PIL import Image

    source = small(size=16).source("validation")
    batch = next(iter(source.batches(3, None)))
    with Image.open(folder / "img_align_celeba" / f"{source.rows[1] + 1:06d}.jpg") as image:
        want = np.asarray(image.resize((16, 16), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
    back = batch.inputs[1].numpy() * 255 * np.array(module_std()) + 255 * np.array(module_mean())
    assert np.allclose(back, want, atol=0.01)


def module_mean() -> list[list[list[float]]]:
    return [[[0.485]], [[0.456]], [[0.406]]]


def module_std() -> list[list[list[float]]]:
    return [[[0.229]], [[0.224]], [[0.225]]]


def test_lists_may_lie_beside_the_images_and_be_compressed(folder: Path) -> None:
    before = lists_of(CELEBA, folder)
    for path in (LABELS, PARTS):
        (folder / f"{path.name}.gz").write_bytes(gzip.compress((folder / path).read_bytes()))
        shutil.rmtree(folder / path.parent)
    after = lists_of(CELEBA, folder)
    assert after.names == before.names
    assert np.array_equal(after.labels, before.labels)
    assert np.array_equal(after.part, before.part)


def test_prepared_faces_are_the_same_and_no_image_is_touched(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds = (None, 3)
    want = [list(small().source("train").batches(32, seed)) for seed in seeds]
    build(folder, recipe(folder, 16))
    module._examples.cache_clear()
    # Neither listed nor opened: not even there.
    shutil.rmtree(folder / "img_align_celeba")
    made = small()
    found = [list(made.source("train").batches(32, seed)) for seed in seeds]
    for one, other in zip(want, found, strict=True):
        for a, b in zip(one, other, strict=True):
            assert torch.equal(a.inputs, b.inputs)
            assert all(torch.equal(a.targets[name], b.targets[name]) for name in ATTRIBUTES)


def test_rows_are_drawn_once_for_all(folder: Path) -> None:
    first, again = small(rows=20), small(rows=20)
    assert [len(first.source(s)) for s in ("train", "validation", "test")] == [20, 5, 5]
    assert first.source("train").rows.tolist() == again.source("train").rows.tolist()
    whole = set(small().source("train").rows.tolist())
    assert set(first.source("train").rows.tolist()) < whole


@pytest.mark.parametrize(
    ("file", "line", "change", "message"),
    [
        (LABELS, 1, lambda x: "159", r"its first line says '159' images and 160 lines"),
        (LABELS, 1, lambda x: "many", "'many'"),
        (LABELS, 2, lambda x: x.replace("Bald", "Bold"), "'Bold'"),
        (LABELS, 2, lambda x: x.replace("Young", ""), "39 names"),
        (LABELS, 5, lambda x: x[:-2] + " 0", r"line 5: Young of 000003.jpg is '0', not 1 or -1"),
        (LABELS, 5, lambda x: x[:-2] + " 2", "Young of 000003.jpg is '2'"),
        (LABELS, 5, lambda x: x[:-2], r"000003.jpg has 39 numbers and should have 40"),
        (LABELS, 5, lambda x: x + " 1", "000003.jpg has 41 numbers"),
        (LABELS, 5, lambda x: x.replace("000003", "000004"), "000004.jpg twice"),
        (LABELS, 5, lambda x: "../" + x, "no name of an image"),
        (PARTS, 3, lambda x: x[:-1] + "3", "line 3: 000003.jpg is in part '3', not 0, 1 or 2"),
        (
            PARTS,
            3,
            lambda x: x.replace("3.jpg", "4.jpg"),
            r"line 3 is of '000004.jpg'.*'000003.jpg'",
        ),
        (PARTS, 160, lambda x: "", "it has 159 images and list_attr_celeba.txt has 160"),
    ],
)
def test_a_list_that_is_wrong_is_told_with_its_line(
    folder: Path, file: Path, line: int, change: Callable[[str], str], message: str
) -> None:
    changed(folder / file, line, change)
    with pytest.raises(DataError, match=message) as caught:
        small().source("train")
    assert caught.value.file == folder / file
    assert any(file.name in line for line in CELEBA.complaints())


def test_parts_in_another_order_load_and_are_told_by_the_check(folder: Path) -> None:
    changed(folder / PARTS, 3, lambda x: x[:-1] + "2")
    assert [len(small().source(s)) for s in ("train", "validation", "test")] == [95, 32, 33]
    assert 2 in small().source("test").rows
    told = "line 4: 000004.jpg is in part 0 and the one before in 2"
    assert any(told in line for line in CELEBA.examine(folder))


@pytest.mark.parametrize(("size", "mode"), [((178, 217), "RGB"), ((64, 64), "L")])
def test_images_of_another_kind_load_and_are_told_by_the_check(
    folder: Path, size: tuple[int, int], mode: str
) -> None:
    from PIL import Image

    Image.new(mode, size).save(folder / "img_align_celeba" / "000100.jpg")
    batch = next(iter(small().source("validation").batches(32, None)))
    assert float(batch.inputs[3, 0].std()) < 0.01
    told = list(CELEBA.examine(folder))
    assert len(told) == 1 and "000100.jpg" in told[0]


@pytest.mark.parametrize("file", [LABELS, PARTS])
@pytest.mark.parametrize("content", [b"", b"\n\n", b"\xff\xfe\x00 1", None])
def test_a_list_that_is_empty_or_missing_is_told_by_name(
    folder: Path, file: Path, content: bytes | None
) -> None:
    (folder / file).unlink()
    if content is not None:
        (folder / file).write_bytes(content)
    with pytest.raises(DataError, match=file.name):
        small().source("train")


def test_a_part_without_an_image_is_told(folder: Path) -> None:
    text = (folder / PARTS).read_text()
    (folder / PARTS).write_text(text.replace(".jpg 1\n", ".jpg 2\n"))
    with pytest.raises(DataError, match="no image is in part 1, which is for validation"):
        small().source("train")


def test_a_missing_image_is_told_before_the_first_step(folder: Path) -> None:
    (folder / "img_align_celeba" / "000007.jpg").unlink()
    with pytest.raises(DataError, match=r"000007\.jpg: .*\(1 of 96 are not\)"):
        small().source("train")
    assert len(small().source("test")) == 32
    assert any("000007.jpg" in line for line in CELEBA.examine(folder))


@pytest.mark.parametrize("damage", ["cut", "text"])
def test_a_damaged_image_is_told_by_name(folder: Path, damage: str) -> None:
    path = folder / "img_align_celeba" / "000100.jpg"
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-200])
    else:
        path.write_text("an image")
    with pytest.raises(DataError, match=r"000100\.jpg"):
        list(small().source("validation").batches(8, None))
    told = list(CELEBA.examine(folder))
    assert len(told) == 1 and "000100.jpg" in told[0]


def test_a_whole_folder_is_all_well_and_strays_do_no_harm(folder: Path) -> None:
    (folder / "img_align_celeba" / "Thumbs.db").write_bytes(b"x")
    (folder / "img_align_celeba" / ".DS_Store").write_bytes(b"x")
    assert list(CELEBA.examine(folder)) == []
    # Only that the lists are not those of the publisher.
    assert all("its MD5 is" in line for line in CELEBA.complaints())


@pytest.mark.parametrize("loss", ["ce", "bce"])
def test_networks_learn_the_attributes_and_errors_are_percent(folder: Path, loss: str) -> None:
    options = {"network": "small", "width": 16, "loss": loss, "size": 32, "tasks": ["Bald", "Male"]}
    found = run(
        Trial(
            problem="celeba",
            problem_options=canonical(options),
            method="ew",
            stage="final",
            seed=0,
            learning_rate=0.01,
            epochs=5,
            batch_size=16,
        )
    )
    got = {(m.task, m.metric): m.value for m in found.metrics if m.split == "test"}
    losses = [m.value for m in found.metrics if m.split == "train" and m.task == "Male"]
    assert losses[-1] < 0.6 * losses[0]
    assert got["Male", "error"] < 25  # 50 by guessing
    assert got["Male", "error"] + got["Male", "accuracy"] == pytest.approx(100)
    assert got["(all)", "mean error"] == pytest.approx(
        (got["Male", "error"] + got["Bald", "error"]) / 2
    )


def test_heads_computed_as_one_give_what_separate_ones_give(folder: Path) -> None:
    outputs = []
    for batched in (False, True):
        torch.manual_seed(0)
        model = small(batched_heads=batched).network(ATTRIBUTES)
        outputs.append(model(torch.ones(2, 3, 16, 16)))
    assert all(torch.allclose(outputs[0][name], outputs[1][name], atol=1e-6) for name in ATTRIBUTES)
    with pytest.raises(ValueError, match="goes with arch 'hard_sharing'"):
        small(batched_heads=True, arch="cross_stitch")


def test_the_default_network_is_resnet_18(folder: Path) -> None:
    model = problem("celeba", tasks=["Bald", "Male"]).network(["Bald", "Male"])
    count = sum(p.numel() for p in model.parameters())
    assert count == 11_176_512 + 2 * (512 * 2 + 2)


@pytest.mark.parametrize("preset", list(presets("celeba")))
def test_every_preset_is_a_study_that_can_be_run(folder: Path, preset: str) -> None:
    given = presets("celeba")[preset]
    options = {**given["problem_options"], "network": "small", "size": 8, "tasks": ["Bald", "Male"]}
    settings = prepared(parse({**given, "problem": "celeba", "problem_options": options}))
    assert settings[0].steps >= 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "mse"}, "no loss 'mse'"),
        ({"metrics": []}, "give some of: accuracy, error"),
        ({"network": "vgg"}, "no network 'vgg'"),
        ({"width": 1}, "width is 1"),
        ({"rows": 2}, "rows 2"),
        ({"tasks": ["Bald", "Blonde"]}, "no task 'Blonde'"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    folder: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        small(**options)


@pytest.mark.skipif(
    not (Path(os.environ.get(PLACE) or "nowhere") / "celeba").is_dir(), reason="no CelebA here"
)
def test_the_official_parts_have_their_sizes() -> None:
    made = small()
    sizes = [len(made.source(s)) for s in ("train", "validation", "test")]
    assert sizes == [162_770, 19_867, 19_962]
