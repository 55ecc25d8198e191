"""Small problems of every shape: nested inputs, loaders, data a task, labels that are missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader

from equipoise import Card, GramianMethod, LossMethod
from equipoise.problems import (
    Batch,
    Loader,
    Metric,
    PerTask,
    Problem,
    Task,
    TaskSampler,
    Tensors,
    TrunkAndHeads,
    mean_absolute_error,
    rmse,
)

HERE = str(Path(__file__).resolve())
SEEDS = {"train": 1, "validation": 2, "test": 3}


def numbers(split: str, rows: int = 48) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(SEEDS[split])
    x = torch.randn(rows, 4, generator=random)
    y = torch.stack([x[:, 0] * x[:, 1], 0.1 * x.tanh().sum(1)], 1)
    return x, y + 0.05 * torch.randn(rows, 2, generator=random)


def tasks(**options: Any) -> tuple[Task, ...]:
    return tuple(
        Task(name=n, loss=functional.mse_loss, metrics=(rmse(),), **options) for n in ("a", "b")
    )


def plain(names: Any, dropout: float = 0.0) -> nn.Module:
    trunk = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Dropout(dropout))
    return TrunkAndHeads(trunk, {name: nn.Linear(8, 1) for name in names})


class Body(nn.Module):
    """A network without a trunk attribute, that takes a mapping."""

    def __init__(self, names: Any) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(2, 6), nn.Linear(2, 6)
        self.out = nn.ModuleDict({name: nn.Linear(6, 1) for name in names})

    def forward(self, inputs: dict[str, Any], share: Any = None) -> dict[str, Tensor]:
        z = torch.tanh(self.left(inputs["parts"][0]) + self.right(inputs["parts"][1]))
        views = dict.fromkeys(self.out, z) if share is None else share(z)
        return {name: head(views[name]) for name, head in self.out.items()}


def mapping() -> Problem:
    def data(split: str) -> Tensors:
        x, y = numbers(split)
        return Tensors({"parts": [x[:, :2], x[:, 2:]]}, {"a": y[:, :1], "b": y[:, 1:]})

    return Problem(name="mapping", tasks=tasks(), data=data, model=Body)


def loader() -> Problem:
    def data(split: str) -> Loader:
        x, y = numbers(split)

        def collate(rows: list[int]) -> Batch:
            return Batch(x[rows], {"a": y[rows, :1], "b": y[rows, 1:]}, len(rows))

        def make(size: int, seed: int | None) -> DataLoader[Any]:
            random = None if seed is None else torch.Generator().manual_seed(seed)
            mixed = seed is not None
            rows: Any = range(len(x))
            return DataLoader(
                rows, size, shuffle=mixed, drop_last=mixed, generator=random, collate_fn=collate
            )

        return Loader(make, rows=len(x))

    return Problem(name="loader", tasks=tasks(), data=data, model=plain)


def per_task(sampled: bool = False) -> Problem:
    def data(split: str) -> PerTask:
        parts = {}
        for number, name in enumerate(("a", "b")):
            x, y = numbers(split, 48 - 16 * number)
            parts[name] = Tensors(x, {name: y[:, number : number + 1]})
        return PerTask(parts, draw=TaskSampler(2.0) if sampled else "together")

    return Problem(name="per task", tasks=tasks(), data=data, model=plain)


def gaps(none_in: str = "") -> Problem:
    """Every third label of ``b`` is missing, and all of a stretch of batches."""

    def data(split: str) -> Tensors:
        x, y = numbers(split)
        y[::3, 1] = torch.nan
        if split == none_in:
            y[:, 1] = torch.nan
        return Tensors(x, {"a": y[:, :1], "b": y[:, 1:]})

    return Problem(name="gaps", tasks=tasks(missing=float("nan")), data=data, model=plain)


class Largest(nn.Module):
    """Counts what it is shown, as metrics of torchmetrics do."""

    def __init__(self) -> None:
        super().__init__()
        self.reset()

    def reset(self) -> None:
        self.value, self.calls = torch.zeros(()), 0

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        self.value = torch.maximum(self.value, (outputs - targets).abs().max())
        self.calls += 1

    def compute(self) -> Tensor:
        assert self.calls
        return self.value


def gap_between(outputs: dict[str, Tensor], targets: dict[str, Tensor]) -> float:
    return float((outputs["a"] - outputs["b"]).abs().mean())


def measured() -> Problem:
    """A metric that sees batches, and one of both tasks."""
    worst = Metric(name="worst", score=Largest(), higher_is_better=False)
    both = Metric(name="gap", score=gap_between, higher_is_better=False)
    own = tuple(
        Task(name=n, loss=functional.mse_loss, metrics=(mean_absolute_error(), worst)) for n in "ab"
    )

    def data(split: str) -> Tensors:
        x, y = numbers(split)
        return Tensors(x, {"a": y[:, :1], "b": y[:, 1:]})

    return Problem(name="measured", tasks=own, data=data, model=plain, metrics=(both,))


def odd_losses() -> Problem:
    """Losses that are not functions of one output each."""

    def losses(model: nn.Module, batch: Batch, share: Any) -> dict[str, Tensor]:
        z = model(batch.inputs)
        both = {name: z[name] - batch.targets[name] for name in z if name in batch.targets}
        return {name: gap.square().mean() + 0.01 * gap.abs().mean() for name, gap in both.items()}

    return Problem(name="odd", tasks=tasks(), data=mapping_free, model=plain, losses=losses)


def mapping_free(split: str) -> Tensors:
    x, y = numbers(split)
    return Tensors(x, {"a": y[:, :1], "b": y[:, 1:]})


def masked(dropout: float = 0.5) -> Problem:
    """With dropout; the model writes down a digest of every mask."""

    class Noting(nn.Module):
        masks: ClassVar[list[float]] = []

        def __init__(self, names: Any) -> None:
            super().__init__()
            self.inner = plain(names)
            self.dropout = nn.Dropout(dropout)

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            mask = self.dropout(torch.ones(4))
            if self.training:
                type(self).masks.append(float(mask @ torch.tensor([1.0, 3.0, 9.0, 27.0])))
            return self.inner(x * mask)

    return Problem(name="masked", tasks=tasks(), data=mapping_free, model=Noting)


class Half(GramianMethod):
    """A method of the user's own: everything to the first task but a share.

    References:
        Nobody, *Nowhere*, 2024.
    """

    card = Card(
        id="half",
        name="Half",
        equation="w = (1 - s, s)",
        heads="weighted",
        weight_sum="1",
        degree=0.0,
        unit_free=False,
        guarantee="none",
        defaults="s = 0.5",
    )

    def __init__(self, share: float = 0.5) -> None:
        super().__init__()
        self.share = share

    def weights(self, gramian: Tensor, losses: Tensor) -> Tensor:
        return losses.new_tensor([1 - self.share, self.share])


class Failing(Half):
    """Raises in its first step."""

    def weights(self, gramian: Tensor, losses: Tensor) -> Tensor:
        raise RuntimeError("no weights today")


def momentum_free(groups: Any, lr: float, weight_decay: float) -> torch.optim.Optimizer:
    return torch.optim.SGD(groups, lr=lr, weight_decay=weight_decay)


class Halving:
    def __init__(self, optimizer: torch.optim.Optimizer, steps: int) -> None:
        self.optimizer, self.steps, self.done = optimizer, steps, 0

    def step(self) -> None:
        self.done += 1
        assert self.done <= self.steps
        for group in self.optimizer.param_groups:
            group["lr"] *= 0.5


class Cardless(LossMethod):
    """A method whose author forgot the card."""

    def weights(self, losses: Tensor) -> Tensor:
        return torch.ones_like(losses)
