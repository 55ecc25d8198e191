"""Losses and metrics of tasks with an answer at every pixel.

Conventions. Metrics are counted over the pixels of a whole split that have a label, as LibMTL counts
segmentation and normals. The code of MTAN has done so for segmentation since November 2020; its older
numbers, and those of depth and normals, are means over batches, which differ by a point or so and should not
be put into one table with these. A class that neither the labels nor the predictions of a split have is left
out of the mean IoU. Predicted normals are brought to length one by losses and metrics, not by the network,
and so are the targets, which resizing makes shorter.

An image without any label of a task is no example of that task: :func:`unlabelled` and its kin tell which.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from equipoise.problems.nesting import shapes
from equipoise.problems.tasks import Metric

# Stands for no label among classes; depth has 0 there, and a normal is the zero vector.
IGNORE = -1
# Of the histogram of angles, in degrees: the median is this exact.
RESOLUTION = 0.01
THRESHOLDS = (11.25, 22.5, 30.0)


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean over labelled pixels: scores ``Tensor[B, C, H, W]``, classes ``Tensor[B, H, W]``."""
    _alike(outputs[:, 0], targets)
    return functional.cross_entropy(outputs, targets.long(), ignore_index=IGNORE)


def masked_l1(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean absolute error over pixels with a depth, both ``Tensor[B, 1, H, W]``."""
    _alike(outputs, targets)
    there = targets.ne(0)
    return (outputs - targets).abs().mul(there).sum() / there.sum().clamp_min(1)


def masked_cosine(outputs: Tensor, targets: Tensor) -> Tensor:
    """One minus the mean cosine over pixels with a normal, both ``Tensor[B, 3, H, W]``."""
    _alike(outputs, targets)
    # A target of zero length has a cosine of zero, and so no gradient.
    cosines = (functional.normalize(outputs, dim=1) * functional.normalize(targets, dim=1)).sum(1)
    return 1 - cosines.sum() / has_normal(targets).sum().clamp_min(1)


def balanced_binary(positive: float | None = None) -> Any:
    r"""Binary cross-entropy in which few positive pixels weigh as much as many negative ones.

    .. math:: -\frac{1}{N} \sum_p \left( w\, y_p \log \hat y_p + (1 - w)(1 - y_p) \log(1 - \hat y_p) \right)

    Args:
        positive: the weight w; None: the share of negative pixels in the batch, as HED has it.

    Returns:
        A function of scores ``Tensor[B, 1, H, W]`` and targets 1, 0 or -1 (none) ``Tensor[B, 1, H, W]``.

    References:
        Xie, Tu, *Holistically-Nested Edge Detection*, ICCV 2015, arXiv:1504.06375.
    """

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        _alike(outputs, targets)
        there = targets.ge(0)
        count = there.sum().clamp_min(1)
        yes = (targets.eq(1) & there).to(outputs.dtype)
        weight = 1 - yes.sum() / count if positive is None else positive
        each = functional.binary_cross_entropy_with_logits(outputs, yes, reduction="none")
        scale = torch.where(yes.bool(), weight, 1 - weight)
        return (each * scale * there).sum() / count

    return loss


def unlabelled(targets: Tensor) -> Tensor:
    """Which images have no class at any pixel, ``Tensor[B]``."""
    return targets.lt(0).flatten(1).all(1)


def without_depth(targets: Tensor) -> Tensor:
    """Which images have no depth at any pixel, ``Tensor[B]``."""
    return targets.eq(0).flatten(1).all(1)


def has_normal(targets: Tensor) -> Tensor:
    """Which pixels have a normal, ``Tensor[B, H, W]``."""
    return targets.ne(0).any(1)


class Segmentation:
    """Counts pixels by true and predicted class.

    Args:
        classes: how many.
        kind: ``"miou"``, the mean over classes of intersection over union, or ``"accuracy"`` of pixels; both
            in percent.
    """

    def __init__(self, classes: int, kind: str = "miou") -> None:
        self.classes = classes
        self.kind = kind
        self.reset()

    def reset(self) -> None:
        """Begins anew."""
        self.counts = torch.zeros(self.classes, self.classes, dtype=torch.int64)

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Adds scores ``Tensor[B, C, H, W]`` and classes ``Tensor[B, H, W]``."""
        _alike(outputs[:, 0], targets)
        there = targets.ne(IGNORE)
        pairs = targets[there].long() * self.classes + outputs.argmax(1)[there]
        found = torch.bincount(pairs, minlength=self.classes**2).view(self.classes, -1)
        self.counts = self.counts.to(found.device) + found

    def compute(self) -> float:
        """The metric."""
        counts = self.counts.double()
        hit = counts.diagonal()
        if self.kind == "accuracy":
            return 100 * float(hit.sum() / counts.sum())
        union = counts.sum(0) + counts.sum(1) - hit
        return 100 * float((hit / union)[union > 0].mean())


class Depth:
    """Sums errors over pixels with a depth.

    Args:
        relative: whether an error is divided by the true depth.
    """

    def __init__(self, relative: bool = False) -> None:
        self.relative = relative
        self.reset()

    def reset(self) -> None:
        """Begins anew."""
        self.total = 0.0
        self.count = 0

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Adds depths, both ``Tensor[B, 1, H, W]``."""
        _alike(outputs, targets)
        there = targets.ne(0)
        true = targets[there].double()
        error = (outputs[there].double() - true).abs()
        self.total += float((error / true.abs() if self.relative else error).sum())
        self.count += len(true)

    def compute(self) -> float:
        """The mean; NaN where there was no depth."""
        return self.total / self.count if self.count else math.nan


class Normals:
    """Angles between predicted and true normals, in degrees.

    Args:
        kind: ``"mean"``, ``"median"``, or a number of degrees: the share of pixels below it, in percent. The
            median comes from a histogram of bins of 0.01 degrees and is as exact as they are wide.
    """

    def __init__(self, kind: str | float) -> None:
        self.kind = kind
        self.reset()

    def reset(self) -> None:
        """Begins anew."""
        self.total = 0.0
        self.count = 0
        self.bins = torch.zeros(round(180 / RESOLUTION), dtype=torch.int64)

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Adds normals of any length, both ``Tensor[B, 3, H, W]``."""
        _alike(outputs, targets)
        there = has_normal(targets)
        angles = degrees(outputs.movedim(1, -1)[there], targets.movedim(1, -1)[there])
        self.count += len(angles)
        if self.kind == "mean":
            self.total += float(angles.double().sum())
        elif self.kind == "median":
            last = len(self.bins) - 1
            found = (angles / RESOLUTION).long().clamp_max(last).bincount(minlength=last + 1)
            self.bins = self.bins.to(found.device) + found
        else:
            self.total += int((angles < float(self.kind)).sum())

    def compute(self) -> float:
        """The metric; NaN where there was no normal."""
        if not self.count:
            return math.nan
        if self.kind != "median":
            return self.total / self.count * (1 if self.kind == "mean" else 100)
        return RESOLUTION * (float(middle(self.bins)) + 0.5)


class Binary:
    """The best F over thresholds, or intersection over union at one half, of pixels that are on or off.

    Args:
        kind: ``"f"``, in percent: precision and recall are pooled over the split, and the threshold that is
            best for it is taken from 255; or ``"iou"`` of what is on, in percent.
        square: of beta, the weight of recall in F.
    """

    def __init__(self, kind: str, square: float = 1.0) -> None:
        self.kind = kind
        self.square = square
        self.reset()

    def reset(self) -> None:
        """Begins anew."""
        self.bins = torch.zeros(2, 256, dtype=torch.int64)

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Adds scores and targets 1, 0 or -1 (none), both ``Tensor[B, 1, H, W]``."""
        _alike(outputs, targets)
        there = targets.ge(0)
        level = (outputs[there].sigmoid() * 256).long().clamp_max(255)
        found = (targets[there].long() * 256 + level).bincount(minlength=512).view(2, 256)
        self.bins = self.bins.to(found.device) + found

    def compute(self) -> float:
        """The metric; zero where nothing is on."""
        # At threshold t, what has a level of t or more is said to be on.
        off, on = self.bins.double().flip(1).cumsum(1).flip(1)
        if self.kind == "iou":
            return 100 * float(on[128] / (on[0] + off[128]).clamp_min(1))
        scores = (1 + self.square) * on / (on + off + self.square * on[0]).clamp_min(1)
        return 100 * float(scores[1:].max())


def degrees(outputs: Tensor, targets: Tensor) -> Tensor:
    """Angles between normals of any length, both ``Tensor[..., 3]``."""
    one, other = (functional.normalize(normals.float(), dim=-1) for normals in (outputs, targets))
    # Of the half angle: the arc cosine loses half of the digits near zero.
    return 2 * torch.atan2((one - other).norm(dim=-1), (one + other).norm(dim=-1)).rad2deg()


def middle(counts: Tensor) -> int:
    """The bin in which half of what was counted is reached."""
    return int((counts.cumsum(0) * 2 >= counts.sum()).int().argmax())


def segmentation_metrics(classes: int) -> tuple[Metric, ...]:
    """Mean intersection over union and accuracy of pixels, in percent."""
    return (
        Metric(name="miou", score=Segmentation(classes), higher_is_better=True, unit="%"),
        Metric(
            name="pixel_accuracy",
            score=Segmentation(classes, "accuracy"),
            higher_is_better=True,
            unit="%",
        ),
    )


def depth_metrics() -> tuple[Metric, ...]:
    """Absolute and relative error."""
    return (
        Metric(name="absolute_error", score=Depth(), higher_is_better=False),
        Metric(name="relative_error", score=Depth(relative=True), higher_is_better=False),
    )


def normal_metrics() -> tuple[Metric, ...]:
    """Mean and median angle in degrees, and the share of angles below 11.25, 22.5 and 30 degrees."""
    return (
        Metric(name="mean_angle", score=Normals("mean"), higher_is_better=False, unit="°"),
        Metric(name="median_angle", score=Normals("median"), higher_is_better=False, unit="°"),
        *(
            Metric(name=f"within_{limit:g}", score=Normals(limit), higher_is_better=True, unit="%")
            for limit in THRESHOLDS
        ),
    )


def _alike(outputs: Tensor, targets: Tensor) -> None:
    """Refuses shapes that differ; torch would spread one over the other without a word."""
    if outputs.shape != targets.shape:
        raise ValueError(f"{shapes(outputs)} cannot be compared with targets {shapes(targets)}")
