"""Which of twelve biological assays a molecule sets off (Tox21): many tasks, one table, missing labels.

equipoise run tox21.toml          # or, from Python, the same: python tox21.py
"""

import csv
import gzip
import os
from pathlib import Path

import torch
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.metrics import roc_auc_score
from torch import nn
from torch.nn import functional

from equipoise.problems import Metric, Problem, Task, Tensors, TrunkAndHeads
from equipoise.study import compare

AUC = Metric(name="auc", score=lambda out, y: roc_auc_score(y, out), higher_is_better=True)


def tox21(root: str = "", rows: int = 0, assays: int = 12, bits: int = 1024) -> Problem:
    """Multi-layer perceptron on hashed pieces of SMILES strings; no chemistry is needed to compute them.

    Args:
        root: folder that holds ``molnet/tox21.csv.gz``; default: the environment variable EQUIPOISE_DATA.
        rows: the first ones only, for speed; 0 for all.
        assays: how many of the twelve.
        bits: number of inputs.
    """
    file = Path(root or os.environ.get("EQUIPOISE_DATA", "")) / "molnet" / "tox21.csv.gz"
    if not file.is_file():
        raise ValueError(f"there is no {file}; give root=, or set EQUIPOISE_DATA to the folder")
    with gzip.open(file, "rt", newline="") as text:
        (_, *names), *table = csv.reader(text)
    table, names = table[: rows or None], names[:assays]
    pieces = HashingVectorizer(
        analyzer="char", ngram_range=(1, 4), n_features=bits, lowercase=False, binary=True
    )
    x = torch.as_tensor(pieces.transform(row[0] for row in table).toarray()).float()
    y = torch.tensor([[float(cell or "nan") for cell in row[1:]] for row in table])

    def model(tasks):
        trunk = nn.Sequential(nn.Linear(bits, 64), nn.ReLU(), nn.Dropout(0.2))
        return TrunkAndHeads(trunk, {task: nn.Linear(64, 1) for task in tasks})

    loss, missing = functional.binary_cross_entropy_with_logits, float("nan")
    return Problem(
        name="tox21",
        tasks=tuple(Task(name=n, loss=loss, metrics=(AUC,), missing=missing) for n in names),
        data=Tensors(x, {name: y[:, k : k + 1] for k, name in enumerate(names)}).divided(),
        model=model,
        about="Labels are missing where a molecule was not tried in an assay.",
        cite="Tox21 (NIH, EPA, FDA), as in MoleculeNet (arXiv:1703.00564)",
    )


if __name__ == "__main__":
    print(
        compare(
            tox21,
            ["uw", "cagrad"],
            problem_options={"assays": 4},
            learning_rates=[0.003, 0.01, 0.03],
            epochs=10,
            batch_size=256,
            seeds=5,
        )
    )
