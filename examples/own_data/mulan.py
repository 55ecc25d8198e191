"""Many targets of one table (Mulan's multi-target sets), sixteen tasks of a few hundred rows each.

equipoise run mulan.toml          # or, from Python, the same: python mulan.py
"""

import gzip
import io
import os
from pathlib import Path

import numpy as np
import torch
from scipy.io import arff
from torch import nn
from torch.nn import functional

from equipoise.problems import Metric, Problem, Task, Tensors, TrunkAndHeads
from equipoise.study import compare

# Root mean squared error relative to that of the mean: 1 has learned nothing.
RRMSE = Metric(
    name="rrmse",
    score=lambda out, y: float(((out - y).square().mean() / (y - y.mean()).square().mean()).sqrt()),
    higher_is_better=False,
)


def mulan(root: str = "", table: str = "oes10", targets: int = 16, width: int = 64) -> Problem:
    """A small network on the employment of occupations in cities (oes10), or another table of the set.

    Args:
        root: folder that holds ``mulan_mtr``; default: the environment variable EQUIPOISE_DATA.
        table: name of the file.
        targets: the last columns.
        width: of the network.
    """
    file = Path(root or os.environ.get("EQUIPOISE_DATA", "")) / "mulan_mtr" / f"{table}.arff.gz"
    if not file.is_file():
        raise ValueError(f"there is no {file}; give root=, or set EQUIPOISE_DATA to the folder")
    rows, _ = arff.loadarff(io.StringIO(gzip.decompress(file.read_bytes()).decode()))
    names = [name.partition("_")[2].replace("_", " ") for name in rows.dtype.names[-targets:]]
    # Numbers of employees reach over three decades.
    values = np.log1p(np.array(rows.tolist(), dtype=np.float32))
    values = torch.from_numpy((values - values.mean(0)) / (values.std(0) + 1e-6))
    x, y = values[:, :-targets], values[:, -targets:]

    def model(tasks):
        trunk = nn.Sequential(nn.Linear(x.shape[1], width), nn.ReLU(), nn.Dropout(0.2))
        return TrunkAndHeads(trunk, {task: nn.Linear(width, 1) for task in tasks})

    return Problem(
        name=table,
        tasks=tuple(Task(name=n, loss=functional.mse_loss, metrics=(RRMSE,)) for n in names),
        data=Tensors(x, {name: y[:, k : k + 1] for k, name in enumerate(names)}).divided(),
        model=model,
        about="How many people work in sixteen occupations, from the numbers in the others.",
        cite="Spyromitros-Xioufis et al. (2016), Mulan; US Bureau of Labor Statistics",
    )


if __name__ == "__main__":
    print(
        compare(
            mulan,
            ["uw_o", "imtl_l", "cagrad", "pcgrad"],
            learning_rates=[0.001, 0.003, 0.01],
            epochs=30,
            batch_size=32,
        )
    )
