"""Rendered rooms: geometry that agrees with itself, and splits that do not overlap."""

import numpy as np
import pytest
import torch

from equipoise.nn import ARCHITECTURES
from equipoise.problems import problem
from equipoise.problems.vision.rooms import CLASSES, FAILURES, render
from equipoise.study.measuring import scores

SMALL = {"rows": 16, "size": [24, 32], "width": 8}


def test_the_same_seed_gives_the_same_room_and_another_one_does_not():
    one, two, other = (render([0, 0, seed], 24, 32) for seed in (1, 1, 2))
    for first, second in zip(one, two, strict=True):
        np.testing.assert_array_equal(first, second)
    assert not np.array_equal(one.image, other.image)


def test_shapes_types_and_ranges():
    for seed in range(20):
        room = render(seed, 24, 32)
        assert room.image.shape == room.normals.shape == (24, 32, 3)
        assert room.classes.shape == room.depth.shape == (24, 32)
        assert room.image.dtype == room.depth.dtype == room.normals.dtype == np.float32
        assert 0 <= room.image.min() <= room.image.max() <= 1
        assert -1 <= room.classes.min() <= room.classes.max() < len(CLASSES)
        assert 0 <= room.depth.min() < room.depth.max() < 12
        length = np.linalg.norm(room.normals, axis=-1)
        np.testing.assert_allclose(length[room.depth > 0], 1, atol=1e-4)
        assert (length[room.depth == 0] == 0).all()


def test_every_class_is_seen_and_none_is_nearly_everything():
    seen = np.concatenate([render(seed, 24, 32).classes.ravel() for seed in range(60)])
    share = np.bincount(seen[seen >= 0], minlength=len(CLASSES)) / (seen >= 0).sum()
    assert share.min() > 0.01
    assert share.max() < 0.6
    assert 0.01 < (seen < 0).mean() < 0.06


def test_visible_surfaces_face_the_camera():
    for seed in range(20):
        room = render(seed, 32, 48)
        # Straight ahead of the camera the ray is (0, 0, 1).
        middle = room.normals[15:17, 23:25].reshape(-1, 3)
        assert (middle[:, 2] <= 0).all()


def test_normals_are_those_of_the_surface_that_depth_tells():
    """Points of three neighbours span the plane that the normal is at right angles to."""
    agree = []
    for seed in range(6):
        height, width = 96, 144
        room = render(seed, height, width)
        classes = room.classes
        there = (room.depth > 0) & np.isin(classes, (0, 1, 2))
        same = np.ones_like(there)
        for axis in (0, 1):
            for step in (-1, 1):
                same &= np.roll(there, step, axis)
                same &= np.roll(classes, step, axis) == classes
                same &= (np.roll(room.normals, step, axis) * room.normals).sum(-1) > 0.999
        same[[0, -1]] = same[:, [0, -1]] = False
        # The angle of view is drawn: take the one that fits best.
        agree.append(max(_agreement(room, same, reach) for reach in np.linspace(0.54, 0.91, 38)))
    assert np.median(agree) > 0.99


def _agreement(room, mask, reach):
    height, width = room.depth.shape
    x = ((np.arange(width) + 0.5) / width * 2 - 1) * reach
    y = ((np.arange(height) + 0.5) / height * 2 - 1) * reach * height / width
    grid = np.stack(np.broadcast_arrays(x[None], y[:, None], 1.0), -1)
    points = grid * room.depth[..., None]
    right = np.roll(points, -1, 1) - np.roll(points, 1, 1)
    down = np.roll(points, -1, 0) - np.roll(points, 1, 0)
    normal = np.cross(right, down)[mask]
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    return np.abs((normal * room.normals[mask]).sum(-1)).mean()


def test_some_pixels_have_no_depth():
    missing = np.mean([(render(seed, 24, 32).depth == 0).mean() for seed in range(20)])
    assert FAILURES < missing < 0.2


def test_splits_do_not_overlap_and_have_their_sizes():
    made = problem("scenes", **SMALL)
    parts = [made.source(split).inputs for split in ("train", "validation", "test")]
    assert [len(part) for part in parts] == [16, 4, 4]
    every = torch.cat(parts).flatten(1)
    assert len(every.unique(dim=0)) == 24


def test_more_rooms_begin_with_the_same_ones():
    few, many = (problem("scenes", **{**SMALL, "rows": rows}).source("train") for rows in (8, 16))
    assert torch.equal(few.inputs, many.inputs[:8])


@pytest.mark.parametrize("arch", list(ARCHITECTURES))
def test_every_architecture_takes_the_small_network(arch):
    made = problem("scenes", **SMALL, arch=arch)
    names = [task.name for task in made.tasks]
    batch = next(iter(made.source("train").batches(4, 0)))
    losses = made.losses_of(made.network(names), batch)
    sum(losses.values()).backward()
    assert set(losses) == {"segmentation", "depth", "normals"}


@pytest.mark.parametrize("network", ["segnet", "resnet18", "resnet50"])
def test_networks_of_the_papers_answer_at_every_pixel(network):
    made = problem("scenes", rows=8, size=[32, 48], width=4, network=network)
    batch = next(iter(made.source("train").batches(2, 0)))
    outputs = made.network(["segmentation", "normals"])(batch.inputs)
    assert outputs["segmentation"].shape == (2, len(CLASSES), 32, 48)
    assert outputs["normals"].shape == (2, 3, 32, 48)


def test_training_beats_a_constant():
    torch.manual_seed(0)
    made = problem("scenes", rows=96, size=[24, 32], width=8)
    names = [task.name for task in made.tasks]
    model, train = made.network(names), made.source("train")
    optimiser = torch.optim.Adam(model.parameters(), 0.01)
    for epoch in range(10):
        for batch in train.batches(8, epoch):
            optimiser.zero_grad()
            sum(made.losses_of(model, batch).values()).backward()
            optimiser.step()
    test = list(made.source("test").batches(32, None))
    found = scores(made, model, names, test)
    depth = train.targets["depth"]
    median = depth[depth > 0].median()
    targets = {
        name: torch.cat([batch.targets[name] for batch in test])
        for name in ("segmentation", "depth")
    }
    there = targets["depth"] > 0
    constant = (targets["depth"][there] - median).abs().mean()
    assert found["depth", "absolute_error"] < 0.9 * float(constant)
    labels = targets["segmentation"][targets["segmentation"] >= 0]
    majority = 100 * float((labels == labels.mode().values).float().mean())
    assert found["segmentation", "pixel_accuracy"] > majority + 2
    assert found["segmentation", "miou"] > 1.5 * majority / len(CLASSES)
    assert found["normals", "mean_angle"] < 45


def test_too_few_rooms_are_refused():
    with pytest.raises(ValueError, match="8 or more"):
        problem("scenes", rows=4)
    with pytest.raises(ValueError, match="no architecture"):
        problem("scenes", arch="tree").network(["depth"])


@pytest.mark.parametrize("network", ["segnet", "resnet18"])
def test_attention_works_on_the_networks_of_the_papers(network):
    made = problem("scenes", rows=8, size=[32, 48], width=4, network=network, arch="mtan")
    batch = next(iter(made.source("train").batches(2, 0)))
    losses = made.losses_of(made.network(["segmentation", "depth", "normals"]), batch)
    sum(losses.values()).backward()
