"""Where metrics go: ``log(metrics, step)``, for files and for trackers.

::

    with JSONL("log.jsonl") as log:
        for step, batch in enumerate(loader):
            ...
            if step % 50 == 0:
                log(balancer.metrics(), step)

The trackers that are installed by themselves (wandb, mlflow, trackio) are imported when one is made.
"""

from __future__ import annotations

import csv
import importlib
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from equipoise.nn.needs import MissingLibraryError

_Own = TypeVar("_Own", bound="Logger")


class Logger:
    """Takes metrics and a step; closed by ``close()``, or at the end of a ``with``."""

    def __call__(self, metrics: Mapping[str, float], step: int) -> None:
        """Logs the metrics of a step.

        Args:
            metrics: by name.
            step: number of the optimiser step.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Writes what is left."""

    def __enter__(self: _Own) -> _Own:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class JSONL(Logger):
    """A JSON object a line, ``{"step": 0, ...}``; ``equipoise plot`` draws it.

    A file that is there is continued. NaN and infinity, which JSON does not have, are null.

    Args:
        path: the file.
    """

    def __init__(self, path: str | Path) -> None:
        self._file = _appended(path)

    def __call__(self, metrics: Mapping[str, float], step: int) -> None:
        """See :meth:`Logger.__call__`."""
        row: dict[str, float | None] = {"step": step}
        for name, value in metrics.items():
            row[name] = float(value) if math.isfinite(value) else None
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()

    def close(self) -> None:
        """See :meth:`Logger.close`."""
        self._file.close()


class CSV(Logger):
    """A line for every number: step, metric, value. Metrics may come and go between steps.

    A file that is there is continued.

    Args:
        path: the file.
    """

    def __init__(self, path: str | Path) -> None:
        self._file = _appended(path)
        self._writer = csv.writer(self._file, lineterminator="\n")
        if self._file.tell() == 0:
            self._writer.writerow(["step", "metric", "value"])

    def __call__(self, metrics: Mapping[str, float], step: int) -> None:
        """See :meth:`Logger.__call__`."""
        self._writer.writerows((step, name, float(value)) for name, value in metrics.items())
        self._file.flush()

    def close(self) -> None:
        """See :meth:`Logger.close`."""
        self._file.close()


class TensorBoard(Logger):
    """A scalar for each metric.

    Args:
        to: a folder, or a ``SummaryWriter``, which is then not closed here.

    Raises:
        MissingLibraryError: tensorboard is not installed.
    """

    def __init__(self, to: Any) -> None:
        self._own = isinstance(to, str | Path)
        _library("tensorboard")
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(str(to)) if self._own else to

    def __call__(self, metrics: Mapping[str, float], step: int) -> None:
        """See :meth:`Logger.__call__`."""
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """See :meth:`Logger.close`."""
        if self._own:
            self._writer.close()
        else:
            self._writer.flush()


class WandB(Logger):
    """Weights & Biases.

    Args:
        run: a run of yours, which is then not finished here; None begins one.
        options: of ``wandb.init``, such as ``project``.

    Raises:
        MissingLibraryError: wandb is not installed.
        ValueError: a run and options of another.
    """

    def __init__(self, run: Any = None, **options: Any) -> None:
        if run is not None and options:
            raise ValueError(f"{', '.join(options)}: options of a new run, but a run was given")
        self._own = run is None
        self._run = _library("wandb").init(**options) if run is None else run

    def __call__(self, metrics: Mapping[str, float], step: int) -> None:
        """See :meth:`Logger.__call__`."""
        self._run.log(dict(metrics), step=step)

    def close(self) -> None:
        """See :meth:`Logger.close`."""
        if self._own:
            self._run.finish()


class MLflow(Logger):
    """MLflow. A run that is active is used, and left open.

    Letters that MLflow does not take in names become ``_``.

    Args:
        options: of ``mlflow.start_run``, where no run is active.

    Raises:
        MissingLibraryError: mlflow is not installed.
    """

    def __init__(self, **options: Any) -> None:
        self._mlflow = _library("mlflow")
        self._own = self._mlflow.active_run() is None
        if self._own:
            self._mlflow.start_run(**options)

    def __call__(self, metrics: Mapping[str, float], step: int) -> None:
        """See :meth:`Logger.__call__`."""
        named = {re.sub(r"[^\w\-./ ]", "_", name): float(v) for name, v in metrics.items()}
        self._mlflow.log_metrics(named, step=step)

    def close(self) -> None:
        """See :meth:`Logger.close`."""
        if self._own:
            self._mlflow.end_run()


class Trackio(Logger):
    """Trackio.

    Args:
        project: its name.
        options: of ``trackio.init``.

    Raises:
        MissingLibraryError: trackio is not installed.
    """

    def __init__(self, project: str, **options: Any) -> None:
        self._trackio = _library("trackio")
        self._trackio.init(project=project, **options)

    def __call__(self, metrics: Mapping[str, float], step: int) -> None:
        """See :meth:`Logger.__call__`."""
        self._trackio.log(dict(metrics), step=step)

    def close(self) -> None:
        """See :meth:`Logger.close`."""
        self._trackio.finish()


def _appended(path: str | Path) -> Any:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    return Path(path).open("a", encoding="utf-8", newline="")


def _library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        raise MissingLibraryError(
            f"this needs {name}; install it with: pip install {name}"
        ) from None
