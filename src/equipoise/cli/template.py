"""What `equipoise new problem` writes: a problem that runs as it is, and the study that names it."""

PROBLEM = '''"""A problem of your own: replace the data, the tasks and the network by yours.

Run it with

    equipoise check STUDY
    equipoise run STUDY
"""

import torch
from torch import nn
from torch.nn import functional

from equipoise.problems import Problem, Task, Tensors, TrunkAndHeads, accuracy, rmse

# The classes of each task's output.
OUTPUTS = {"side": 2, "radius": 1}


def data(split):
    """The examples of "train", "validation" or "test": inputs of any nesting of tensors, targets by task.

    Give the same examples at every call, and none in two splits. "test" is asked for once, at the end.
    For a torch DataLoader take Loader(lambda size, seed: ..., rows=...), for data of each task's own PerTask.
    """
    rows = {"train": 512, "validation": 256, "test": 256}[split]
    generator = torch.Generator().manual_seed(["train", "validation", "test"].index(split))
    x = torch.randn(rows, 5, generator=generator)
    return Tensors(x, {"side": (x.sum(1) > 0).long(), "radius": x.norm(dim=1, keepdim=True)})


def model(tasks):
    """A fresh network with heads for these tasks; one task alone has to work too.

    Any module will do that maps inputs to a mapping from task name to output.
    """
    trunk = nn.Sequential(nn.Linear(5, 32), nn.ReLU())
    return TrunkAndHeads(trunk, {task: nn.Linear(32, OUTPUTS[task]) for task in tasks})


def problem():
    """The problem, as the study names it."""
    return Problem(
        name="NAME",
        tasks=(
            # missing=-1 (or float("nan")) would stand for rows without a label.
            Task(name="side", loss=functional.cross_entropy, metrics=(accuracy(),)),
            # Any function of a whole split is a metric, and any object with update() and compute().
            Task(name="radius", loss=functional.mse_loss, metrics=(rmse(),)),
        ),
        data=data,
        model=model,
    )
'''

STUDY = """# A study: what is compared, and how. Single-task networks, tuned fixed weights, equal and random
# weights are always there.
problem = "FILE:problem"
methods = ["uw", "uw_o", "imtl_l", "cagrad"]

# Every method tries all of them in every seed and goes on with its best on validation.
learning_rates = [0.003, 0.01, 0.03]
seeds = 5
epochs = 5
batch_size = 64

# optimizer = "adamw"        # "sgd", or your own: "my_parts.py:optimizer"
# schedule = "cosine"        # "constant", or your own
# checkpoint = "last"        # or the best epoch by "loss" or "side/accuracy" on validation, beside the last
# device = "cpu"             # "cuda"
"""


def written(name: str, file: str, toml: str) -> tuple[str, str]:
    """The two files.

    Args:
        name: of the problem.
        file: the name of the Python file.
        toml: the name of the study's file.
    """
    return PROBLEM.replace("NAME", name).replace("STUDY", toml), STUDY.replace("FILE", file)
