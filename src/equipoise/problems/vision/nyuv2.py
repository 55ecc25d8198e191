"""NYUv2: what is where in indoor rooms, how far away, and which way it faces."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from equipoise.problems.base import Problem, SplitName
from equipoise.problems.files import DataSet, Recipe
from equipoise.problems.training import KIRCHDORFER2024, LIN2022
from equipoise.problems.vision import dense_layouts, dense_tasks, npy_folders, nyuv2_mat
from equipoise.problems.vision.dense_networks import builder
from equipoise.problems.vision.pictures import Pictures, complaints, held_out, reader

CLASSES = 13
SIZE = (288, 384)
# Images that are scored at a time.
PIECE = 8
SEGMENTATION = dense_tasks.classes("segmentation", CLASSES)
DEPTH = dense_tasks.depth()
NORMALS = dense_tasks.normals()
ANSWERS = (SEGMENTATION, DEPTH, NORMALS)
# By folder, in the layout of MTAN.
FOLDERS = {"label": SEGMENTATION, "depth": DEPTH, "normal": NORMALS}
LAYOUTS = {"npy": "train/image/*.npy", "mat": nyuv2_mat.LABELED}

_SCHEDULE = "equipoise.problems.training"
_OPTIMISER = {
    "optimizer": "torch.optim:Adam",
    "schedule": f"{_SCHEDULE}:halved",
    "epochs": 200,
    "batch_size": 8,
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
    "mtan2019": {
        **_OPTIMISER,
        "protocol": "litmus",
        "methods": ["uw", "dwa"],
        "learning_rates": [1e-4],
        "batch_size": 2,
        "checkpoint": "last",
        "seeds": 3,
        "problem_options": {"network": "segnet", "arch": "mtan"},
    },
    "kirchdorfer2024": {
        **_OPTIMISER,
        **KIRCHDORFER2024,
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


def _examined(folder: Path) -> Iterable[str]:
    there = [name for name in nyuv2_mat.FILES if (folder / name).exists()]
    if (folder / "train").exists() or not there:
        yield from npy_folders.examined(DATASET, folder, FOLDERS)
    if there:
        nyuv2_mat.divided(DATASET, folder)
        every = nyuv2_mat.recipe(DATASET, folder, (SEGMENTATION, DEPTH), SIZE)
        yield from complaints(folder, every)


def _recipes(folder: Path) -> list[Recipe]:
    if not (folder / nyuv2_mat.LABELED).exists():
        return []
    return [nyuv2_mat.recipe(DATASET, folder, (SEGMENTATION, DEPTH), SIZE)]


DATASET = DataSet(
    name="nyuv2",
    page="https://cs.nyu.edu/~silberman/datasets/nyu_depth_v2.html",
    licence="for research; the page names no licence",
    files={
        **{
            f"{part}/{folder}/*.npy": None
            for part in ("train", "val")
            for folder in ("image", *FOLDERS)
        },
        **dict.fromkeys(nyuv2_mat.FILES),
    },
    # Which files a layout needs, the look into them sees to.
    optional=frozenset(
        {
            *(
                f"{part}/{folder}/*.npy"
                for part in ("train", "val")
                for folder in ("image", *FOLDERS)
            ),
            *nyuv2_mat.FILES,
        }
    ),
    one_of=(tuple(LAYOUTS.values()),),
    examine=_examined,
    recipes=_recipes,
)
DATA = (DATASET,)


def nyuv2(
    arch: str = "hard_sharing",
    width: int | None = None,
    tasks: Sequence[str] | None = None,
    network: str = "resnet50",
    layout: str | None = None,
    size: Sequence[int] | None = None,
    augment: bool = False,
    weights: str | None = None,
    arch_options: Mapping[str, Any] | None = None,
) -> Problem:
    """Segment indoor images into 13 classes, and tell depth and normals.

    Args:
        arch: how tasks share the network, see :func:`equipoise.nn.architecture`.
        width: channels of the first stage of ``"small"`` and ``"segnet"``; None: as published.
        tasks: some of ``"segmentation"``, ``"depth"`` and ``"normals"``; None for all.
        network: of :data:`~equipoise.problems.vision.dense_networks.NETWORKS`.
        layout: ``"npy"``, the arrays of the authors of MTAN; or ``"mat"``, the original file, which has
            segmentation and depth only; None: that which is there.
        size: height and width of the images; None: those of the first array, and 288 x 384 for the
            original file.
        augment: whether training images are zoomed by 1, 1.2 or 1.5 and mirrored at random.
        weights: path of a state dict of ImageNet for a residual network.
        arch_options: of the architecture.

    Raises:
        ValueError: an option is unknown or out of range.

    References:
        Silberman et al., *Indoor Segmentation and Support Inference from RGBD Images*, ECCV 2012. The
        arrays: Liu, Johns, Davison, *End-to-End Multi-Task Learning with Attention*, CVPR 2019,
        arXiv:1803.10704.
    """
    if layout is not None and layout not in LAYOUTS:
        raise ValueError(f"layout is {layout!r}; give 'npy' or 'mat'")
    given, layout = layout, layout or dense_layouts.expected(DATASET, LAYOUTS)
    if layout == "mat" and tasks is not None and "normals" in tasks:
        raise ValueError(
            "the original file has no normals, and normals computed from its depth are not those of the "
            "papers; leave the task out, or use layout='npy'"
        )
    fixed = dense_layouts.sides(size)
    answers = ANSWERS if layout == "npy" else (SEGMENTATION, DEPTH)
    wanted = dense_layouts.of_tasks(answers, tasks)
    folders = {name: answer for name, answer in FOLDERS.items() if answer in wanted}

    def sides(folder: Path) -> tuple[int, int]:
        if fixed is not None:
            return fixed
        return npy_folders.shape(DATASET, folder) if layout == "npy" else SIZE

    def data(split: SplitName) -> Pictures:
        folder = DATASET.folder()
        if given is None:
            dense_layouts.recognised(DATASET, folder, LAYOUTS)
        if layout == "mat":
            train, test = nyuv2_mat.divided(DATASET, folder)
            recipe = nyuv2_mat.recipe(DATASET, folder, answers, sides(folder))
        else:
            part = "val" if split == "test" else "train"
            recipe = npy_folders.recipe(DATASET, folder, part, folders, sides(folder))
            train = test = list(range(len(recipe.items)))
        rows = test
        if split != "test":
            ours = held_out(len(train), folder=folder)[split == "validation"]
            rows = [train[row] for row in ours]
        return Pictures(reader(folder, recipe), rows, wanted, augment, PIECE)

    images = fixed or dense_layouts.when_built(DATASET, sides, SIZE)
    return Problem(
        name="nyuv2",
        tasks=tuple(answer.task for answer in answers),
        data=data,
        model=builder(answers, images, network, arch, width, weights, arch_options),
        piece=PIECE,
        about=(
            "Photographs of rooms: name what is seen at every pixel, tell how far away it is, and which "
            "way it faces. A fifth of the training images is held out for validation."
        ),
        cite="Silberman et al., ECCV 2012; arrays of Liu et al., CVPR 2019 (arXiv:1803.10704)",
    ).only(tasks)
