"""PASCAL-Context for several tasks: classes, parts of people, saliency, normals and edges."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from equipoise.problems.base import Problem, SplitName
from equipoise.problems.files import DataSet, Recipe
from equipoise.problems.vision import dense_layouts, dense_tasks, pascal_folders
from equipoise.problems.vision.dense_networks import builder
from equipoise.problems.vision.pictures import Pictures, complaints, held_out, reader

CLASSES = 21
# Background, head, torso, upper and lower arms, upper and lower legs.
PARTS = 7
SIZE = (512, 512)
# Images that are scored at a time.
PIECE = 8
ANSWERS = (
    dense_tasks.classes("segmentation", CLASSES),
    dense_tasks.classes("human_parts", PARTS),
    # Beta squared of 0.3 is what the literature of saliency takes.
    dense_tasks.binary("saliency", "iou", square=0.3),
    dense_tasks.normals(),
    # So much does an edge weigh in the code of ASTMT.
    dense_tasks.binary("edges", "f", positive=0.95),
)
SPLITS = {"train": "train", "validation": "train", "test": "val"}

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "vandenhende2021": {
        "protocol": "litmus",
        "methods": [
            "uw",
            "dwa",
            "gradnorm",
            "mgda",
            # The weights that the survey's authors found by search, in the order of the tasks.
            {
                "id": "scalarization",
                "label": "published weights",
                "options": {"weights": [1.0, 2.0, 5.0, 10.0, 50.0]},
            },
        ],
        "optimizer": "torch.optim:Adam",
        "schedule": "equipoise.problems.training:polynomial",
        "learning_rates": [1e-4],
        "weight_decay": 1e-4,
        "seeds": 3,
        "epochs": 100,
        "batch_size": 6,
        "problem_options": {"network": "resnet18", "augment": True},
    },
    "quick": {
        "methods": ["uw", "uw_o", "cagrad"],
        "learning_rates": [0.003],
        "seeds": 3,
        "epochs": 2,
        "batch_size": 8,
        "problem_options": {"network": "small", "width": 8, "size": [96, 96]},
    },
}


def _examined(folder: Path) -> Iterable[str]:
    for recipe in _recipes(folder):
        yield from complaints(folder, recipe)


def _recipes(folder: Path) -> list[Recipe]:
    return [
        pascal_folders.recipe(DATASET, folder, part, ANSWERS, SIZE) for part in ("train", "val")
    ]


DATASET = DataSet(
    name="PASCAL_MT",
    page="https://github.com/facebookresearch/astmt",
    licence="images from Flickr under its terms of use; labels for research",
    files=dict.fromkeys(pascal_folders.FILES),
    optional=frozenset({"semseg/VOC12/*.png"}),
    examine=_examined,
    recipes=_recipes,
)
DATA = (DATASET,)


def pascal_context(
    arch: str = "hard_sharing",
    width: int | None = None,
    tasks: Sequence[str] | None = None,
    network: str = "resnet18",
    size: Sequence[int] | None = None,
    augment: bool = False,
    weights: str | None = None,
    arch_options: Mapping[str, Any] | None = None,
) -> Problem:
    """Segment photographs into classes and parts of people; tell saliency, normals and edges.

    Images of any size are made to fit into one, and what is left of that has no label.

    Args:
        arch: how tasks share the network, see :func:`equipoise.nn.architecture`.
        width: channels of the network's first stage; None: as published.
        tasks: some of ``"segmentation"``, ``"human_parts"``, ``"saliency"``, ``"normals"`` and ``"edges"``;
            None for all.
        network: of :data:`~equipoise.problems.vision.dense_networks.NETWORKS`.
        size: height and width that images are made to fit into; None: 512 x 512, as in the papers.
        augment: whether training images are zoomed by 1, 1.2 or 1.5 and mirrored at random.
        weights: path of a state dict of ImageNet for a residual network.
        arch_options: of the architecture.

    Raises:
        ValueError: an option is unknown or out of range.

    References:
        Chen et al., *Detect What You Can*, CVPR 2014; Mottaghi et al., *The Role of Context*, CVPR 2014.
        Saliency and normals come from networks: Maninis, Radosavovic, Kokkinos, *Attentive Single-Tasking
        of Multiple Tasks*, CVPR 2019, arXiv:1904.08918. Settings: Vandenhende et al., *Multi-Task Learning
        for Dense Prediction Tasks: A Survey*, TPAMI 2021, arXiv:2004.13379.
    """
    sides = dense_layouts.sides(size) or SIZE
    wanted = dense_layouts.of_tasks(ANSWERS, tasks)
    names = [answer.name for answer in wanted]

    def data(split: SplitName) -> Pictures:
        folder = DATASET.folder()
        recipe = pascal_folders.recipe(DATASET, folder, SPLITS[split], ANSWERS, sides, names)
        rows: Sequence[int] = range(len(recipe.items))
        if split != "test":
            rows = held_out(len(rows), folder=folder)[split == "validation"]
        return Pictures(reader(folder, recipe), rows, wanted, augment, PIECE)

    return Problem(
        name="pascal_context",
        tasks=tuple(answer.task for answer in ANSWERS),
        data=data,
        model=builder(ANSWERS, sides, network, arch, width, weights, arch_options),
        piece=PIECE,
        about=(
            "Photographs of all kinds: name what is seen at every pixel and the parts of people, and tell "
            "what stands out, which way surfaces face, and where regions end. A fifth of the training "
            "images is held out for validation, and the official validation images are the test."
        ),
        cite="Mottaghi et al., CVPR 2014; tasks of Maninis et al., CVPR 2019 (arXiv:1904.08918)",
    ).only(tasks)
