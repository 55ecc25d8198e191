"""Batches of images: the same whether prepared or decoded on the way, and drawn by the seed alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from equipoise.problems import Batch
from equipoise.problems.files import DataError, Recipe, build
from equipoise.problems.vision import image_source
from equipoise.problems.vision.image_source import IMAGE, ImageSource, scaled

COUNT, SIDE = 23, 6


def _image(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (3, SIDE, SIDE), dtype=np.uint8)


def _decode(folder: Path, item: str) -> dict[str, np.ndarray]:
    if item == "40":
        raise DataError(folder / item, "it is wrong", "fetch it anew")
    return {IMAGE: _image(int(item))}


def source(folder: Path, first: int = 0, **options: object) -> ImageSource:
    """Every second image of 46 in all."""
    items = [str(first + number) for number in range(2 * COUNT)]
    recipe = Recipe(
        key="all", items=items, layout={IMAGE: ((3, SIDE, SIDE), "uint8")}, decode=_decode
    )
    rows = np.arange(0, 2 * COUNT, 2)
    return ImageSource(
        folder=folder,
        recipe=recipe,
        rows=rows,
        targets={"a": torch.from_numpy(rows + first)},
        **options,
    )


def batches(of: ImageSource, size: int, seed: int | None) -> list[Batch]:
    return list(of.batches(size, seed))


def same(one: list[Batch], other: list[Batch]) -> bool:
    return len(one) == len(other) and all(
        torch.equal(a.inputs, b.inputs) and torch.equal(a.targets["a"], b.targets["a"])
        for a, b in zip(one, other, strict=True)
    )


@pytest.mark.parametrize("crop", [None, 4])
@pytest.mark.parametrize("seed", [None, 0, 5])
def test_prepared_batches_are_those_decoded_on_the_way(
    tmp_path: Path, seed: int | None, crop: int | None
) -> None:
    plain = source(tmp_path, 100, crop=crop)
    want = batches(plain, 5, seed)
    assert plain.prepared is None
    build(tmp_path, plain.recipe)
    prepared = source(tmp_path, 100, crop=crop)
    assert prepared.prepared is not None
    assert same(batches(prepared, 5, seed), want)


def test_images_and_targets_belong_together(tmp_path: Path) -> None:
    for batch in batches(source(tmp_path, 100), 5, 3):
        want = torch.from_numpy(np.stack([_image(int(row)) for row in batch.targets["a"]]))
        assert torch.equal(batch.inputs, scaled(want))


def test_the_seed_decides_order_and_cuts_and_none_is_in_order(tmp_path: Path) -> None:
    made = source(tmp_path, 100, crop=4)
    assert same(batches(made, 4, 1), batches(made, 4, 1))
    assert not same(batches(made, 4, 1), batches(made, 4, 2))
    whole = batches(made, 10, None)
    assert [batch.size for batch in whole] == [10, 10, 3]
    assert torch.cat([batch.targets["a"] for batch in whole]).tolist() == list(range(100, 146, 2))
    # From the middle, and as it is.
    want = scaled(torch.from_numpy(np.stack([_image(100)])))[:, :, 1:5, 1:5]
    assert torch.equal(whole[0].inputs[:1], want)


def test_shuffled_batches_are_full_and_of_different_images(tmp_path: Path) -> None:
    made = source(tmp_path, 100)
    found = batches(made, 5, 0)
    assert len(found) == made.steps(5) == 4
    rows = torch.cat([batch.targets["a"] for batch in found]).tolist()
    assert len(set(rows)) == len(rows) == 20
    assert [batch.size for batch in batches(made, 1000, 0)] == [COUNT]


def test_cuts_differ_from_image_to_image_and_some_are_mirrored(tmp_path: Path) -> None:
    made = source(tmp_path, 100, crop=5)
    seen = set()
    for batch in batches(made, COUNT, 0):
        for image, row in zip(batch.inputs, batch.targets["a"], strict=True):
            whole = scaled(torch.from_numpy(_image(int(row)))[None])[0]
            for mirrored in (False, True):
                for top in range(2):
                    for left in range(2):
                        cut = whole[:, top : top + 5, left : left + 5]
                        if torch.equal(image, cut.flip(-1) if mirrored else cut):
                            seen.add((mirrored, top, left))
    assert len(seen) == 8


def test_batches_in_order_are_no_larger_than_fit(tmp_path: Path) -> None:
    sizes = [batch.size for batch in batches(source(tmp_path, 100, most=8), 1024, None)]
    assert sizes == [8, 8, 7]


def test_each_image_is_decoded_once_where_all_fit_and_again_where_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def decode(folder: Path, item: str) -> dict[str, np.ndarray]:
        asked.append(item)
        return _decode(folder, item)

    made = source(tmp_path, 100)
    made = replace(made, recipe=replace(made.recipe, decode=decode))
    first = batches(made, 5, None)
    assert same(batches(made, 5, None), first)
    assert len(asked) == COUNT
    monkeypatch.setattr(image_source, "KEPT", 10)
    other = replace(made)
    assert same(batches(other, 5, None), first)
    assert same(batches(other, 5, None), first)
    assert len(asked) == 3 * COUNT


def test_an_image_that_cannot_be_decoded_is_told_where_it_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="40: it is wrong"):
        batches(source(tmp_path), 5, None)


def test_inputs_are_about_zero_and_one_in_size() -> None:
    found = scaled(torch.randint(0, 256, (8, 3, 16, 16), dtype=torch.uint8))
    assert abs(float(found.mean())) < 0.5
    assert 0.8 < float(found.std()) < 1.6
    black = scaled(torch.zeros(1, 3, 1, 1, dtype=torch.uint8)).flatten()
    assert torch.allclose(black, torch.tensor([-2.1179, -2.0357, -1.8044]), atol=1e-4)
