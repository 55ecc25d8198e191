"""Studies of CelebA: the settings of papers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from equipoise.problems.training import KIRCHDORFER2024, LIN2022

# All of them train so long.
EPOCHS = 100
_TRAINING = "equipoise.problems.training"


PRESETS: Mapping[str, Mapping[str, Any]] = {
    # Epochs and schedule are not in the paper. Its best epoch may be one of the test data; here it is one
    # of validation.
    "lin2022": {
        "methods": LIN2022,
        "optimizer": "torch.optim:Adam",
        "schedule": "constant",
        "learning_rates": [0.001],
        "seeds": 3,
        "epochs": EPOCHS,
        "batch_size": 512,
        "checkpoint": "loss",
        "problem_options": {"loss": "ce", "metrics": ["accuracy"]},
    },
    # Both rates and decays are tuned, and once: the paper has one seed for each of its 1,008 models.
    "xin2022": {
        "methods": [
            {"id": "rlw", "label": "rlw_dirichlet", "options": {"distribution": "dirichlet"}},
            "mgda",
            "pcgrad",
        ],
        "optimizer": f"{_TRAINING}:sgd_08",
        "schedule": f"{_TRAINING}:by_085_in_thirty",
        "learning_rates": [0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0],
        "weight_decays": [0.0, 0.00001, 0.00005, 0.0001, 0.0005, 0.001, 0.005],
        "tuning": "once",
        "seeds": 3,
        "epochs": EPOCHS,
        "batch_size": 256,
        "checkpoint": "loss",
        "problem_options": {"loss": "ce", "metrics": ["error"]},
    },
    # Forty weights leave no grid for the paper's protocol, so that fixed ones are tuned otherwise.
    "kirchdorfer2024": {
        **KIRCHDORFER2024,
        "optimizer": "torch.optim:Adam",
        "schedule": f"{_TRAINING}:halved_in_thirty",
        "epochs": EPOCHS,
        "batch_size": 512,
        "checkpoint": "loss",
        "problem_options": {"loss": "bce", "metrics": ["error"]},
    },
    "quick": {
        "methods": ["uw", "uw_o", "cagrad"],
        "learning_rates": [0.01],
        "seeds": 3,
        "epochs": 3,
        "batch_size": 16,
        "problem_options": {"network": "small", "width": 16, "rows": 600, "metrics": ["error"]},
    },
}
