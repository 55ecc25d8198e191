"""Where ``equipoise run`` sends trials."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from equipoise.study import Executor, Inline, Local, Ray, Slurm

# The options of each executor, as the command line and the executor call them.
TAKES: Mapping[str, tuple[str, ...]] = {
    "local": ("workers", "threads", "workers_per_gpu", "time_limit", "retries"),
    "inline": ("threads", "debug"),
    "ray": ("workers", "threads", "gpus", "time_limit", "retries", "address"),
    "slurm": ("workers", "threads", "gpus", "time_limit", "retries", "partition"),
}


def _slurm(gpus: float = 0.0, **options: Any) -> Executor:
    if gpus != int(gpus):
        raise ValueError(f"--gpus is {gpus:g}, but a job of Slurm takes whole GPUs")
    return Slurm(gpus=int(gpus), **options)


MAKES: Mapping[str, Callable[..., Executor]] = {
    "local": Local,
    "inline": Inline,
    "ray": Ray,
    "slurm": _slurm,
}


def executor(name: str, options: Mapping[str, Any]) -> Executor:
    """The executor of this name.

    Args:
        name: of :data:`TAKES`.
        options: by name; None leaves one at its default.

    Raises:
        ValueError: there is no such executor, or it does not take an option.
    """
    if name not in TAKES:
        raise ValueError(f"there is no executor {name!r}; known: {', '.join(TAKES)}")
    given = {key: value for key, value in options.items() if value is not None}
    for key in given:
        if key not in TAKES[name]:
            who = ", ".join(each for each in TAKES if key in TAKES[each])
            raise ValueError(
                f"--{key.replace('_', '-')} is for --executor {who}; {name!r} does not take it"
            )
    return MAKES[name](**given)
