"""Cityscapes: what is where in streets, and how far away."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from equipoise.problems.base import Problem, SplitName
from equipoise.problems.files import DataSet, Recipe
from equipoise.problems.training import KIRCHDORFER2024, LIN2022
from equipoise.problems.vision import cityscapes_folders, dense_layouts, dense_tasks, npy_folders
from equipoise.problems.vision.dense_networks import builder
from equipoise.problems.vision.dense_tasks import Answer
from equipoise.problems.vision.pictures import Pictures, Row, complaints, held_out, reader

SIZE = (128, 256)
# Images that are scored at a time.
PIECE = 32
DEPTH = dense_tasks.depth(inverse=True)
SEGMENTATION = {count: dense_tasks.classes("segmentation", count) for count in (7, 19)}

_SCHEDULE = "equipoise.problems.training"
_OPTIMISER = {
    "optimizer": "torch.optim:Adam",
    "schedule": f"{_SCHEDULE}:halved",
    "epochs": 200,
    "batch_size": 64,
    "checkpoint": "loss",
}

PRESETS: Mapping[str, Mapping[str, Any]] = {
    # Lin et al. take the best epoch of the test data; a study here never does.
    "lin2022": {
        **_OPTIMISER,
        "protocol": "litmus",
        "methods": LIN2022,
        "learning_rates": [1e-4],
        "weight_decay": 1e-5,
        "seeds": 3,
        "problem_options": {"network": "resnet50"},
    },
    # The paper prints neither epochs nor a schedule: these are those of the network it takes from Lin et al.
    "xin2022": {
        **_OPTIMISER,
        "schedule": "constant",
        "protocol": "frontier",
        "methods": [
            "mgda",
            {"id": "gradnorm", "search": {"alpha": [0.5, 1.0, 1.5, 2.0]}},
            "pcgrad",
            "imtl",
        ],
        "learning_rates": [10 ** (power / 2) for power in range(-10, -3)],
        "weight_decays": [0.0, *(10 ** (power / 2) for power in range(-12, -3))],
        "seeds": 1,
        "problem_options": {"network": "resnet50"},
    },
    "mtan2019": {
        **_OPTIMISER,
        "protocol": "litmus",
        "methods": ["uw", "dwa"],
        "learning_rates": [1e-4],
        "batch_size": 8,
        "checkpoint": "last",
        "seeds": 3,
        "problem_options": {"network": "segnet", "arch": "mtan"},
    },
    "kirchdorfer2024": {
        **_OPTIMISER,
        **KIRCHDORFER2024,
        "schedule": f"{_SCHEDULE}:halved_twice",
        "epochs": 300,
        "protocol": "weighting",
        "problem_options": {"augment": True},
        "sweep": {"network": ["segnet", "resnet50"]},
    },
    "quick": {
        "methods": ["uw", "uw_o", "cagrad"],
        "learning_rates": [0.003],
        "seeds": 3,
        "epochs": 2,
        "batch_size": 8,
        "problem_options": {"network": "small", "width": 8},
    },
}


def _folders(folder: Path, classes: int) -> dict[str, Answer]:
    """The answers by the folder they lie in; LibMTL calls that of 7 classes "label"."""
    label = f"label_{classes}"
    train = folder / "train"
    if classes == 7 and not (train / label).exists() and (train / "label").exists():
        label = "label"
    return {label: SEGMENTATION[classes], "depth": DEPTH}


def _official(folder: Path) -> bool:
    return any((folder / name).exists() for name in cityscapes_folders.ENDS)


def _examined(folder: Path) -> Iterable[str]:
    official, train = _official(folder), folder / "train"
    if train.exists() or not official:
        nineteen = (train / "label_19").exists()
        seven = (train / "label_7").exists() or (train / "label").exists() or not nineteen
        for classes in (7,) * seven + (19,) * nineteen:
            yield from npy_folders.examined(DATASET, folder, _folders(folder, classes))
    if official:
        for recipe in _recipes(folder):
            yield from complaints(folder, recipe)


def _recipes(folder: Path) -> list[Recipe]:
    if not _official(folder):
        return []
    return [
        cityscapes_folders.recipe(DATASET, folder, part, (SEGMENTATION[19], DEPTH), SIZE)
        for part in ("train", "val")
    ]


_IMAGES = cityscapes_folders.IMAGES
LAYOUTS = {
    "npy": "train/image/*.npy",
    "official": f"{_IMAGES}/train/*/*{cityscapes_folders.ENDS[_IMAGES]}",
}
_FILES = [
    *(
        f"{part}/{folder}/*.npy"
        for part in ("train", "val")
        for folder in ("image", "label_7", "label", "label_19", "depth")
    ),
    *(
        f"{kind}/{part}/*/*{end}"
        for part in ("train", "val")
        for kind, end in cityscapes_folders.ENDS.items()
    ),
]
DATASET = DataSet(
    name="cityscapes",
    page="https://www.cityscapes-dataset.com",
    licence="for non-commercial use, after registration",
    files=dict.fromkeys(_FILES),
    # Which files a layout needs, the look into them sees to.
    optional=frozenset(_FILES),
    one_of=(tuple(LAYOUTS.values()),),
    examine=_examined,
    recipes=_recipes,
)
DATA = (DATASET,)


def cityscapes(
    arch: str = "hard_sharing",
    width: int | None = None,
    tasks: Sequence[str] | None = None,
    network: str = "resnet50",
    layout: str | None = None,
    classes: int = 7,
    size: Sequence[int] | None = None,
    augment: bool = False,
    weights: str | None = None,
    arch_options: Mapping[str, Any] | None = None,
) -> Problem:
    """Segment streets into 7 or 19 classes, and tell the inverse of depth, as disparity.

    Args:
        arch: how tasks share the network, see :func:`equipoise.nn.architecture`.
        width: channels of the first stage of ``"small"`` and ``"segnet"``; None: as published.
        tasks: of ``"segmentation"`` and ``"depth"``, both of which are needed; None for both.
        network: of :data:`~equipoise.problems.vision.dense_networks.NETWORKS`.
        layout: ``"npy"``, the arrays of the authors of MTAN; or ``"official"``, the original pictures;
            None: that which is there.
        classes: 7 or 19.
        size: height and width of the images; None: those of the first array, and 128 x 256 for the
            original pictures.
        augment: whether training images are zoomed by 1, 1.2 or 1.5 and mirrored at random.
        weights: path of a state dict of ImageNet for a residual network.
        arch_options: of the architecture.

    Raises:
        ValueError: an option is unknown or out of range.

    References:
        Cordts et al., *The Cityscapes Dataset for Semantic Urban Scene Understanding*, CVPR 2016,
        arXiv:1604.01685. The arrays: Liu, Johns, Davison, CVPR 2019, arXiv:1803.10704.
    """
    if layout is not None and layout not in LAYOUTS:
        raise ValueError(f"layout is {layout!r}; give 'npy' or 'official'")
    if classes not in SEGMENTATION:
        raise ValueError(f"classes is {classes}; give 7 or 19")
    given, layout = layout, layout or dense_layouts.expected(DATASET, LAYOUTS)
    fixed = dense_layouts.sides(size)
    answers = (SEGMENTATION[classes], DEPTH)

    def sides(folder: Path) -> tuple[int, int]:
        if fixed is not None:
            return fixed
        return npy_folders.shape(DATASET, folder) if layout == "npy" else SIZE

    def data(split: SplitName) -> Pictures:
        folder = DATASET.folder()
        if given is None:
            dense_layouts.recognised(DATASET, folder, LAYOUTS)
        part, size = "val" if split == "test" else "train", sides(folder)
        if layout == "official":
            stored = (SEGMENTATION[19], DEPTH)
            recipe = cityscapes_folders.recipe(DATASET, folder, part, stored, size)
        else:
            recipe = npy_folders.recipe(DATASET, folder, part, _folders(folder, classes), size)
        read = reader(folder, recipe)
        if layout == "official" and classes == 7:
            read = _merged(read)
        rows: Sequence[int] = range(len(recipe.items))
        if split != "test":
            rows = held_out(len(rows), folder=folder)[split == "validation"]
        return Pictures(read, rows, answers, augment, PIECE)

    images = fixed or dense_layouts.when_built(DATASET, sides, SIZE)
    return Problem(
        name="cityscapes",
        tasks=tuple(answer.task for answer in answers),
        data=data,
        model=builder(answers, images, network, arch, width, weights, arch_options),
        piece=PIECE,
        about=(
            "Photographs of streets: name what is seen at every pixel, and tell one over how far away it "
            "is. A fifth of the training images is held out for validation, and the official validation "
            "images are the test."
        ),
        cite="Cordts et al., CVPR 2016 (arXiv:1604.01685); arrays of Liu et al., CVPR 2019",
    ).only(tasks)


def _merged(read: Callable[[int], Row]) -> Callable[[int], Row]:
    def merged(row: int) -> Row:
        found = read(row)
        return {**found, "segmentation": cityscapes_folders.to_7(found["segmentation"])}

    return merged
