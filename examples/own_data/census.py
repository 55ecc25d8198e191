"""Two questions about one person (Census-Income KDD, the pair of the MMoE paper): columns of two kinds.

equipoise run census.toml         # or, from Python, the same: python census.py
"""

import gzip
import os
from functools import lru_cache
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import OrdinalEncoder
from torch import nn
from torch.nn import functional

from equipoise.problems import Metric, Problem, Task, Tensors, TrunkAndHeads
from equipoise.study import compare

AUC = Metric(name="auc", score=lambda out, y: roc_auc_score(y, out), higher_is_better=True)
# age, wage per hour, capital gains and losses, dividends, persons worked for, weeks worked
NUMBERS = [0, 5, 16, 17, 18, 30, 39]
# What the tasks ask for (marital status, income), and the weight of a row in the sample.
MARITAL, WEIGHT, INCOME = 7, 24, 41


class Columns(nn.Module):
    """Adds up an embedding of every category and a linear map of the numbers."""

    def __init__(self, categories: int, width: int) -> None:
        super().__init__()
        self.categories = nn.EmbeddingBag(categories, width, mode="sum")
        self.numbers = nn.Linear(len(NUMBERS), width)
        self.after = nn.Sequential(nn.ReLU(), nn.Linear(width, width), nn.ReLU())
        nn.init.normal_(self.categories.weight, std=0.05)

    def forward(self, person: dict[str, torch.Tensor]) -> torch.Tensor:
        """Features ``[B, width]``."""
        return self.after(self.categories(person["categories"]) + self.numbers(person["numbers"]))


@lru_cache(maxsize=1)
def table(file: Path, rows: int) -> tuple[Tensors, int]:
    """The rows as tensors, and the number of different categories of all columns."""
    with gzip.open(file, "rt") as lines:
        cells = np.array([line.strip().split(", ") for line in islice(lines, rows or None)])
    numbers = torch.as_tensor(np.log1p(cells[:, NUMBERS].astype(np.float32)))
    rest = [k for k in range(cells.shape[1]) if k not in {*NUMBERS, MARITAL, WEIGHT, INCOME}]
    encoder = OrdinalEncoder(dtype=np.int64)
    codes = encoder.fit_transform(cells[:, rest])
    sizes = [len(each) for each in encoder.categories_]
    inputs = {
        "numbers": (numbers - numbers.mean(0)) / numbers.std(0).clamp_min(1e-6),
        "categories": torch.as_tensor(codes + np.cumsum([0, *sizes[:-1]])),
    }
    targets = {
        "income": torch.as_tensor(cells[:, [INCOME]] == "50000+.").float(),
        "never_married": torch.as_tensor(cells[:, [MARITAL]] == "Never married").float(),
    }
    return Tensors(inputs, targets), sum(sizes)


def census(root: str = "", rows: int = 0, width: int = 32) -> Problem:
    """Income above 50,000 dollars, and never married.

    Args:
        root: folder that holds ``census_income_kdd/census-income.test.gz``; default: the environment
            variable EQUIPOISE_DATA.
        rows: the first ones only, for speed; 0 for all 99,762.
        width: of the layers.
    """
    folder = Path(root or os.environ.get("EQUIPOISE_DATA", "")) / "census_income_kdd"
    file = folder / "census-income.test.gz"
    if not file.is_file():
        raise ValueError(f"there is no {file}; give root=, or set EQUIPOISE_DATA to the folder")
    people, categories = table(file, rows)

    def model(tasks):
        heads = {task: nn.Linear(width, 1) for task in tasks}
        return TrunkAndHeads(Columns(categories, width), heads)

    loss = functional.binary_cross_entropy_with_logits
    return Problem(
        name="census",
        tasks=tuple(Task(name=n, loss=loss, metrics=(AUC,)) for n in people.targets),
        data=people.divided(),
        model=model,
        about="Other columns of the household nearly tell who never married; income is hard and rare.",
        cite="Census-Income (KDD), UCI, CC BY 4.0; the tasks of MMoE (Ma et al., KDD 2018)",
    )


if __name__ == "__main__":
    print(
        compare(
            census,
            ["uw", "cagrad"],
            problem_options={"rows": 20000},
            learning_rates=[0.003, 0.01, 0.03],
            epochs=3,
            batch_size=256,
            seeds=5,
        )
    )
