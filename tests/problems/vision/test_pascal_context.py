"""PASCAL-Context from small files in the folders of ASTMT."""

import runpy
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import loadmat, savemat

from equipoise.problems import DataError, data_sets, problem
from equipoise.problems.files import build
from equipoise.problems.vision import pascal_folders
from equipoise.problems.vision.rooms import COLUMN, render

fixture = SimpleNamespace(
    **runpy.run_path(str(Path(__file__).parents[1] / "fixtures" / "pascal_context.py"))
)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    fixture.write(tmp_path)
    monkeypatch.setenv("EQUIPOISE_DATA", str(tmp_path))
    return tmp_path / "PASCAL_MT"


def read(split, **options):
    source = problem("pascal_context", **{**fixture.OPTIONS, **options}).source(split)
    return next(iter(source.batches(64, None)))


def test_answers_are_those_of_the_files(folder):
    batch = read("test", size=[40, 56])
    for row in (0, 2):
        # Of the size that is asked for, so that nothing is resized.
        room = render([9, 4, row], *fixture.SIZES[0])
        voc = np.where(room.classes < 0, -1, fixture.VOC.astype(int)[room.classes])
        np.testing.assert_array_equal(batch.targets["segmentation"][row], voc)
        column = torch.from_numpy(room.classes == COLUMN)
        parts = batch.targets["human_parts"][row]
        if column.any():
            assert set(parts[column].tolist()) <= {1, 2}
            assert (parts[~column] == 0).all()
        else:
            assert (parts == -1).all()
        context = fixture.CONTEXT[room.classes]
        known = np.isin(context, (440, 158, 287, 368, 427, 284)) & (room.normals != 0).any(-1)
        normals = batch.targets["normals"][row]
        np.testing.assert_array_equal((normals != 0).any(0), known)
        wanted = torch.from_numpy(room.normals).movedim(-1, 0)
        cosine = (normals * wanted).sum(0)[torch.from_numpy(known)]
        assert cosine.min() > 0.999
        salient = Image.open(folder / "sal_distill" / f"{fixture.parts()['val'][row]}.png")
        np.testing.assert_array_equal(batch.targets["saliency"][row, 0], np.array(salient) > 127)


def test_an_image_of_another_shape_is_fitted_and_the_rest_has_no_label(folder):
    batch = read("test", size=[40, 56])
    # 56 x 40 pixels fit as 40 x 29.
    assert (batch.inputs[1, :, :, 29:] == 0).all()
    assert (batch.inputs[1, :, :, :29] > 0).any(0).all()
    for name, none in (("segmentation", -1), ("saliency", -1), ("edges", -1), ("normals", 0)):
        assert (batch.targets[name][1, ..., 29:] == none).all()
    assert (batch.targets["edges"][1, ..., :29] >= 0).all()


def test_edges_are_one_pixel_wide_between_labels():
    labels = np.zeros((6, 8), int)
    labels[2:4, 3:6] = 5
    found = pascal_folders.edges(labels)
    assert found[2, 2] == found[2, 5] == found[1, 4] == found[3, 4] == 1
    assert found[2, 3] == found[0, 0] == found[2, 4] == 0
    assert found.sum() == 2 + 2 + 3 + 3 - 1


def test_parts_of_the_body_are_the_six_of_the_papers():
    assert set(pascal_folders.PARTS.values()) == set(range(1, 7))
    assert len(pascal_folders.PARTS) == 24
    assert len(pascal_folders.INDOORS.split()) == 170


def test_official_validation_is_the_test(folder):
    sizes = {
        split: len(problem("pascal_context", **fixture.OPTIONS).source(split))
        for split in ("train", "validation", "test")
    }
    assert sizes == {"train": 8, "validation": 2, "test": 4}


def test_every_task_can_be_trained(folder):
    made = problem("pascal_context", **fixture.OPTIONS)
    names = [task.name for task in made.tasks]
    losses = made.losses_of(made.network(names), read("train"))
    assert set(losses) == set(names)
    sum(losses.values()).backward()


