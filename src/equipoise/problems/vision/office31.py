"""Thirty-one things of an office, from a shop and through two cameras, a task each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from equipoise.problems.base import Problem
from equipoise.problems.training import LIN2022
from equipoise.problems.vision.domain_folders import SIDE, Domains
from equipoise.problems.vision.domains import domains_problem

CLASSES = """
back_pack bike bike_helmet bookcase bottle calculator desk_chair desk_lamp desktop_computer file_cabinet
headphones keyboard laptop_computer letter_tray mobile_phone monitor mouse mug paper_notebook pen phone
printer projector punchers ring_binder ruler scissors speaker stapler tape_dispenser trash_can
"""
OFFICE31 = Domains(
    folder="office31",
    page="https://faculty.cc.gatech.edu/~judy/domainadapt/",
    licence="research; no licence is stated",
    domains={name: f"{name}/images" for name in ("amazon", "dslr", "webcam")},
    counts={"amazon": 2817, "dslr": 498, "webcam": 795},
    classes=tuple(CLASSES.split()),
    named="frame_{:04d}.jpg",
)
DATA = (OFFICE31.data,)

PRESETS: Mapping[str, Mapping[str, Any]] = {
    # Epochs are not in the paper: those of its authors' code. A batch is 128 of each of three domains.
    "lin2022": {
        "methods": LIN2022,
        "learning_rates": [0.0001],
        "weight_decay": 0.00001,
        "seeds": 3,
        "epochs": 100,
        "batch_size": 384,
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
        "batch_size": 24,
    },
}


def office31(
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
    """What thing of an office a picture shows: of a shop, of a good camera, and of a poor one.

    Every domain is a task with images of its own; classes are the same in all.

    Args:
        arch: architecture.
        network: ``"resnet18"`` or ``"small"``.
        width: of the network, see :func:`image_trunk`; None for its own.
        tasks: some of ``"amazon"``, ``"dslr"`` and ``"webcam"``; None for all.
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
        Saenko et al., *Adapting Visual Category Models to New Domains*, ECCV 2010; a domain a task as in Lin
        et al., *Reasonable Effectiveness of Random Weighting*, TMLR 2022, arXiv:2111.10603.
    """
    return domains_problem(
        OFFICE31,
        "office31",
        "Name one of 31 things of an office. Each domain is a task: pictures of a shop, of a good camera and "
        "of a poor one. The shop has five times as many images as the good camera.",
        "Office-31, Saenko et al. (ECCV 2010); tasks as in arXiv:2111.10603",
        arch=arch,
        network=network,
        width=width,
        weights=weights,
        size=size,
        augment=augment,
        sampling=sampling,
        rows=rows,
    ).only(tasks)
