import gzip
import os
import struct
from pathlib import Path
from runpy import run_path

import numpy as np
import pytest

from equipoise.problems.files import DataError, DataSet
from equipoise.problems.files.idx import (
    FASHION_MNIST,
    MNIST,
    QMNIST,
    ROWS,
    _pictures,
    array,
    pictures,
    written_by,
)

FIXTURES = Path(__file__).parents[1] / "fixtures"
REAL = os.environ.get("EQUIPOISE_DATA", "")
NAME = "train-labels-idx1-ubyte"


def there(data: DataSet):
    folder = Path(REAL) / data.name
    return pytest.mark.skipif(not (REAL and folder.is_dir()), reason=f"{data.name} is not there")


def head(code, *sizes):
    return struct.pack(f">HBB{len(sizes)}I", 0, code, len(sizes), *sizes)


def test_numbers_come_back_as_they_were_written(tmp_path):
    (tmp_path / NAME).write_bytes(head(0x0C, 2, 2) + struct.pack(">4i", 1, -2, 300, -70000))
    assert array(MNIST, tmp_path, NAME, ">i4", 2).tolist() == [[1, -2], [300, -70000]]


def test_a_compressed_file_reads_as_the_plain_one(tmp_path):
    (tmp_path / f"{NAME}.gz").write_bytes(gzip.compress(head(0x08, 3) + bytes([5, 0, 9])))
    assert array(MNIST, tmp_path, NAME, "u1", 1).tolist() == [5, 0, 9]


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "no idx file.*nothing"),
        (b"<html>", "no idx file.*3c68746d"),
        (head(0x0D, 3) + bytes(3), "type 0x0d and 1 dimensions and should have u1 in 1"),
        (head(0x08, 3, 1) + bytes(3), "type 0x08 and 2 dimensions"),
        (head(0x08, 3)[:6], "has 6 bytes"),
        (head(0x08, 3) + bytes(2), r"has 10 bytes, and 11 where its sizes are \[3\]"),
        (head(0x08, 3) + bytes(4), r"has 12 bytes, and 11"),
        (head(0x08, 2**32 - 1) + bytes(4), "4294967295"),
        (head(0x08, 0), "empty"),
    ],
)
def test_what_is_no_such_array_is_refused_by_name_with_a_remedy(tmp_path, content, what):
    (tmp_path / NAME).write_bytes(content)
    with pytest.raises(DataError, match=what) as caught:
        array(MNIST, tmp_path, NAME, "u1", 1)
    assert NAME in str(caught.value) and MNIST.page in str(caught.value)


@pytest.mark.parametrize("where", [12, -5])
def test_a_compressed_file_with_a_wrong_byte_or_sum_is_refused(tmp_path, where):
    content = bytearray(gzip.compress(head(0x08, 500) + bytes(range(250)) * 2))
    content[where] ^= 0x10
    (tmp_path / f"{NAME}.gz").write_bytes(content)
    with pytest.raises(DataError, match=f"{NAME}.gz: it cannot be read"):
        array(MNIST, tmp_path, NAME, "u1", 1)


def test_as_many_labels_as_the_official_ones_and_others_are_refused(tmp_path):
    (tmp_path / NAME).write_bytes(head(0x08, ROWS["train"]) + bytes(ROWS["train"]))
    with pytest.raises(DataError, match=rf"{NAME}: its MD5 is .* should be {MNIST.files[NAME]}"):
        array(MNIST, tmp_path, NAME, "u1", 1)


@pytest.fixture
def small(tmp_path, monkeypatch):
    run_path(str(FIXTURES / "qmnist.py"))["write"](tmp_path)
    monkeypatch.setenv("EQUIPOISE_DATA", str(tmp_path))
    return tmp_path


def complaints(data):
    """Without those about sums: a small data set is not the official one."""
    return [str(each) for each in data.examine(data.folder())]


def test_a_small_data_set_is_read_and_nothing_is_wrong_with_it(small):
    train = pictures(MNIST, "train")
    assert train.images.shape == (60, 28, 28) and train.classes.shape == (60,)
    assert complaints(MNIST) == complaints(QMNIST) == []


