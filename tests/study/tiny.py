"""Problems of a few milliseconds for the tests of a study, some of them ill-behaved on purpose."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from equipoise.problems import (
    Metric,
    Problem,
    Task,
    Tensors,
    TrunkAndHeads,
    mean_absolute_error,
    rmse,
)

HERE = str(Path(__file__).resolve())


def tiny(
    log: str = "",
    pause: float = 0.0,
    rows: int = 48,
    dropout: float = 0.0,
    forbid_test: bool = False,
) -> Problem:
    """Two regressions from four numbers; ``b`` has a hundredfold smaller loss."""

    def data(name: str) -> Tensors:
        if forbid_test and name == "test":
            raise PermissionError("the test split was read")
        if log:
            with Path(log).open("a") as file:
                file.write(f"{name}\n")
        if name == "train":
            time.sleep(pause)
        random = torch.Generator().manual_seed({"train": 1, "validation": 2, "test": 3}[name])
        inputs = torch.randn(rows, 4, generator=random)
        noise = 0.3 * torch.randn(rows, 2, generator=random)
        clean = torch.stack([inputs[:, 0] * inputs[:, 1], inputs.tanh().sum(1)], 1)
        both = clean + noise
        return Tensors(inputs, {"a": both[:, :1], "b": 0.1 * both[:, 1:]})

    def model(tasks: list[str]) -> nn.Module:
        trunk = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Dropout(dropout))
        return TrunkAndHeads(trunk, {task: nn.Linear(8, 1) for task in tasks})

    metrics = {"a": (rmse(), mean_absolute_error()), "b": (negative_rmse(),)}
    tasks = tuple(Task(name=n, loss=functional.mse_loss, metrics=m) for n, m in metrics.items())
    return Problem(name="tiny", tasks=tasks, data=data, model=model)


def negative_rmse() -> Metric:
    return Metric(
        name="score", score=lambda out, y: 10 - rmse().score(out, y), higher_is_better=True
    )


def explosive(above: float = 0.05) -> Problem:
    """Leaves the finite numbers when the learning rate is above a bound."""
    calm = tiny()

    class Explosive(nn.Module):
        def __init__(self, tasks: list[str]) -> None:
            super().__init__()
            self.inner = calm.model(tasks)
            self.trunk = self.inner.trunk
            self.start = [p.detach().clone() for p in self.inner.parameters()]

        def forward(self, inputs: torch.Tensor) -> dict[str, torch.Tensor]:
            moved = max(
                float((p.detach() - start).abs().max())
                for p, start in zip(self.inner.parameters(), self.start, strict=True)
            )
            factor = float("inf") if moved > above else 1.0
            return {task: out * factor for task, out in self.inner(inputs).items()}

    return Problem(name="explosive", tasks=calm.tasks, data=calm.data, model=Explosive)


def deadly(marker: str, deaths: int = 1) -> Problem:
    """Kills its own process, the first ``deaths`` times."""
    file = Path(marker)
    died = len(file.read_text()) if file.exists() else 0
    if died < deaths:
        file.write_text("x" * (died + 1))
        os.kill(os.getpid(), signal.SIGKILL)
    return tiny()


def faulty() -> Problem:
    """Raises when its model is built."""

    def model(tasks: list[str]) -> nn.Module:
        raise RuntimeError("this model cannot be built")

    calm = tiny()
    return Problem(name="faulty", tasks=calm.tasks, data=calm.data, model=model)


def untrainable() -> Problem:
    """Can be looked at, and raises when it is trained."""
    calm = tiny()

    class Untrainable(nn.Module):
        def __init__(self, tasks: list[str]) -> None:
            super().__init__()
            self.inner = calm.model(tasks)

        def forward(self, inputs: torch.Tensor) -> dict[str, torch.Tensor]:
            out: dict[str, torch.Tensor] = self.inner(inputs)
            if self.training:
                for each in out.values():
                    each.register_hook(fails)
            return out

    def fails(_: torch.Tensor) -> None:
        raise RuntimeError("this model cannot be trained")

    return Problem(name="untrainable", tasks=calm.tasks, data=calm.data, model=Untrainable)
