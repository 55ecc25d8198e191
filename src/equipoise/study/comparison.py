"""A study from Python, in one call."""

from __future__ import annotations

import inspect
import itertools
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from equipoise.problems import Problem
from equipoise.problems.catalogue import given
from equipoise.study.advice import advice
from equipoise.study.executors import Executor, Inline, Local
from equipoise.study.findings import Findings, findings
from equipoise.study.loading import parse
from equipoise.study.run import Listener, run
from equipoise.study.store import Store
from equipoise.study.verdict import headline

_numbers = itertools.count()


@dataclass(frozen=True)
class Study:
    """A study that has run; its text is the verdict, and what to do next.

    Attributes:
        path: the file with everything that was measured.
    """

    path: Path

    def findings(self) -> Findings:
        """Every number of the comparison."""
        with Store(self.path, read_only=True) as store:
            return findings(store)

    def __str__(self) -> str:
        found = self.findings()
        said = [sentence.text for sentence in headline(found)]
        return "\n".join([*said, *(f"Next: {text}" for text in advice(found))])


def compare(
    problem: str | Problem | Callable[..., Problem],
    methods: Sequence[str | Mapping[str, Any]],
    *,
    learning_rates: float | Sequence[float] | Mapping[str, Any],
    epochs: int,
    batch_size: int,
    seeds: int | Sequence[int] = 5,
    out: str | Path | None = None,
    executor: Executor | None = None,
    listener: Listener | None = None,
    keep: bool = False,
    **settings: Any,
) -> Study:
    """Compares methods on a problem with each other and with the baselines that every study has.

    Args:
        problem: a name as in a TOML file; a function of a file or module, which worker processes import
            (a script guards its calls by ``if __name__ == "__main__":``); or a problem itself, which runs
            in this process only.
        methods: ids, or mappings with options, as in a TOML file.
        learning_rates: to try; ``{"low": ..., "high": ...}`` where candidates are drawn.
        epochs: of each trial.
        batch_size: of each step.
        seeds: their number, or the seeds.
        out: the study's file; None makes a temporary one.
        executor: where trials run; None takes worker processes where it can.
        listener: is told what happens.
        keep: whether trials are kept that ran before the problem's files changed.
        settings: anything else that a TOML file may say.

    Raises:
        ValueError: the study makes no sense.
        TypeError: ``problem`` is something else.
    """
    name, apart = named(problem)
    refuse_no_methods(methods, "compare()")
    _refuse_odd(executor, listener, out)
    spec = parse(
        {
            "problem": name,
            "methods": methods,
            "learning_rates": learning_rates,
            "epochs": epochs,
            "batch_size": batch_size,
            "seeds": seeds,
            **settings,
        },
        "compare()",
    )
    if executor is None:
        executor = Local() if apart else Inline()
    elif not apart and not isinstance(executor, Inline):
        raise ValueError(
            "this problem lives in this process only; give a function of a file, which other processes can "
            "import, or take executor=Inline()"
        )
    path = Path(tempfile.mkdtemp(prefix="equipoise-")) / "study.db" if out is None else Path(out)
    run(spec, path, executor, listener, keep=keep)
    return Study(path)


def refuse_no_methods(methods: Any, whose: str) -> None:
    """Refuses what is no list of methods, or an empty one.

    Raises:
        ValueError: it is not.
    """
    if isinstance(methods, str) or not isinstance(methods, Sequence) or not methods:
        raise ValueError(
            f"{whose}: methods is a list of ids, such as ['uw']; got {methods!r}; for the baselines alone "
            "give ['ew']"
        )


def _refuse_odd(executor: Any, listener: Any, out: Any) -> None:
    if executor is not None and not callable(getattr(executor, "run", None)):
        raise ValueError(
            f"compare(): executor is an object such as Local() or Inline(); got {executor!r}"
        )
    if listener is not None and not all(
        callable(getattr(listener, name, None)) for name in ("stage", "finished")
    ):
        raise ValueError(
            f"compare(): listener has methods stage and finished, as a Listener; got {listener!r}"
        )
    if out is not None and not isinstance(out, str | PathLike):
        raise ValueError(f"compare(): out is the path of a file, such as 'study.db'; got {out!r}")


def named(problem: Any) -> tuple[str, bool]:
    """The name of a problem, and whether another process can import it."""
    if isinstance(problem, str):
        return problem, True
    if isinstance(problem, Problem):
        return given(f"{problem.name} ({next(_numbers)})", lambda: problem), False
    if not callable(problem):
        raise TypeError(
            f"problem is {problem!r} ({type(problem).__name__}); give a Problem, a function that returns "
            "one, or its name"
        )
    try:
        source = inspect.getsourcefile(problem)
    except TypeError:
        source = None
    called = getattr(problem, "__qualname__", "<locals>")
    if source is None or not Path(source).is_file() or not called.isidentifier():
        return given(f"{called} ({next(_numbers)})", problem), False
    return f"{Path(source).resolve()}:{called}", True
