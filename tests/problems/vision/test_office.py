"""Office-31 and Office-Home: a domain a task, folders, the division, and what is wrong with them."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path
from runpy import run_path
from typing import Any

import numpy as np
import pytest
import torch

from equipoise.problems import ByTask, Problem, TaskSampler, presets, problem
from equipoise.problems.files import PLACE, DataError, build
from equipoise.problems.vision import domain_folders, domains
from equipoise.problems.vision.domain_folders import Domains
from equipoise.problems.vision.office31 import OFFICE31
from equipoise.problems.vision.officehome import OFFICEHOME
from equipoise.study.loading import parse
from equipoise.study.preparing import prepared
from equipoise.study.train import run
from equipoise.study.trial import Trial, canonical

pytest.importorskip("PIL")
SETS = {"office31": OFFICE31, "officehome": OFFICEHOME}
SPLITS = ("train", "validation", "test")
FIXTURES = {
    name: run_path(str(Path(__file__).parents[1] / "fixtures" / f"{name}.py")) for name in SETS
}
every = pytest.mark.parametrize("name", list(SETS))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("office")
    for fixture in FIXTURES.values():
        fixture["write"](root)
    return root


@pytest.fixture
def root(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of its own."""
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    monkeypatch.setenv(PLACE, str(tmp_path))
    return tmp_path


def small(name: str, **options: Any) -> Problem:
    return problem(name, **{"network": "small", "width": 8, "size": 16, **options})


def place(root: Path, of: Domains, number: int = 0) -> Path:
    """Folder of the classes of a domain."""
    return root / of.folder / list(of.domains.values())[number]


