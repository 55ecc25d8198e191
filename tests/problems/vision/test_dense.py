"""Losses and metrics of dense tasks, against torchmetrics, scikit-learn and NumPy."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, jaccard_score, precision_recall_curve
from torch.nn import functional
from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex

from equipoise.problems.vision import dense, dense_tasks
from equipoise.problems.vision.dense import Binary, Depth, Normals, Segmentation

CLASSES = 5


def drawn(seed=0, batch=4, height=12, width=10):
    random = torch.Generator().manual_seed(seed)
    scores = torch.randn(batch, CLASSES, height, width, generator=random)
    classes = torch.randint(-1, CLASSES, (batch, height, width), generator=random)
    depth = torch.rand(batch, 1, height, width, generator=random) * 9 + 0.5
    depth[torch.rand(depth.shape, generator=random) < 0.3] = 0
    normals = torch.randn(batch, 3, height, width, generator=random)
    normals = functional.normalize(normals, dim=1)
    normals *= (torch.rand(batch, 1, height, width, generator=random) > 0.3).float()
    guess = torch.randn(batch, 3, height, width, generator=random)
    return scores, classes, depth, normals, guess


def streamed(score, outputs, targets):
    """What it computes batch by batch, after having seen something else and been reset."""
    score.update(outputs[:1], targets[:1])
    score.reset()
    for part in (slice(0, 1), slice(1, 4)):
        score.update(outputs[part], targets[part])
    return score.compute()


def test_miou_and_accuracy_are_those_of_torchmetrics_and_scikit_learn():
    scores, classes, *_ = drawn()
    there = classes >= 0
    labels, guesses = classes[there].numpy(), scores.argmax(1)[there].numpy()
    miou = streamed(Segmentation(CLASSES), scores, classes)
    assert miou == pytest.approx(100 * jaccard_score(labels, guesses, average="macro"))
    theirs = MulticlassJaccardIndex(CLASSES, average="macro", ignore_index=-1)
    assert miou == pytest.approx(100 * float(theirs(scores, classes)), rel=1e-5)
    accuracy = streamed(Segmentation(CLASSES, "accuracy"), scores, classes)
    assert accuracy == pytest.approx(100 * accuracy_score(labels, guesses))
    theirs = MulticlassAccuracy(CLASSES, average="micro", ignore_index=-1)
    assert accuracy == pytest.approx(100 * float(theirs(scores, classes)), rel=1e-5)


def test_a_class_that_is_nowhere_does_not_count_and_one_that_is_only_predicted_counts_as_zero():
    classes = torch.tensor([[[0, 1, 0, -1]]])
    right = functional.one_hot(torch.tensor([[[0, 1, 0, 3]]]), 4).movedim(-1, 1).float()
    assert streamed_once(Segmentation(4), right, classes) == 100
    one_wrong = functional.one_hot(torch.tensor([[[0, 1, 2, 3]]]), 4).movedim(-1, 1).float()
    assert streamed_once(Segmentation(4), one_wrong, classes) == pytest.approx(
        100 * (0.5 + 1 + 0) / 3
    )


def streamed_once(score, outputs, targets):
    score.update(outputs, targets)
    return score.compute()


def test_depth_errors_are_means_over_pixels_with_a_depth():
    _, _, depth, _, guess = drawn()
    outputs = guess[:, :1]
    there = depth != 0
    error = (outputs[there] - depth[there]).abs().numpy().astype(np.float64)
    assert streamed(Depth(), outputs, depth) == pytest.approx(error.mean())
    relative = error / depth[there].numpy()
    assert streamed(Depth(relative=True), outputs, depth) == pytest.approx(relative.mean())


def test_angles_are_those_of_numpy_and_the_median_is_as_exact_as_stated():
    *_, normals, guess = drawn()
    there = (normals != 0).any(1)
    one, other = (n.double().movedim(1, -1)[there].numpy() for n in (guess, normals))
    cosine = (one * other).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)
    angles = np.degrees(np.arccos(cosine.clip(-1, 1)))
    assert streamed(Normals("mean"), guess, normals) == pytest.approx(angles.mean(), abs=1e-3)
    median = streamed(Normals("median"), guess, normals)
    low, high = np.quantile(angles, [0.49, 0.51])
    assert low <= median <= high
    bins = np.floor(np.sort(angles)[(len(angles) - 1) // 2] / dense.RESOLUTION)
    assert median == pytest.approx((bins + 0.5) * dense.RESOLUTION, abs=1.01 * dense.RESOLUTION)
    for limit in dense.THRESHOLDS:
        share = 100 * (angles < limit).mean()
        assert streamed(Normals(limit), guess, normals) == pytest.approx(share, abs=0.3)


def test_an_angle_of_a_thousandth_of_a_degree_is_told():
    one = torch.tensor([0.0, 0.0, 1.0])
    tilt = math.radians(1e-3)
    other = torch.tensor([math.sin(tilt), 0.0, math.cos(tilt)])
    assert float(dense.degrees(one, other)) == pytest.approx(1e-3, rel=1e-3)


def test_the_best_f_is_that_of_scikit_learn():
    random = torch.Generator().manual_seed(3)
    targets = torch.randint(-1, 2, (4, 1, 9, 9), generator=random).float()
    outputs = torch.randn(targets.shape, generator=random) + targets
    there = targets >= 0
    chance = outputs[there].sigmoid().mul(256).floor().clamp_max(255)
    precision, recall, _ = precision_recall_curve(targets[there].numpy(), chance.numpy())
    f = 1.3 * precision * recall / np.maximum(0.3 * precision + recall, 1e-9)
    found = streamed(Binary("f", square=0.3), outputs, targets)
    assert found == pytest.approx(100 * f.max(), rel=1e-6)
    on = (chance >= 128).numpy()
    iou = jaccard_score(targets[there].numpy(), on)
    assert streamed(Binary("iou"), outputs, targets) == pytest.approx(100 * iou)


def test_losses_are_means_over_labelled_pixels():
    scores, classes, depth, normals, guess = drawn()
    there = classes >= 0
    mean = functional.cross_entropy(scores.movedim(1, -1)[there], classes[there])
    torch.testing.assert_close(dense.cross_entropy(scores, classes), mean)
    there = depth != 0
    mean = (guess[:, :1][there] - depth[there]).abs().mean()
    torch.testing.assert_close(dense.masked_l1(guess[:, :1], depth), mean)
    there = (normals != 0).any(1)
    cosines = functional.cosine_similarity(guess, normals, dim=1)[there]
    torch.testing.assert_close(dense.masked_cosine(guess, normals), 1 - cosines.mean())


def test_the_balanced_loss_weighs_the_few_as_the_many():
    outputs = torch.randn(2, 1, 5, 5, generator=torch.Generator().manual_seed(1))
    targets = torch.zeros(2, 1, 5, 5)
    targets[:, :, 0, 0] = 1
    targets[0, 0, 1] = -1
    there = targets >= 0
    each = functional.binary_cross_entropy_with_logits(
        outputs[there], targets[there], reduction="none"
    )
    share = targets[there].mean()
    weight = torch.where(targets[there] == 1, 1 - share, share)
    torch.testing.assert_close(dense.balanced_binary()(outputs, targets), (weight * each).mean())
    fixed = torch.where(targets[there] == 1, 0.95, 0.05)
    torch.testing.assert_close(dense.balanced_binary(0.95)(outputs, targets), (fixed * each).mean())


@pytest.mark.parametrize(
    ("answer", "channels", "none"),
    [
        (dense_tasks.classes("a", CLASSES), CLASSES, -1),
        (dense_tasks.depth(), 1, 0),
        (dense_tasks.normals(), 3, 0),
        (dense_tasks.binary("a", "f"), 1, -1),
    ],
)
def test_an_image_without_any_label_is_no_example(answer, channels, none):
    outputs = torch.randn(3, channels, 8, 8)
    targets = torch.full((3, 8, 8) if answer.kind == "classes" else (3, channels, 8, 8), none)
    targets = targets if answer.kind == "classes" else targets.float()
    assert answer.task.labelled(outputs, targets) is None
    targets[1, ..., 0, :2] = 1
    targets[1, ..., 0, 1:4] *= 0
    kept, labels, rows = answer.task.labelled(outputs, targets)
    assert rows == 1
    torch.testing.assert_close(kept, outputs[1:2])
    loss = answer.task.loss(kept, labels)
    assert loss > 0
    torch.testing.assert_close(answer.task.loss(outputs, targets), loss)


def test_shapes_that_torch_would_spread_are_refused():
    with pytest.raises(ValueError, match="cannot be compared"):
        dense.masked_l1(torch.zeros(2, 1, 4, 4), torch.zeros(2, 4, 4))
    with pytest.raises(ValueError, match="cannot be compared"):
        Segmentation(2).update(torch.zeros(2, 2, 4, 4), torch.zeros(2, 1, 4, 4).long())


def test_without_labels_there_is_no_number():
    for score in (Depth(), Normals("mean"), Normals("median")):
        assert math.isnan(score.compute())
