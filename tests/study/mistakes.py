"""A problem with one mistake at a time, as people make them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader

from equipoise.problems import (
    Loader,
    Metric,
    PerTask,
    Problem,
    Task,
    Tensors,
    TrunkAndHeads,
    accuracy,
    rmse,
)

HERE = str(Path(__file__).resolve())
SPLITS = ("train", "validation", "test")


def table(split: str) -> tuple[Tensor, Tensor, Tensor]:
    x = torch.randn(64, 4, generator=torch.Generator().manual_seed(SPLITS.index(split)))
    return x, (x[:, 0] > 0).long(), x.sum(1, keepdim=True)


def data(split: str) -> Tensors:
    x, a, b = table(split)
    return Tensors(x, {"a": a, "b": b})


def model(names: Any) -> nn.Module:
    heads = {"a": 2, "b": 1}
    trunk = nn.Sequential(nn.Linear(4, 8), nn.ReLU())
    return TrunkAndHeads(trunk, {name: nn.Linear(8, heads[name]) for name in names})


def changed(change: Callable[[str, Tensor, Tensor, Tensor], Any]) -> Callable[[str], Any]:
    return lambda split: change(split, *table(split))


def holes(tensor: Tensor) -> Tensor:
    tensor[3] = torch.nan
    return tensor


def no_batch(split: str, *_: Tensor) -> Loader:
    """Drops the last batch where there is no full one, in training only."""
    whole = data(split)

    def make(size: int, seed: int | None) -> Any:
        if seed is None:
            return list(whole.batches(size, None))
        return DataLoader(range(64), 1000, drop_last=True)

    return Loader(make, rows=64)


def broken_promise(split: str, *_: Tensor) -> Loader:
    whole = data(split)
    return Loader(lambda size, seed: iter(whole.batches(size, None) if seed is None else ()), 64)


def raises(*_: Any) -> Any:
    raise RuntimeError("it is broken")


class Headless(nn.Module):
    def __init__(self, names: Any) -> None:
        super().__init__()
        self.only = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Any:
        return {"a": self.only(x)}


class Bare(Headless):
    def forward(self, x: Tensor) -> Any:
        return self.only(x)


def only_together(names: Any) -> nn.Module:
    return model({"a": 0, "b": 0} if len(names) == 2 else ["c"])


class Updated:
    update = raises

    def compute(self) -> float:
        return 1.0


@dataclass(frozen=True)
class Mistake:
    """What to change of a good problem; ``told`` is what a user has to read."""

    told: str
    data: Callable[[str], Any] = data
    model: Callable[[Any], Any] = model
    b: dict[str, Any] = field(default_factory=dict)


def scored(score: Any) -> dict[str, Any]:
    return {"metrics": lambda: (Metric(name="m", score=score, higher_is_better=True),)}


# Told before the first trial.
AT_ONCE = {
    "a target without its last dimension": Mistake(
        "the loss of task 'b' raised UserWarning: Using a target size",
        changed(lambda s, x, a, b: Tensors(x, {"a": a, "b": b[:, 0]})),
    ),
    "classes with a dimension too many": Mistake(
        "the loss of task 'a' raised RuntimeError",
        changed(lambda s, x, a, b: Tensors(x, {"a": a[:, None], "b": b})),
    ),
    "a class that the head does not have": Mistake(
        "the loss of task 'a' raised IndexError: Target 5 is out of bounds. (outputs float32[64, 2], targets "
        "int64[64])",
        changed(lambda s, x, a, b: Tensors(x, {"a": a + 5, "b": b})),
    ),
    "targets of another length": Mistake(
        "targets of 'b' have 10 rows but there are 64 inputs",
        changed(lambda s, x, a, b: Tensors(x, {"a": a, "b": b[:10]})),
    ),
    "a misnamed task": Mistake(
        "the training data have no targets of task 'b'; there are targets of: a, bb",
        changed(lambda s, x, a, b: Tensors(x, {"a": a, "bb": b})),
    ),
    "a misnamed task among data of their own": Mistake(
        "the source of task 'b' has no targets of it; it has: bb",
        changed(
            lambda s, x, a, b: PerTask({"a": Tensors(x, {"a": a}), "b": Tensors(x, {"bb": b})})
        ),
    ),
    "targets in a list": Mistake(
        "targets is a list; give a mapping from task name to targets",
        changed(lambda s, x, a, b: Tensors(x, [a, b])),  # type: ignore[arg-type]
    ),
    "arrays": Mistake(
        "targets of 'a': there is an array (ndarray) among them; make it a tensor with torch.as_tensor()",
        changed(lambda s, x, a, b: Tensors(x, {"a": a.numpy(), "b": b})),
    ),
    "no data": Mistake(
        "data('train') of problem 'mistaken' returned a tuple", changed(lambda s, x, a, b: (x, a))
    ),
    "no rows": Mistake(
        "there are no rows", changed(lambda s, x, a, b: Tensors(x[:0], {"a": a[:0]}))
    ),
    "a loader that gives nothing": Mistake(
        "the training data of problem 'mistaken' gave no batch",
        lambda _: Loader(lambda size, seed: iter(()), rows=64),
    ),
    "a loader without a full batch": Mistake(
        "the training data of 64 examples give no batch of 16", changed(no_batch)
    ),
    "a loader of something else": Mistake(
        "the loader gave a Tensor; let it give a Batch",
        changed(lambda s, x, a, b: Loader(lambda size, seed: [x], rows=64)),
    ),
    "inputs that are not finite": Mistake(
        "task 'a' has no finite loss before training: its inputs hold NaN or infinity",
        changed(lambda s, x, a, b: Tensors(holes(x), {"a": a, "b": b})),
    ),
    "missing labels that are not said to be": Mistake(
        "task 'b' has no finite loss before training: its targets hold NaN or infinity; missing=",
        changed(lambda s, x, a, b: Tensors(x, {"a": a, "b": holes(b)})),
    ),
    "inputs of another type": Mistake(
        "the model raised RuntimeError: mat1 and mat2 must have the same dtype, but got Double and Float "
        "(inputs float64[64, 4])",
        changed(lambda s, x, a, b: Tensors(x.double(), {"a": a, "b": b})),
    ),
    "no model": Mistake("model(['a', 'b']) of problem 'mistaken' returned a NoneType", model=print),
    "no head": Mistake("the model gave no output for task 'b'; it gave: a", model=Headless),
    "no mapping": Mistake("the model returned float32[64, 2]; return a mapping", model=Bare),
    "no single-task network": Mistake(
        "the network of task 'a' alone, model(['a']), does not work: KeyError", model=only_together
    ),
    "a loss of many numbers": Mistake(
        "the loss of task 'b' returned float32[64, 1]; return the mean",
        b={"loss": lambda out, y: (out - y).square()},
    ),
    "a loss of plain Python": Mistake(
        "the loss of task 'b' returned a float", b={"loss": lambda out, y: 1.0}
    ),
    "a metric without its tuple": Mistake(
        "metrics of task 'b' is one metric; give a tuple", b={"metrics": rmse}
    ),
    "two metrics of one name": Mistake(
        "metrics of task 'b' need different names, not ['rmse', 'rmse']",
        b={"metrics": lambda: (rmse(), rmse())},
    ),
    "a metric by its name": Mistake("metric 'm' has a str as its score", b=scored("accuracy")),
}
# Told by the trials, all of which end by it.
BY_TRIALS = {
    "a metric that raises": Mistake(
        "metric 'm' of task 'b' gave no number: RuntimeError: it is broken", b=scored(raises)
    ),
    "a metric that raises on a batch": Mistake(
        "metric 'm' of task 'b' gave no number: RuntimeError: it is broken", b=scored(Updated())
    ),
    "a metric that returns nothing": Mistake(
        "metric 'm' of task 'b' gave no number: TypeError", b=scored(lambda out, y: None)
    ),
    "a metric that is not finite": Mistake(
        "m of 'b' on the validation split is not finite in epoch 1",
        b=scored(lambda out, y: float("nan")),
    ),
    "a metric for other shapes": Mistake(
        "metric 'accuracy' of task 'b' gave no number: ValueError: int64[64] cannot be compared with targets "
        "float32[64, 1]",
        b={"metrics": lambda: (accuracy(),)},
    ),
    "inputs for validation that are not finite": Mistake(
        "loss of 'a' on the validation split is not finite in epoch 1: its inputs hold NaN or infinity",
        changed(lambda s, x, a, b: Tensors(holes(x) if s == "validation" else x, {"a": a, "b": b})),
    ),
    "a loss without a graph": Mistake(
        "the loss of task 'b' has no graph",
        b={"loss": lambda out, y: functional.mse_loss(out, y).detach()},
    ),
    "a loader that promises batches": Mistake(
        "the training data promise 4 batches of 16 but gave none", changed(broken_promise)
    ),
}


def mistaken(kind: str) -> Problem:
    what = {**AT_ONCE, **BY_TRIALS}[kind]
    metrics = what.b.get("metrics", lambda: (rmse(),))()
    b = Task(name="b", loss=what.b.get("loss", functional.mse_loss), metrics=metrics)
    a = replace(b, name="a", loss=functional.cross_entropy, metrics=(accuracy(),))
    return Problem(name="mistaken", tasks=(a, b), data=what.data, model=what.model)
