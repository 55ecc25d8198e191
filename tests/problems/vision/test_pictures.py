"""Images that are read while the network trains."""

import numpy as np
import pytest
import torch

from equipoise.problems.vision import dense_tasks, pictures
from equipoise.problems.vision.pictures import IMAGE, Pictures, antialiased, nearest, zoomed

ANSWERS = (
    dense_tasks.classes("classes", 4),
    dense_tasks.depth(),
    dense_tasks.depth("inverse", inverse=True),
    dense_tasks.normals(),
    dense_tasks.binary("binary", "f"),
)
KINDS = {answer.name: answer.kind for answer in ANSWERS}


def row(number, height=24, width=36):
    """A ramp of depth from 1 to 2 from left to right, and normals that point to the right."""
    ramp = np.linspace(1, 2, width, dtype=np.float32)[None].repeat(height, 0)
    normals = np.zeros((height, width, 3), np.float32)
    normals[..., 0] = 1
    normals[:4] = 0
    return {
        IMAGE: np.full((height, width, 3), number, np.uint8),
        "classes": (np.arange(width) // (width // 4))[None].repeat(height, 0).astype(np.int8),
        "depth": ramp,
        "inverse": 1 / ramp,
        "normals": normals,
        "binary": (ramp > 1.5).astype(np.int8),
    }


def source(rows=10, **options):
    return Pictures(row, range(rows), ANSWERS, **options)


def test_every_example_comes_once_and_in_order_without_a_seed():
    seen = torch.cat([batch.inputs[:, 0, 0, 0] for batch in source(most=3).batches(4, None)])
    assert (seen * 255).round().int().tolist() == list(range(10))
    assert [batch.size for batch in source(most=3).batches(4, None)] == [3, 3, 3, 1]


def test_training_batches_are_full_and_no_example_comes_twice():
    batches = list(source().batches(4, 1))
    assert [batch.size for batch in batches] == [4, 4]
    seen = torch.cat([batch.inputs[:, 0, 0, 0] for batch in batches])
    assert len(seen.unique()) == 8
    assert source(3).steps(8) == 1
    assert next(iter(source(3).batches(8, 0))).size == 3


def test_what_was_not_asked_for_is_not_waited_for():
    read = []

    def slow(number):
        read.append(number)
        return row(number)

    batches = Pictures(slow, range(100), ANSWERS).batches(4, 0)
    next(batches)
    batches.close()
    assert len(read) <= 4 * (pictures.AHEAD + 2)


def test_an_error_of_a_reader_reaches_the_training():
    def broken(number):
        raise ValueError(f"row {number} is broken")

    with pytest.raises(ValueError, match="is broken"):
        list(Pictures(broken, range(3), ANSWERS).batches(2, None))


def tried(seed):
    example = source().example(0, None)
    return example, zoomed(example, KINDS, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("seed", range(12))
def test_zooming_keeps_what_belongs_together(seed):
    plain, found = tried(seed)
    assert {name: x.shape for name, x in found.items()} == {
        name: x.shape for name, x in plain.items()
    }
    # A scale divides depth and multiplies its inverse.
    torch.testing.assert_close(found["depth"] * found["inverse"], torch.ones_like(found["depth"]))
    assert found["depth"].max() <= 2.0001
    # Labels are numbers that were there, and normals are as long as one, or not there at all.
    assert set(found["classes"].unique().tolist()) <= {0, 1, 2, 3}
    length = found["normals"].norm(dim=0)
    torch.testing.assert_close(length, length.round())
    mirrored = bool(found["depth"][0, 0, 0] > found["depth"][0, 0, -1])
    assert found["normals"][0].sum() * (-1 if mirrored else 1) > 0


def test_all_scales_and_both_sides_are_drawn():
    seen = set()
    for seed in range(60):
        _, found = tried(seed)
        span = float(found["inverse"].max() / found["inverse"].min())
        mirrored = bool(found["depth"][0, 0, 0] > found["depth"][0, 0, -1])
        seen.add((round(span, 1) >= 1.9, mirrored))
    assert len(seen) == 4


def test_a_scale_of_depth_is_that_of_the_image():
    plain = source().example(0, None)
    for seed in range(30):
        found = zoomed(plain, KINDS, torch.Generator().manual_seed(seed))
        # Of the ramp from 1 to 2, a window 1 / s wide is seen, divided by s.
        span = float(found["depth"].max() - found["depth"].min())
        scale = min(pictures.SCALES, key=lambda s: abs(span - 1 / s**2))
        assert span == pytest.approx(1 / scale**2, abs=0.08)


def test_a_smaller_image_is_the_mean_of_what_it_covers():
    pixels = np.random.default_rng(0).integers(0, 256, (32, 64, 3), dtype=np.uint8)
    small = antialiased(pixels, (8, 16))
    assert small.shape == (8, 16, 3)
    assert abs(float(small.mean()) - float(pixels.mean())) < 2
    assert small.std() < 0.5 * pixels.std()


def test_nearest_takes_the_pixel_in_the_middle():
    values = np.arange(6 * 6).reshape(6, 6)
    np.testing.assert_array_equal(nearest(values, (2, 3)), values[[1, 4]][:, [1, 3, 5]])
    assert nearest(values, (12, 12)).shape == (12, 12)
