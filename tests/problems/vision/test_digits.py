import numpy as np
import pytest
import torch

from equipoise.problems import problem
from equipoise.problems.vision.digits import SPLITS, digits, images, pairs, sources


def test_no_source_image_is_in_two_splits():
    used = {split: set(pairs(split).ravel().tolist()) for split in SPLITS}
    assert not used["train"] & used["validation"]
    assert not used["train"] & used["test"]
    assert not used["validation"] & used["test"]
    assert sum(map(len, sources().values())) == 1797


@pytest.mark.parametrize("split", SPLITS)
def test_every_class_has_its_share_of_every_split(split):
    _, classes = images()
    share = np.bincount(classes[sources()[split]], minlength=10) / len(sources()[split])
    whole = np.bincount(classes, minlength=10) / len(classes)
    assert np.abs(share - whole).max() < 0.01


@pytest.mark.parametrize("split", SPLITS)
def test_the_two_digits_of_a_canvas_are_of_different_classes(split):
    targets = digits().data(split).targets
    assert not (targets["left"] == targets["right"]).any()


def test_canvases_show_both_digits_overlapping_with_pixels_between_zero_and_one():
    data = digits().data("validation")
    pixels, _ = images()
    left, right = pairs("validation")[0]
    assert data.inputs.shape[1:] == (1, 12, 12)
    assert data.inputs.min() == 0 and data.inputs.max() == 1
    # Where they overlap the brighter pixel shows: neither digit keeps all of its ink, none gains any.
    ink = float(data.inputs[0].sum())
    alone = sorted([float(pixels[left].sum()), float(pixels[right].sum())])
    assert alone[1] < ink <= sum(alone)
    assert sum(float(canvas.sum()) for canvas in data.inputs) < 0.97 * float(
        pixels[pairs("validation")].sum()
    )


def test_the_third_target_is_the_clean_left_digit():
    data = digits().data("test")
    pixels, classes = images()
    left = pairs("test")[:, 0]
    assert np.array_equal(data.targets["reconstruct"].numpy(), pixels[left].reshape(len(left), 64))
    assert np.array_equal(data.targets["left"].numpy(), classes[left])


def test_the_data_do_not_depend_on_the_seed_of_torch():
    torch.manual_seed(1)
    first = digits().data("train").inputs.clone()
    torch.manual_seed(2)
    assert torch.equal(first, digits().data("train").inputs)


def test_a_model_of_one_task_has_only_that_head():
    model = digits(width=16).model(["right"])
    out = model(torch.rand(3, 1, 12, 12))
    assert {task: tuple(y.shape) for task, y in out.items()} == {"right": (3, 10)}


def test_width_sets_the_number_of_shared_features():
    sizes = [
        sum(p.numel() for p in digits(width=w).model(["left"]).parameters()) for w in (16, 32, 64)
    ]
    assert sizes[0] < sizes[1] < sizes[2]


def test_width_below_eight_is_refused():
    with pytest.raises(ValueError, match=r"width is 4.*8 features or more"):
        problem("digits", width=4)


def test_squared_error_starts_far_below_the_cross_entropies():
    built = digits()
    torch.manual_seed(0)
    data = built.data("validation")
    out = built.model(["left", "right", "reconstruct"])(data.inputs)
    losses = {t.name: t.loss(out[t.name], data.targets[t.name]).item() for t in built.tasks}
    assert losses["reconstruct"] < losses["left"] / 5
    assert losses["reconstruct"] < losses["right"] / 5
