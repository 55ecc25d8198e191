"""Studies of LeNet on overlaid images: the settings of papers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# All papers train so long.
EPOCHS = 100
_TRAINING = "equipoise.problems.training"


PRESETS: Mapping[str, Mapping[str, Any]] = {
    "kurin2022": {
        # Random weights of the normal distribution are in every study.
        "methods": [
            "imtl",
            "mgda",
            "graddrop",
            "pcgrad",
            {"id": "rlw", "label": "rlw_dirichlet", "options": {"distribution": "dirichlet"}},
        ],
        "optimizer": "torch.optim:Adam",
        "schedule": f"{_TRAINING}:by_095_an_epoch",
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
        "methods": ["uw", "gradnorm", "mgda"],
        "optimizer": "sgd",
        "schedule": f"{_TRAINING}:halved_in_thirty",
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
        "optimizer": f"{_TRAINING}:sgd_08",
        "schedule": f"{_TRAINING}:by_085_in_thirty",
        "learning_rates": [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0],
        "seeds": 3,
        "epochs": EPOCHS,
        "batch_size": 256,
        "checkpoint": "loss",
        "problem_options": {"size": 28},
    },
    # On whole canvases; ten epochs are enough to be where the papers are after a hundred.
    "fast": {
        "methods": ["uw", "uw_o", "imtl_l", "mgda", "pcgrad", "cagrad"],
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
