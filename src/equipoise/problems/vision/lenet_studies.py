"""Studies of LeNet on overlaid images: the settings of papers, with optimisers and schedules of their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

# All papers train so long; an epoch of their schedules is a hundredth of the run.
EPOCHS = 100
_HERE = "equipoise.problems.vision.lenet_studies"


def adam(groups: Any, lr: float, weight_decay: float) -> Optimizer:
    """Adam, with its decay among the gradients."""
    return torch.optim.Adam(groups, lr=lr, weight_decay=weight_decay)


def sgd_08(groups: Any, lr: float, weight_decay: float) -> Optimizer:
    """Gradient descent with a momentum of 0.8."""
    return torch.optim.SGD(groups, lr=lr, momentum=0.8, weight_decay=weight_decay)


def by_095_an_epoch(made: Optimizer, steps: int) -> LRScheduler:
    """The rate times 0.95 after every hundredth of the run, as in Kurin et al."""
    return _steps(made, steps, 0.95, 1)


def by_085_in_thirty(made: Optimizer, steps: int) -> LRScheduler:
    """The rate times 0.85 after every thirty hundredths of the run, as in Xin et al."""
    return _steps(made, steps, 0.85, 30)


def halved_in_thirty(made: Optimizer, steps: int) -> LRScheduler:
    """The rate halved after every thirty hundredths of the run, as in Sener and Koltun."""
    return _steps(made, steps, 0.5, 30)


def _steps(made: Optimizer, steps: int, factor: float, epochs: int) -> LRScheduler:
    return LambdaLR(made, lambda step: factor ** (step * EPOCHS // steps // epochs))


METHODS = ["uw", "uw_o", "imtl_l", "mgda", "pcgrad", "cagrad"]
PRESETS: Mapping[str, Mapping[str, Any]] = {
    "kurin2022": {
        "methods": METHODS,
        "optimizer": f"{_HERE}:adam",
        "schedule": f"{_HERE}:by_095_an_epoch",
        "learning_rates": [0.001, 0.01, 0.1],
        "tuning": "once",
        "tuning_seeds": 3,
        "seeds": 10,
        "epochs": EPOCHS,
        "batch_size": 256,
        "checkpoint": "loss",
        "problem_options": {"size": 28, "dropout": 0.5, "validation": 1 / 6},
    },
    "sener2018": {
        "methods": METHODS,
        "optimizer": "sgd",
        "schedule": f"{_HERE}:halved_in_thirty",
        "learning_rates": [0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05],
        "seeds": 5,
        "epochs": EPOCHS,
        "batch_size": 256,
        "checkpoint": "loss",
        "problem_options": {"size": 28},
    },
    "xin2022": {
        "protocol": "frontier",
        "methods": [
            "mgda",
            "pcgrad",
            {"id": "gradnorm", "search": {"alpha": [0.5, 1.0, 1.5, 2.0]}},
        ],
        "optimizer": f"{_HERE}:sgd_08",
        "schedule": f"{_HERE}:by_085_in_thirty",
        "learning_rates": [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0],
        "seeds": 3,
        "epochs": EPOCHS,
        "batch_size": 256,
        "checkpoint": "loss",
        "problem_options": {"size": 28},
    },
    # On whole canvases; ten epochs are enough to be where the papers are after a hundred.
    "fast": {
        "methods": METHODS,
        "learning_rates": [0.001, 0.003],
        "weight_decay": 0.01,
        "seeds": 3,
        "epochs": 10,
        "batch_size": 256,
    },
    "quick": {
        "methods": ["uw", "uw_o", "cagrad"],
        "learning_rates": [0.005],
        "seeds": 3,
        "epochs": 5,
        "batch_size": 64,
        "problem_options": {"size": 28, "rows": 4000},
    },
}