@pytest.mark.parametrize(
    ("place", "dot"), [("", True), ("raw/", False), ("MNIST/raw/", False), ("MNIST/raw/", True)]
)
@pytest.mark.parametrize("zipped", [False, True])
def test_other_spellings_and_the_folders_of_torchvision_are_read(small, place, dot, zipped):
    before = pictures(MNIST, "train")
    folder = MNIST.folder()
    for path in list(folder.iterdir()):
        name = path.name.replace("-idx", ".idx") if dot else path.name
        content = path.read_bytes()
        if path.suffix == ".gz":
            name, content = name.removesuffix(".gz"), gzip.decompress(content)
        path.unlink()
        where = folder / place / (f"{name}.gz" if zipped else name)
        where.parent.mkdir(parents=True, exist_ok=True)
        where.write_bytes(gzip.compress(content) if zipped else content)
    _pictures.cache_clear()
    after = pictures(MNIST, "train")
    assert np.array_equal(before.images, after.images)
    assert np.array_equal(before.classes, after.classes)
    assert not list(MNIST.lacking(folder))


def test_a_label_beyond_nine_is_refused_with_its_row(small):
    path = small / "mnist" / NAME
    path.write_bytes(path.read_bytes()[:-1] + bytes([10]))
    with pytest.raises(DataError, match=f"{NAME}: row 59 has the label 10, which none is"):
        pictures(MNIST, "train")
    assert len(complaints(MNIST)) == 1


def test_fewer_labels_than_images_are_refused(small):
    (small / "mnist" / NAME).write_bytes(head(0x08, 59) + bytes(59))
    with pytest.raises(DataError, match=f"{NAME}: it has 59 labels, and train-images.* has 60"):
        pictures(MNIST, "train")


def test_images_of_another_size_are_refused(small):
    path = small / "mnist" / "t10k-images-idx3-ubyte"
    path.write_bytes(head(0x08, 20, 56, 14) + bytes(20 * 56 * 14))
    with pytest.raises(DataError, match=r"its images are \[56, 14\] and should be \[28, 28\]"):
        pictures(MNIST, "t10k")


def rewritten(small, change):
    path = small / "qmnist" / "qmnist-train-labels-idx2-int.gz"
    rows = np.frombuffer(gzip.decompress(path.read_bytes()), ">i4", offset=12).reshape(60, 8).copy()
    rows = change(rows)
    path.write_bytes(gzip.compress(head(0x0C, *rows.shape) + rows.astype(">i4").tobytes()))


@pytest.mark.parametrize(
    ("column", "value", "what"),
    [
        (0, 11, "row 5 has the digit 11"),
        (1, 3, "row 5 has the series 3"),
        (2, -1, "row 5 has the writer -1"),
    ],
)
def test_a_row_of_qmnist_out_of_range_is_refused(small, column, value, what):
    def change(rows):
        rows[5, column] = value
        return rows

    rewritten(small, change)
    with pytest.raises(DataError, match=f"qmnist-train-labels-idx2-int.gz: {what}"):
        written_by("train")
    assert len(complaints(QMNIST)) == 1


def test_digits_that_are_not_those_of_mnist_are_refused_with_both_files(small):
    def change(rows):
        rows[[5, 6], 0] = (rows[[5, 6], 0] + 1) % 10
        return rows

    rewritten(small, change)
    with pytest.raises(DataError, match=rf"idx2-int.gz: row 5 says digit \d, and .*{NAME} says"):
        written_by("train")


@pytest.mark.parametrize(
    ("change", "what"),
    [(lambda rows: rows[:, :7], "7 columns"), (lambda rows: rows[:-1], "59 rows")],
)
def test_a_table_of_another_size_is_refused(small, change, what):
    rewritten(small, change)
    with pytest.raises(DataError, match=what):
        written_by("train")


def test_rows_of_qmnist_without_an_image_are_left_out(small):
    assert written_by("t10k").shape == (20, 8)


@pytest.mark.parametrize(
    "data", [pytest.param(d, marks=there(d), id=d.name) for d in (MNIST, FASHION_MNIST, QMNIST)]
)
def test_the_official_files_are_whole(data):
    assert list(data.complaints()) == []