@every
def test_every_domain_is_a_task_with_images_of_its_own(root: Path, name: str) -> None:
    made = small(name)
    assert [task.name for task in made.tasks] == list(FIXTURES[name]["COUNTS"])
    batch = next(iter(made.source("train").batches(24, 0)))
    assert isinstance(batch.inputs, ByTask)
    assert set(batch.targets) == set(batch.inputs) == set(SETS[name].domains)
    parts = [len(target) for target in batch.targets.values()]
    assert parts == [24 // len(parts)] * len(parts)


@every
def test_every_class_of_a_domain_is_divided_60_20_20(root: Path, name: str) -> None:
    made = small(name)
    classes = len(FIXTURES[name]["CLASSES"])
    for domain, count in FIXTURES[name]["COUNTS"].items():
        rows = []
        for split in SPLITS:
            source = made.source(split).sources[domain]
            rows += source.rows.tolist()
            per_class = np.bincount(source.targets[domain], minlength=classes)
            share = {"train": count - 2 * round(0.2 * count)}.get(split, round(0.2 * count))
            assert per_class.tolist() == [share] * classes
        assert len(rows) == len(set(rows)) == count * classes


@every
def test_the_division_is_always_the_same(root: Path, name: str) -> None:
    first = {d: s.rows.tolist() for d, s in small(name).source("train").sources.items()}
    domains._examples.cache_clear()
    again = {d: s.rows.tolist() for d, s in small(name).source("train").sources.items()}
    assert first == again


def test_labels_are_the_folders_that_images_lie_in(root: Path) -> None:
    for split in SPLITS:
        for domain, source in small("officehome").source(split).sources.items():
            for row, label in zip(source.rows, source.targets[domain], strict=True):
                where = Path(source.recipe.items[row])
                assert where.parts[0] == domain
                assert where.parts[1] == FIXTURES["officehome"]["CLASSES"][label]


@every
@pytest.mark.parametrize("augment", [False, True])
def test_prepared_batches_are_those_decoded_on_the_way(
    root: Path, name: str, augment: bool
) -> None:
    made = small(name, augment=augment)
    want = [list(made.source("train").batches(12, seed)) for seed in (None, 1)]
    side = 16 * 256 // 224 if augment else 16
    build(root / SETS[name].folder, SETS[name].recipe(root / SETS[name].folder, side))
    domains._examples.cache_clear()
    again = small(name, augment=augment).source("train")
    assert all(source.prepared is not None for source in again.sources.values())
    for one, seed in zip(want, (None, 1), strict=True):
        for a, b in zip(one, again.batches(12, seed), strict=True):
            assert set(a.inputs) == set(b.inputs)
            for domain in a.inputs:
                assert a.inputs[domain].shape[1:] == (3, 16, 16)
                assert torch.equal(a.inputs[domain], b.inputs[domain])
                assert torch.equal(a.targets[domain], b.targets[domain])


def test_augmentation_touches_training_batches_only(root: Path) -> None:
    made = small("office31", augment=True)
    one, other = (next(iter(made.source("train").batches(9, seed))) for seed in (1, 2))
    assert not torch.equal(one.inputs["dslr"], other.inputs["dslr"])
    in_order = [next(iter(made.source("validation").batches(9, None))) for _ in range(2)]
    assert torch.equal(in_order[0].inputs["amazon"], in_order[1].inputs["amazon"])


def test_domains_can_be_drawn_one_a_batch(root: Path) -> None:
    source = small("office31", sampling=1.0).source("train")
    assert source.draw == TaskSampler(temperature=1.0)
    seen = [list(batch.targets) for batch in source.batches(6, 0)]
    assert all(len(each) == 1 for each in seen)
    assert len(seen) == 54 // 6 + 18 // 6 + 24 // 6
    with pytest.raises(ValueError, match="sampling is 'apart'"):
        small("office31", sampling="apart")


def test_rows_limit_every_domain(root: Path) -> None:
    made = small("office31", rows=8)
    sizes = {s: [len(each) for each in made.source(s).sources.values()] for s in SPLITS}
    assert sizes == {"train": [8, 8, 8], "validation": [2, 2, 2], "test": [2, 2, 2]}


@every
def test_networks_learn_the_classes(root: Path, name: str) -> None:
    quick = presets(name)["quick"]
    found = run(
        Trial(
            problem=name,
            problem_options=canonical({**quick["problem_options"], "size": 32}),
            method="ew",
            stage="final",
            seed=0,
            learning_rate=quick["learning_rates"][0],
            epochs=quick["epochs"],
            batch_size=quick["batch_size"],
        )
    )
    got = [m.value for m in found.metrics if m.split == "test" and m.metric == "accuracy"]
    assert len(got) == len(SETS[name].domains)
    assert min(got) > 34  # 17 by guessing


@every
@pytest.mark.parametrize("preset", ["lin2022", "quick"])
def test_every_preset_is_a_study_that_can_be_run(root: Path, name: str, preset: str) -> None:
    given = presets(name)[preset]
    options = {**given.get("problem_options", {}), "network": "small", "size": 8}
    settings = prepared(parse({**given, "problem": name, "problem_options": options}))
    assert settings[0].steps >= 1


def test_weights_of_a_file_are_where_the_network_begins(root: Path, tmp_path: Path) -> None:
    from equipoise.nn.backbones.resnet import ResNet

    state = ResNet(18).state_dict()
    torch.save(state, tmp_path / "resnet18.pt")
    model = problem("office31", weights=str(tmp_path / "resnet18.pt"), size=32).network(["dslr"])
    assert any(torch.equal(p, state["conv1.weight"]) for p in model.parameters())
    with pytest.raises(ValueError, match="'small' takes no weights"):
        small("office31", weights=str(tmp_path / "resnet18.pt"))
    with pytest.raises(OSError, match="absent"):
        problem("office31", weights=str(tmp_path / "absent.pt"))


def labels_of(made: Problem, domain: str) -> dict[str, int]:
    """The label of every image of a domain, by its path."""
    found = {}
    for split in SPLITS:
        source = made.source(split).sources[domain]
        for row, label in zip(source.rows, source.targets[domain], strict=True):
            found[source.recipe.items[row]] = int(label)
    return found


@every
def test_a_class_that_one_domain_lacks_is_told_by_the_check_and_loads(
    root: Path, name: str
) -> None:
    domain = list(SETS[name].domains)[1]
    before = labels_of(small(name), domain)
    gone = place(root, SETS[name], 1) / FIXTURES[name]["CLASSES"][2]
    shutil.rmtree(gone)
    domain_folders._listing.cache_clear()
    domains._examples.cache_clear()
    after = labels_of(small(name), domain)
    assert after == {path: label for path, label in before.items() if label != 2}
    told = f"{gone}: domain {domain!r} has no image of this class"
    assert told in SETS[name].data.complaints()


@every
@pytest.mark.parametrize("count", [1, 2, 4])
def test_few_images_of_a_class_and_any_names_load(root: Path, name: str, count: int) -> None:
    """Of one class of a domain: one image is for training, of two one is held out."""
    few = place(root, SETS[name]) / FIXTURES[name]["CLASSES"][1]
    for number, path in enumerate(sorted(few.iterdir())):
        if number < count:
            path.rename(few / f"photo of mine {7 * number}.JPG")
        else:
            path.unlink()
    domain = next(iter(SETS[name].domains))
    found = [small(name).source(split).sources[domain] for split in SPLITS]
    sizes = [int((source.targets[domain] == 1).sum()) for source in found]
    assert sum(sizes) == count
    assert sizes[0] == max(count - 2, 1)
    assert any("photo" not in line and few.name in line for line in SETS[name].data.complaints())


def test_two_images_of_every_class_are_enough(root: Path) -> None:
    for path in (root / "office31").glob("*/images/*/frame_*.jpg"):
        if path.name > "frame_0002.jpg":
            path.unlink()
    made = small("office31")
    sizes = {s: [len(each) for each in made.source(s).sources.values()] for s in SPLITS}
    assert sizes == {"train": [6, 6, 6], "validation": [3, 3, 3], "test": [3, 3, 3]}


def test_a_split_that_would_be_empty_is_told(root: Path) -> None:
    for path in (root / "office31" / "dslr").glob("images/*/frame_*.jpg"):
        if path.name > "frame_0001.jpg":
            path.unlink()
    with pytest.raises(DataError, match="'dslr' has 6 images, which leave none for validation"):
        small("office31")


@every
def test_a_class_without_images_is_told_by_the_check(root: Path, name: str) -> None:
    empty = place(root, SETS[name]) / FIXTURES[name]["CLASSES"][1]
    for path in empty.iterdir():
        path.unlink()
    (empty / "Thumbs.db").write_bytes(b"x")
    small(name)
    assert any(str(empty) in line for line in SETS[name].data.complaints())


@every
def test_an_image_missing_among_its_numbers_is_told_by_the_check(root: Path, name: str) -> None:
    gone = place(root, SETS[name]) / FIXTURES[name]["CLASSES"][1] / SETS[name].named.format(2)
    gone.unlink()
    small(name)
    assert any(f"{gone}: this image is not there" in x for x in SETS[name].data.complaints())


@every
def test_a_folder_of_no_class_and_a_missing_domain_are_told(root: Path, name: str) -> None:
    (place(root, SETS[name]) / "bycicle").mkdir()
    with pytest.raises(DataError, match="bycicle: this folder is none of the"):
        small(name)
    shutil.rmtree(place(root, SETS[name]))
    with pytest.raises(DataError, match="this folder cannot be read") as caught:
        small(name)
    assert caught.value.file == place(root, SETS[name])


@every
def test_stray_files_are_passed_over(root: Path, name: str) -> None:
    before = small(name).source("train").sources
    for folder in (place(root, SETS[name]), place(root, SETS[name]) / FIXTURES[name]["CLASSES"][0]):
        for stray in ("Thumbs.db", ".DS_Store", "readme.txt"):
            (folder / stray).write_bytes(b"x")
    (place(root, SETS[name]) / ".cache").mkdir()
    domains._examples.cache_clear()
    after = small(name).source("train").sources
    assert all(np.array_equal(before[d].rows, after[d].rows) for d in before)


@every
def test_a_corrupt_image_is_told_by_name(root: Path, name: str) -> None:
    path = place(root, SETS[name]) / FIXTURES[name]["CLASSES"][0] / SETS[name].named.format(1)
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(DataError, match=path.name):
        for split in SPLITS:
            list(small(name).source(split).batches(8, None))
    told = list(SETS[name].data.complaints())
    assert any(path.name in line and "cannot be decoded" in line for line in told)
    # And that it is a part of the whole only.
    assert any("classes are missing" in line for line in told)


def test_another_number_of_images_than_the_publishers_is_told_by_the_check(root: Path) -> None:
    few = replace(OFFICE31, classes=FIXTURES["office31"]["CLASSES"])
    assert len(few.listing(root / "office31").items) == 168
    told = list(few.data.complaints())
    assert any("'amazon' has 90 images and its publisher 2,817" in line for line in told)
    right = replace(few, counts={"amazon": 90, "dslr": 30, "webcam": 48})
    assert list(right.data.complaints()) == []


@pytest.mark.parametrize(
    ("name", "count", "total"), [("office31", 31, 4110), ("officehome", 65, 15588)]
)
def test_classes_and_counts_are_those_of_the_publisher(name: str, count: int, total: int) -> None:
    assert len(set(SETS[name].classes)) == len(SETS[name].classes) == count
    assert sum(SETS[name].counts.values()) == total
    assert set(SETS[name].counts) == set(SETS[name].domains)


@every
def test_the_official_images_are_all_there(name: str) -> None:
    there = Path(os.environ.get(PLACE) or "nowhere") / SETS[name].folder
    if not there.is_dir():
        pytest.skip(f"no {SETS[name].folder} here")
    assert len(SETS[name].listing(there).items) == sum(SETS[name].counts.values())
