"""Files of a data set: found compressed or not, and every fault named with its remedy."""

import gzip
import hashlib
import pickle

import pytest

from equipoise.problems.files import PLACE, DataError, DataSet, needs

CONTENT = b"1\t0\n"
GOOD = hashlib.md5(CONTENT).hexdigest()


def examined(folder):
    if b"9" in (folder / "a.tsv").read_bytes():
        yield "a.tsv: a label is 9"


SET = DataSet(
    name="letters",
    page="https://letters.example",
    licence="CC0",
    files={"a.tsv": None, "b.tsv": GOOD, "images/*.png": None, "extra.txt": None},
    optional=frozenset({"extra.txt"}),
    examine=examined,
)


@pytest.fixture
def root(tmp_path, monkeypatch):
    folder = tmp_path / "letters"
    (folder / "images").mkdir(parents=True)
    (folder / "a.tsv").write_bytes(CONTENT)
    (folder / "b.tsv.gz").write_bytes(gzip.compress(CONTENT))
    (folder / "images" / "1.png").write_bytes(b"")
    monkeypatch.setenv(PLACE, str(tmp_path))
    return tmp_path


def test_files_are_found_compressed_or_not(root):
    assert SET.file("a.tsv") == root / "letters" / "a.tsv"
    assert SET.file("b.tsv") == root / "letters" / "b.tsv.gz"
    assert not list(SET.complaints())


def test_the_place_is_asked_for(monkeypatch, tmp_path):
    monkeypatch.delenv(PLACE, raising=False)
    with pytest.raises(DataError, match=rf"no folder .*{PLACE} or --data-root"):
        SET.folder()
    with pytest.raises(DataError, match=r"letters: there is no such folder.*letters.example"):
        SET.folder(tmp_path)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda f: (f / "a.tsv").unlink(), r"a\.tsv: there is no such file; get the data from"),
        (
            lambda f: (f / "b.tsv.gz").write_bytes(gzip.compress(b"x")),
            r"b\.tsv\.gz: its MD5 is \w+ and should be",
        ),
        (
            lambda f: (f / "b.tsv.gz").write_bytes(gzip.compress(CONTENT)[:-3]),
            r"b\.tsv\.gz: it cannot be read",
        ),
        (lambda f: (f / "images" / "1.png").unlink(), r"\*\.png: there is no such file"),
        (lambda f: (f / "a.tsv").write_bytes(b"1\t9\n"), "a label is 9"),
    ],
)
def test_every_fault_is_a_sentence(root, spoil, told):
    spoil(root / "letters")
    (complaint,) = SET.complaints()
    import re

    assert re.search(told, complaint), complaint


def test_the_error_survives_the_way_between_processes(root):
    with pytest.raises(DataError) as caught:
        SET.file("c.tsv")
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == str(caught.value) and again.file.name == "c.tsv"


def test_a_library_that_is_missing_names_its_extra():
    with pytest.raises(ImportError, match=r'pip install "equipoise\[vision\]"') as caught:
        needs("no_such_library.part", "vision")
    assert isinstance(caught.value, ValueError)


def test_one_file_of_a_group_is_enough(root):
    either = DataSet(
        name="letters",
        page=SET.page,
        licence="CC0",
        files={"a.tsv": None, "z.tsv": None, "y/*.png": None},
        one_of=(("a.tsv", "z.tsv"), ("b.tsv", "y/*.png")),
    )
    assert not list(either.complaints())
    (root / "letters" / "a.tsv").unlink()
    (complaint,) = either.complaints()
    assert "none of a.tsv, z.tsv is there; get the data from" in complaint
    (root / "letters" / "z.tsv.gz").write_bytes(gzip.compress(b""))
    assert not list(either.complaints())
