"""Images from files: whole, at the size asked for, or refused by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from equipoise.problems.files import DataError
from equipoise.problems.files.images import MOST, images_in, pixels, wrong_among

Image = pytest.importorskip("PIL.Image")


@pytest.fixture
def jpeg(tmp_path: Path) -> Path:
    draw = np.random.default_rng(0)
    path = tmp_path / "one.jpg"
    Image.fromarray(draw.integers(0, 256, (40, 30, 3), dtype=np.uint8)).save(path)
    return path


def test_an_image_is_three_planes_of_the_size_asked_for(jpeg: Path) -> None:
    found = pixels(jpeg, (8, 12))
    assert found.shape == (3, 8, 12)
    assert found.dtype == np.uint8
    assert found.flags.c_contiguous


def test_an_image_of_the_right_size_is_left_as_it_is(tmp_path: Path) -> None:
    want = np.random.default_rng(1).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    Image.fromarray(want).save(tmp_path / "a.png")
    assert np.array_equal(pixels(tmp_path / "a.png", (5, 7)), want.transpose(2, 0, 1))


def test_shrinking_takes_the_pixels_between_into_account(tmp_path: Path) -> None:
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 200
    Image.fromarray(stripes).save(tmp_path / "a.png")
    # Every second column alone would be black or 200 all over.
    assert abs(pixels(tmp_path / "a.png", (16, 16)).mean() - 100) < 3


def test_grey_is_shown_in_three_colours_unless_colours_are_expected(tmp_path: Path) -> None:
    Image.new("L", (4, 4), 77).save(tmp_path / "grey.jpg")
    assert (pixels(tmp_path / "grey.jpg", (4, 4)) == 77).all()
    with pytest.raises(DataError, match=r"grey\.jpg: the image has the colours 'L'.*RGB"):
        pixels(tmp_path / "grey.jpg", (4, 4), modes=("RGB",))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "I;16", "F"])
def test_colours_that_would_lose_something_are_refused(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "odd.tiff"
    Image.new(mode, (4, 4)).save(path)
    with pytest.raises(DataError, match=r"odd\.tiff: the image has the colours"):
        pixels(path, (4, 4))


def test_the_last_byte_counts_and_not_the_header_alone(jpeg: Path) -> None:
    content = jpeg.read_bytes()
    for kept in (len(content) - 40, len(content) // 2, 30, 1, 0):
        jpeg.write_bytes(content[:kept])
        with pytest.raises(DataError, match=r"one\.jpg: the image cannot be decoded") as caught:
            pixels(jpeg, (8, 8))
        assert caught.value.file == jpeg


def test_an_image_of_another_size_than_expected_is_refused(jpeg: Path) -> None:
    assert pixels(jpeg, (8, 8), original=(40, 30)).shape == (3, 8, 8)
    with pytest.raises(DataError, match=r"30 x 40 pixels and should be 178 x 218"):
        pixels(jpeg, (8, 8), original=(218, 178))


def test_what_is_no_image_or_not_there_is_told_by_name(tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("no image")
    (tmp_path / "folder.jpg").mkdir()
    for name in ("text.jpg", "folder.jpg", "absent.jpg"):
        with pytest.raises(DataError, match=name.replace(".", r"\.")):
            pixels(tmp_path / name, (4, 4))


def test_flipped_bytes_are_refused_by_name_or_give_an_image(jpeg: Path) -> None:
    content = jpeg.read_bytes()
    draw = np.random.default_rng(3)
    refused = 0
    for where in draw.integers(0, len(content), 60):
        mask = int(draw.integers(1, 256))
        jpeg.write_bytes(content[:where] + bytes([content[where] ^ mask]) + content[where + 1 :])
        try:
            assert pixels(jpeg, (8, 8)).shape == (3, 8, 8)
        except DataError as error:
            assert "one.jpg" in str(error)
            refused += 1
    assert refused > 0


def test_images_of_a_folder_are_in_order_without_what_is_none(tmp_path: Path) -> None:
    for name in ("b.jpg", "a.JPG", "Thumbs.db", ".hidden.jpg", "notes.txt", "c.png"):
        (tmp_path / name).write_bytes(b"")
    assert images_in(tmp_path) == ["a.JPG", "b.jpg", "c.png"]
    with pytest.raises(DataError, match="nowhere"):
        images_in(tmp_path / "nowhere")


def test_only_the_first_wrong_images_are_told_one_by_one(jpeg: Path, tmp_path: Path) -> None:
    gone = [tmp_path / f"{number}.jpg" for number in range(MOST + 5)]
    told = list(wrong_among([jpeg, *gone, jpeg], lambda path: pixels(path, (2, 2))))
    assert len(told) == MOST + 1
    assert "0.jpg" in told[0]
    assert told[-1] == "and 5 more images are wrong"
