import os
from pathlib import Path
from runpy import run_path

import numpy as np
import pytest
import torch

from equipoise.problems import presets, problem
from equipoise.problems.files.idx import MNIST, pictures
from equipoise.problems.vision import lenet_studies
from equipoise.problems.vision.overlaid import OVERLAYS, SPLITS, canvases, own
from equipoise.study import study

FIXTURES = Path(__file__).parents[1] / "fixtures"
REAL = os.environ.get("EQUIPOISE_DATA", "")
REAL_MNIST = pytest.mark.skipif(
    not (REAL and (Path(REAL) / "mnist").is_dir()), reason="mnist is not there"
)
NAMES = sorted(OVERLAYS)


@pytest.fixture(params=NAMES)
def name(request, tmp_path, monkeypatch):
    run_path(str(FIXTURES / f"{request.param}.py"))["write"](tmp_path)
    monkeypatch.setenv("EQUIPOISE_DATA", str(tmp_path))
    return request.param


def test_the_first_image_is_at_the_upper_left_and_the_brighter_pixel_shows():
    first, second = np.zeros((2, 1, 28, 28), np.uint8)
    first[0, :2], second[0, :2] = 255, 51
    first[0, 20], second[0, 12] = 51, 255
    canvas = canvases(first, second, 36)[0, 0]
    assert canvas.shape == (36, 36)
    assert canvas[0, :28].tolist() == [1.0] * 28 and canvas[0, 28:].tolist() == [0.0] * 8
    assert canvas[8, 8:].tolist() == pytest.approx([0.2] * 28) and not canvas[8, :8].any()
    # Row 20 of the canvas is row 20 of the first and row 12 of the second.
    assert canvas[20].tolist() == pytest.approx([0.2] * 8 + [1.0] * 28)


def test_a_smaller_canvas_shows_the_same_picture():
    draw = np.random.default_rng(0)
    first, second = (np.uint8(draw.integers(0, 256, (3, 28, 28))) for _ in range(2))
    small, large = canvases(first, second, 28), canvases(first, second, 36)
    assert small.shape == (3, 1, 28, 28) and small.min() >= 0 and small.max() <= 1
    assert torch.allclose(small.mean((1, 2, 3)), large.mean((1, 2, 3)), atol=0.01)


def test_splits_have_the_right_images_and_labels(name):
    layers = OVERLAYS[name]
    data = {split: problem(name).source(split) for split in SPLITS}
    assert {split: len(source) for split, source in data.items()} == {
        "train": 48,
        "validation": 12,
        "test": 20,
    }
    for split, source in data.items():
        part = "t10k" if split == "test" else "train"
        for number, layer in enumerate(layers):
            found = pictures(layer.data, part)
            corner = source.inputs[:, 0, :28, :28] if number == 0 else source.inputs[:, 0, 8:, 8:]
            official = torch.from_numpy(found.images.astype(np.float32)) / 255
            # Where the other image does not reach, the corner is that image.
            seen = slice(0, 8) if number == 0 else slice(20, 28)
            used = []
            for image, label in zip(corner, source.targets[layer.task], strict=True):
                same = (official[:, seen] == image[seen]).all(2).all(1).nonzero().ravel()
                assert len(same) == 1 and found.classes[same] == label
                used.append(int(same))
            # Each image of the split is in this corner once.
            assert sorted(used) == sorted(own(found, split, 0.2).tolist())


def test_no_image_is_in_two_splits_or_meets_itself(name, monkeypatch):
    part = pictures(OVERLAYS[name].top_left.data, "train")
    train, validation = (set(own(part, split, 0.2).tolist()) for split in SPLITS[:2])
    assert not train & validation and len(train | validation) == 60
    seen = {}
    monkeypatch.setattr(
        "equipoise.problems.vision.overlaid.canvases",
        lambda first, second, size: seen.update(first=first, second=second) or torch.zeros(48, 1),
    )
    problem(name, validation=0.2, rows=48).source("train")
    assert not (seen["first"] == seen["second"]).all(2).all(1).any()


def test_rows_limits_every_split_and_validation_sets_its_share(name):
    assert [len(problem(name, rows=9).source(split)) for split in SPLITS] == [9, 9, 9]
    assert len(problem(name, validation=0.5).source("validation")) == 30


def test_the_same_examples_come_whatever_the_seed_of_torch(name):
    torch.manual_seed(1)
    first = problem(name).source("train").inputs.clone()
    torch.manual_seed(2)
    from equipoise.problems.vision import overlaid

    overlaid._examples.cache_clear()
    assert torch.equal(first, problem(name).source("train").inputs)


@pytest.mark.parametrize("size", [28, 36])
def test_the_network_is_the_lenet_of_the_papers(name, size):
    built = problem(name, size=size)
    names = [task.name for task in built.tasks]
    model = built.network(names)
    out = model(torch.rand(2, 1, size, size))
    assert {task: tuple(y.shape) for task, y in out.items()} == dict.fromkeys(names, (2, 10))
    left = {28: 4, 36: 6}[size]
    trunk = 10 * 26 + 20 * 251 + 50 * (20 * left**2 + 1)
    assert sum(p.numel() for p in model.parameters()) == trunk + 2 * (50 * 51 + 10 * 51)


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"size": 37}, "size is 37"),
        ({"validation": 1.0}, "validation is 1.0"),
        ({"rows": 1}, "rows is 1"),
        ({"tasks": ["left"]}, "no task 'left'"),
    ],
)
def test_options_that_make_no_sense_are_refused(name, options, what):
    with pytest.raises(ValueError, match=what):
        problem(name, **options)


def test_a_step_of_training_lowers_the_losses(name):
    torch.manual_seed(0)
    built = problem(name, size=28)
    batch = built.source("train").take(slice(0, 48))
    model = built.network([task.name for task in built.tasks])
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    found = []
    for _ in range(25):
        loss = sum(built.losses_of(model, batch).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    assert found[-1] < 0.7 * found[0]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("preset", lenet_studies.PRESETS)
def test_every_preset_is_a_study(name, preset):
    assert presets(name)[preset] and study(name, preset).epochs > 0


def test_methods_are_those_of_the_papers():
    def ids(preset):
        return [
            m if isinstance(m, str) else m["id"] for m in lenet_studies.PRESETS[preset]["methods"]
        ]

    assert ids("kurin2022") == ["imtl", "mgda", "graddrop", "pcgrad", "rlw"]
    second = lenet_studies.PRESETS["kurin2022"]["methods"][-1]
    assert second["label"] != "rlw" and second["options"] == {"distribution": "dirichlet"}
    assert ids("sener2018") == ["uw", "gradnorm", "mgda"]


@REAL_MNIST
def test_the_real_data_have_the_sizes_of_the_papers():
    built = problem("multimnist", size=28)
    assert [len(built.source(split)) for split in SPLITS] == [48_000, 12_000, 10_000]
    assert len(problem("multimnist", size=28, validation=1 / 6).source("validation")) == 10_000
    train = own(pictures(MNIST, "train"), "train", 0.2)
    assert len(np.unique(train)) == 48_000
