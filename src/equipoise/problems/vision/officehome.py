"""Sixty-five everyday things in art, clip art, a shop and photographs, a task each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from equipoise.problems.base import Problem
from equipoise.problems.training import LIN2022
from equipoise.problems.vision.domain_folders import SIDE, Domains
from equipoise.problems.vision.domains import domains_problem

CLASSES = """
Alarm_Clock Backpack Batteries Bed Bike Bottle Bucket Calculator Calendar Candles Chair Clipboards Computer
Couch Curtains Desk_Lamp Drill Eraser Exit_Sign Fan File_Cabinet Flipflops Flowers Folder Fork Glasses
Hammer Helmet Kettle Keyboard Knives Lamp_Shade Laptop Marker Monitor Mop Mouse Mug Notebook Oven Pan
Paper_Clip Pen Pencil Postit_Notes Printer Push_Pin Radio Refrigerator Ruler Scissors Screwdriver Shelf
Sink Sneakers Soda Speaker Spoon TV Table Telephone ToothBrush Toys Trash_Can Webcam
"""
OFFICEHOME = Domains(
    folder="OfficeHomeDataset_10072016",
    page="https://www.hemanthdv.org/officeHomeDataset.html",
    licence="research that is not commercial",
    domains={name: name for name in ("Art", "Clipart", "Product", "Real World")},
    counts={"Art": 2427, "Clipart": 4365, "Product": 4439, "Real World": 4357},
    classes=tuple(CLASSES.split()),
    named="{:05d}.jpg",
)
DATA = (OFFICEHOME.data,)

PRESETS: Mapping[str, Mapping[str, Any]] = {
    # Epochs are not in the paper: those of its authors' code. A batch is 128 of each of four domains.
    "lin2022": {
        "methods": LIN2022,
        "learning_rates": [0.0001],
        "weight_decay": 0.00001,
        "seeds": 3,
        "epochs": 100,
        "batch_size": 512,
        "optimizer": "torch.optim:Adam",
        "schedule": "constant",
        "checkpoint": "loss",
    },
    "quick": {
        "methods": ["uw", "uw_o", "cagrad"],
        "problem_options": {"network": "small", "size": 64, "rows": 400},
        "learning_rates": [0.01],
        "seeds": 3,
        "epochs": 8,
        "batch_size": 32,
    },
}


def officehome(
    arch: str = "hard_sharing",
    network: str = "resnet18",
    width: int | None = None,
    tasks: Sequence[str] | None = None,
    weights: str | None = None,
    size: int = SIDE,
    augment: bool = False,
    sampling: str | float = "together",
    rows: int | None = None,
) -> Problem:
    """Which of 65 things a picture shows: a work of art, clip art, of a shop, or a photograph.

    Every domain is a task with images of its own; classes are the same in all.

    Args:
        arch: architecture.
        network: ``"resnet18"`` or ``"small"``.
        width: of the network, see :func:`image_trunk`; None for its own.
        tasks: some of ``"Art"``, ``"Clipart"``, ``"Product"`` and ``"Real World"``; None for all.
        weights: file with a state dict of ResNet-18, such as that of ImageNet, which papers begin with; None
            for random weights.
        size: height and width to which images are resized.
        augment: cut training images at random from such as are an eighth larger, and mirror half of them.
        sampling: ``"together"``: a part of every batch from each domain, where small ones begin again; or a
            temperature: a domain a batch, 1 as often as its size and more the more alike.
        rows: training images of a domain at most, drawn once for all; a quarter of it each for validation
            and test.

    Raises:
        ValueError: there is no such task or network, the weights do not fit, or a number is too small.
        DataError: the data is not there, or wrong.

    References:
        Venkateswara et al., *Deep Hashing Network for Unsupervised Domain Adaptation*, CVPR 2017,
        arXiv:1706.07522; a domain a task as in Lin et al., *Reasonable Effectiveness of Random Weighting*,
        TMLR 2022, arXiv:2111.10603.
    """
    return domains_problem(
        OFFICEHOME,
        "officehome",
        "Name one of 65 things of a home or an office. Each domain is a task: works of art, clip art, "
        "pictures of a shop, and photographs.",
        "Office-Home, Venkateswara et al. (arXiv:1706.07522); tasks as in arXiv:2111.10603",
        arch=arch,
        network=network,
        width=width,
        weights=weights,
        size=size,
        augment=augment,
        sampling=sampling,
        rows=rows,
    ).only(tasks)