def _truncated(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _text(path):
    path.write_text("hello")


@pytest.mark.parametrize("change", [Path.unlink, _truncated, _text])
@pytest.mark.parametrize(
    "name",
    [
        "JPEGImages/2010_000001.jpg",
        "semseg/VOC12/2010_000001.png",
        "human_parts/2010_000001.mat",
        "pascal-context/trainval/2010_000001.mat",
        "normals_distill/2010_000001.png",
        "sal_distill/2010_000001.png",
        "ImageSets/Context/val.txt",
    ],
)
def test_a_wrong_file_is_told_by_its_name(folder, name, change):
    if name.endswith(".txt") and change is _truncated:
        (folder / name).write_text("2010_000000\n../secret\n")
    else:
        change(folder / name)
    with pytest.raises(DataError, match=Path(name).stem):
        read("test")
    assert any(Path(name).stem in line for line in data_sets("pascal_context")[0].complaints())


@pytest.mark.parametrize(
    ("left_out", "tasks"),
    [
        ("semseg", ["human_parts", "saliency", "normals", "edges"]),
        ("human_parts", ["segmentation", "saliency"]),
        ("pascal-context", ["segmentation", "human_parts"]),
        ("normals_distill", ["segmentation", "edges"]),
        ("sal_distill", ["segmentation", "normals"]),
    ],
)
def test_files_of_tasks_that_are_left_out_need_not_be_there(folder, left_out, tasks):
    before = read("test")
    shutil.rmtree(folder / left_out)
    after = read("test", tasks=tasks)
    assert set(after.targets) == set(tasks)
    for name in tasks:
        assert torch.equal(before.targets[name], after.targets[name])


def test_an_image_that_a_list_names_and_is_not_there_is_told_with_the_list(folder):
    path = folder / "ImageSets" / "Context" / "val.txt"
    path.write_text(path.read_text().replace("2010_000002", "2090_000002"))
    with pytest.raises(DataError, match=r"2090_000002\.jpg: .*val\.txt names it"):
        read("test")


def test_prepared_rows_serve_some_of_the_tasks(folder):
    options = {"network": "small", "width": 8}
    tasks = ["segmentation", "edges"]
    made = problem("pascal_context", **options, tasks=tasks)
    (before,) = made.source("test").batches(8, None)
    for recipe in data_sets("pascal_context")[0].recipes(folder):
        build(folder, recipe)
    shutil.rmtree(folder / "semseg")
    (after,) = made.source("test").batches(8, None)
    for name in tasks:
        assert torch.equal(before.targets[name], after.targets[name])


def test_wrong_labels_are_told(folder):
    path = folder / "semseg" / "pascal-context" / "2010_000000.png"
    classes = np.array(Image.open(path))
    classes[3, 3] = 21
    Image.fromarray(classes).save(path)
    with pytest.raises(DataError, match="class 21 beyond 20"):
        read("test")


def test_a_mask_that_is_none_is_told(folder):
    path = next(
        each
        for each in sorted((folder / "human_parts").glob("2010_*.mat"))
        if len(loadmat(each)["anno"]["objects"][0, 0][0]) > 1
    )
    anno = loadmat(path, simplify_cells=True)["anno"]
    person = anno["objects"][1]
    person["parts"][0]["mask"][3, 3] = 167
    objects = np.zeros((1, 1), [(field, object) for field in person])
    parts = np.zeros((1, 1), [("part_name", object), ("mask", object)])
    parts[0, 0] = ("head", person["parts"][0]["mask"])
    objects[0, 0] = (*(person[field] for field in ("class", "class_ind", "mask")), parts)
    savemat(path, {"anno": {"imname": anno["imname"], "objects": objects}})
    with pytest.raises(DataError, match="mask of a part 'head'") as raised:
        read("test")
    assert raised.value.file == path


@pytest.mark.parametrize("back", [23, 15])
def test_a_wrong_byte_among_the_last_of_a_picture_is_told(folder, back):
    path = folder / "normals_distill" / "2010_000001.png"
    content = bytearray(path.read_bytes())
    content[-back] ^= 159
    path.write_bytes(content)
    with pytest.raises(DataError, match="the sum of the piece") as raised:
        read("test")
    assert raised.value.file == path


def test_labels_of_another_size_are_told(folder):
    path = folder / "pascal-context" / "trainval" / "2010_000002.mat"
    savemat(path, {"LabelMap": loadmat(path)["LabelMap"][:-1]})
    with pytest.raises(DataError, match="its image") as raised:
        read("test")
    assert raised.value.file == path
