"""What damaged files do to a problem: an error that names the file, or the same labels as before."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice, zip_longest
from pathlib import Path
from runpy import run_path
from typing import Any

import numpy as np
import pytest
import torch

from equipoise.problems import Problem, problem
from equipoise.problems.files import PLACE
from equipoise.problems.nesting import tensors

FIXTURES = sorted(
    path for path in (Path(__file__).parent / "fixtures").glob("*.py") if path.name[0] != "_"
)
SPLITS = ("train", "validation", "test")
FLIPS = 12
# Flips of a fixture: where it has many files each gets fewer, and of very many files some of each kind stand
# for all.
MOST, FILES = 72, 10
# What nothing in a format can tell: no checksum, and no second place that says the same. A label that comes
# of it must still be one that there is.
FREE = {
    (
        "multifashion",
        "byte",
    ): "idx files that were unpacked: a byte a label, and a sum of the official ones only",
    ("cityscapes", "byte"): ".npy files: the bytes of the numbers as they are",
    ("nyuv2", "byte"): ".npy files: the bytes of the numbers as they are",
    ("pascal_context", "cut"): "lists of names: a shorter one is as good",
    ("office31", "missing"): "folders of images: one fewer is as good, and told by the check",
    ("officehome", "missing"): "folders of images: one fewer is as good, and told by the check",
}

Damage = Callable[[bytes], bytes | None]
Labels = list[torch.Tensor]


def forget() -> None:
    """Empties every cache of the problems, so that files are read again."""
    for name, module in list(sys.modules.items()):
        if name.startswith("equipoise.problems"):
            for value in list(vars(module).values()):
                for each in (value, *vars(value).values()) if isinstance(value, type) else (value,):
                    if callable(clear := getattr(each, "cache_clear", None)):
                        clear()


def read(build: Callable[[], Problem]) -> Labels:
    """Every label of every split, in order."""
    forget()
    made = build()
    found = []
    for split in SPLITS:
        for batch in made.source(split).batches(made.piece, None):
            for task in made.tasks:
                found += [t.clone() for t in tensors(batch.targets.get(task.name, ()))]
    return found


def alike(one: Labels, other: Labels) -> bool:
    return len(one) == len(other) and all(
        a.shape == b.shape
        and a.dtype == b.dtype
        and bool(((a == b) | (a.isnan() & b.isnan())).all())
        for a, b in zip(one, other, strict=True)
    )


def flips(size: int, count: int, random: np.random.Generator) -> Iterator[tuple[str, Damage]]:
    """One changed byte each: a third of them in the first 32, a quarter in the last 32, the rest between."""
    for number in range(count):
        low, high = (
            (0, 32) if number % 12 < 4 else (size - 32, size) if number % 12 < 7 else (0, size)
        )
        where = int(random.integers(max(low, 0), min(high, size)))
        mask = int(random.integers(1, 256))

        def damage(content: bytes, where: int = where, mask: int = mask) -> bytes:
            return content[:where] + bytes([content[where] ^ mask]) + content[where + 1 :]

        yield f"byte {where} of {size} xor {mask}", damage


def lengths() -> Iterator[tuple[str, Damage]]:
    yield "cut to half", lambda content: content[: len(content) // 2]
    yield "empty", lambda content: b""
    yield "missing", lambda content: None


def in_turn(files: Sequence[Path]) -> Iterator[Path]:
    """The files, from every folder and of every kind one after the other."""
    kinds: dict[tuple[Path, str], list[Path]] = {}
    for file in files:
        kinds.setdefault((file.parent, file.suffix), []).append(file)
    return (file for each in zip_longest(*kinds.values()) for file in each if file is not None)


class Fixture:
    """A small data set and the problem that reads it."""

    def __init__(self, path: Path, root: Path) -> None:
        module = run_path(str(path))
        self.name = path.stem
        self.options = module["OPTIONS"]
        self.whole, self.copy = root / "whole", root / "copy"
        self.whole.mkdir()
        module["write"](self.whole)
        self.random = np.random.default_rng(sum(map(ord, self.name)))
        self.files = sorted(p.relative_to(self.whole) for p in self.whole.rglob("*") if p.is_file())
        self.files = list(islice(in_turn(self.files), FILES))

    def build(self) -> Problem:
        return problem(self.name, **self.options)

    def with_file(self, file: Path, content: bytes | None, folder: bool = False) -> None:
        """Makes a copy in which one file is another. Nothing that may be mapped into memory is written to."""
        shutil.rmtree(self.copy, ignore_errors=True)
        shutil.copytree(self.whole, self.copy, copy_function=os.link)
        (self.copy / file).unlink()
        if content is not None:
            (self.copy / file).write_bytes(content)
        elif folder:
            (self.copy / file).mkdir()

    def outcome(self, file: Path, what: str, before: Labels) -> bool:
        """Whether the damage was noticed.

        Raises:
            AssertionError: it was noticed without a name, or it changed labels without a word.
        """
        told = f"{self.name}: {file} {what}"
        try:
            after = read(self.build)
        except ValueError as error:
            name = file.name.removesuffix(".gz")
            assert name in str(error), f"{told}: the error does not name the file: {error!r}"
            return True
        except Exception as error:
            raise AssertionError(f"{told}: {error!r} is no ValueError") from error
        if alike(before, after):
            return False
        kind = what.split()[0]
        assert (self.name, kind) in FREE, f"{told}: other labels, and no error"
        if kind == "byte":
            assert [t.shape for t in before] == [t.shape for t in after], f"{told}: other rows"
        self.assert_possible(told)
        return False

    def assert_possible(self, told: str) -> None:
        """Every label is one that the network has an output for."""
        made = self.build()
        model = made.network([task.name for task in made.tasks])
        for split in SPLITS:
            for batch in made.source(split).batches(made.piece, None):
                with torch.no_grad():
                    losses = made.losses_of(model, batch)
                assert all(bool(loss.isfinite()) for loss in losses.values()), f"{told}: {losses}"


@pytest.fixture
def fixture(request: pytest.FixtureRequest, tmp_path_factory: Any, monkeypatch: Any) -> Any:
    # A folder whose own name is in no file's name.
    made = Fixture(request.param, tmp_path_factory.mktemp("fuzz"))
    monkeypatch.setenv(PLACE, str(made.whole))
    try:
        made.before = read(made.build)
    except ImportError as error:
        pytest.skip(str(error))
    monkeypatch.setenv(PLACE, str(made.copy))
    yield made
    forget()


every_fixture = pytest.mark.parametrize(
    "fixture", FIXTURES, ids=[path.stem for path in FIXTURES], indirect=True
)


@every_fixture
def test_a_flipped_byte_is_told_with_its_file_or_changes_no_label(fixture: Any) -> None:
    each = min(FLIPS, max(2, MOST // len(fixture.files)))
    for file in fixture.files:
        content = (fixture.whole / file).read_bytes()
        for what, damage in flips(len(content), each, fixture.random):
            fixture.with_file(file, damage(content))
            fixture.outcome(file, what, fixture.before)


@every_fixture
def test_a_file_cut_short_or_missing_is_told_with_its_name(fixture: Any) -> None:
    noticed = 0
    for file in fixture.files:
        content = (fixture.whole / file).read_bytes()
        for what, damage in lengths():
            fixture.with_file(file, damage(content))
            noticed += fixture.outcome(file, what, fixture.before)
        fixture.with_file(file, None, folder=True)
        noticed += fixture.outcome(file, "a folder in its place", fixture.before)
    # Or else nothing was read again, and the test says nothing.
    assert noticed > 0


@every_fixture
def test_a_whole_copy_reads_as_before(fixture: Any) -> None:
    fixture.with_file(fixture.files[0], (fixture.whole / fixture.files[0]).read_bytes())
    assert alike(fixture.before, read(fixture.build))
    assert len(fixture.before) > 0


@contextmanager
def without_rights() -> Iterator[None]:
    """As somebody whose rights are checked, which those of root are not."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


@pytest.mark.skipif(os.name == "nt", reason="rights of Unix")
@every_fixture
def test_what_may_not_be_read_is_told_with_its_name(fixture: Any, monkeypatch: Any) -> None:
    # Below a folder that everybody may pass, which those of pytest are not.
    place = Path(tempfile.mkdtemp())
    place.chmod(0o755)
    try:
        whole = place / "copy"
        shutil.copytree(fixture.whole, whole, ignore=shutil.ignore_patterns("prepared"))
        monkeypatch.setenv(PLACE, str(whole))
        folders, files = list(whole.iterdir()), [whole / file for file in fixture.files[:4]]
        told = {}
        for path in (*folders, *files):
            mode = path.stat().st_mode
            path.chmod(0)
            try:
                with without_rights():
                    told[path] = fixture.outcome(path, "closed", fixture.before)
            finally:
                path.chmod(mode)
        # A file of labels that are not asked for is not read.
        assert all(told[folder] for folder in folders) and any(told[file] for file in files)
    finally:
        shutil.rmtree(place)
