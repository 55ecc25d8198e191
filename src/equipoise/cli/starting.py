"""The commands that come before a study runs: new, check."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from equipoise.cli.template import written
from equipoise.study import Spec
from equipoise.study.check import Checked, check


def new(
    what: Annotated[str, typer.Argument(metavar="problem", help="what to write")] = "problem",
    name: Annotated[str, typer.Argument(help="its name; two files are called after it")] = "mine",
) -> None:
    """Write a commented problem that runs as it is, and the study that names it.

    Raises:
        ValueError: something else is asked for, the name is no file name, or a file is there already.
    """
    if what != "problem":
        raise ValueError(f"there is nothing to write for {what!r}; known: problem")
    if not name.isidentifier():
        raise ValueError(f"{name!r} makes no good file name; take letters, digits and underscores")
    files = Path(f"{name}.py"), Path(f"{name}.toml")
    for path in files:
        if path.exists():
            raise ValueError(f"{str(path)!r} is there already; choose another name")
    for path, text in zip(files, written(name, *map(str, files)), strict=True):
        try:
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise ValueError(f"cannot write {str(path)!r}: {error.strerror}") from None
        typer.echo(path)
    typer.echo(f"Next: equipoise check {files[1]}")


def show_check(spec: Spec, workers: int) -> bool:
    """Prints what a few steps of every arm say; whether none of them had trouble."""
    found = []
    for each in check(spec):
        found.append(each)
        typer.echo(_line(each))
    trials = sum(each.trials for each in found)
    seconds = sum(each.seconds for each in found) / workers
    typer.echo(f"{trials} trials, about {_time(seconds)} with {workers} worker(s) of this machine")
    return not any(each.trouble for each in found)


def _line(each: Checked) -> str:
    if each.trouble:
        return f"{each.label:<28} FAILED  {each.trouble}"
    return f"{each.label:<28} {each.trials:>5} trials  {each.step_ms:8.2f} ms a step"


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    if seconds < 5400:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.1f} hours"
