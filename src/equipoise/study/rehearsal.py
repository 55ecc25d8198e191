"""What is asked of a problem before the first trial, so that a mistake is told at once and by its name."""

from __future__ import annotations

import math
import warnings

import torch

from equipoise.problems import Batch, Problem, Source, Task
from equipoise.problems.nesting import tensors

# Fewer where a problem is scored in smaller pieces.
EXAMPLES = 1024


def first_losses(problem: Problem, device: str = "cpu") -> dict[str, float]:
    """The loss of every task before training, on the first training examples.

    The network of each task alone is built and tried on the way.

    Raises:
        ValueError: data, network, loss or targets are not what a study needs.
    """
    names = [task.name for task in problem.tasks]
    seen: dict[str, list[float]] = {name: [] for name in names}
    labelled: set[str] = set()
    rows, examples = 0, min(EXAMPLES, problem.piece)
    first: Batch | None = None
    with torch.random.fork_rng(devices=[]), torch.no_grad(), warnings.catch_warnings():
        # Losses of torch only warn where targets are spread over outputs of another shape.
        warnings.filterwarnings("error", message="Using a target size")
        torch.manual_seed(0)
        model = problem.network(names).to(device).eval()
        for full in problem.source("train").batches(examples, None):
            batch = full.to(device)
            first = first or batch
            labelled |= set(batch.targets)
            for name, loss in problem.losses_of(model, batch.only(names)).items():
                if not math.isfinite(float(loss)):
                    raise ValueError(_infinite(problem.by_name[name], batch))
                seen[name].append(float(loss))
            rows += batch.size
            if rows >= examples and all(seen.values()):
                break
        if first is None:
            raise ValueError(f"the training data of problem {problem.name!r} gave no batch")
        for name in names:
            if not seen[name]:
                raise ValueError(_without(problem.by_name[name], labelled))
            _alone(problem, name, first, device)
    # To a few digits, since another processor may differ in the last ones.
    return {name: float(f"{math.fsum(v) / len(v):.4g}") for name, v in seen.items()}


def steps_of(data: Source, size: int) -> int:
    """Training batches of an epoch.

    Raises:
        ValueError: there is none.
    """
    steps = data.steps(size)
    if steps < 1:
        raise ValueError(
            f"the training data of {len(data)} examples give no batch of {size}: does "
            "the loader drop the last batch, and is there no full one?"
        )
    return steps


def why(task: Task, batch: Batch) -> str:
    """Why a loss is not finite, as far as the examples tell; empty where they are finite."""
    if _broken(batch.only([task.name]).inputs):
        return "its inputs hold NaN or infinity"
    if task.missing is None and _broken(batch.targets.get(task.name)):
        return (
            "its targets hold NaN or infinity; missing=float('nan') of the task leaves out labels that "
            "are missing"
        )
    return ""


def _broken(value: object) -> bool:
    return any(not bool(t.isfinite().all()) for t in tensors(value) if t.is_floating_point())


def _infinite(task: Task, batch: Batch) -> str:
    reason = why(task, batch) or "check its labels, its loss and the first outputs of the model"
    return f"task {task.name!r} has no finite loss before training: {reason}"


def _without(task: Task, labelled: set[str]) -> str:
    if task.name in labelled:
        return f"every label of task {task.name!r} in the training data is missing"
    there = ", ".join(sorted(map(str, labelled))) or "none"
    return f"the training data have no targets of task {task.name!r}; there are targets of: {there}"


def _alone(problem: Problem, name: str, batch: Batch, device: str) -> None:
    """Tries the network of a task alone, the reference of every study."""
    try:
        model = problem.network([name]).to(device).eval()
        problem.losses_of(model, batch.only([name]))
    except Exception as error:
        told = f"{type(error).__name__}: {error}" if not isinstance(error, ValueError) else error
        raise ValueError(
            f"the network of task {name!r} alone, model([{name!r}]), does not work: {told}"
        ) from error
