"""The commands that come before a study runs: new, check."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from equipoise.cli.asking import Arch, Options, Place, Preset, Quick, Tasks, Width, asked, place
from equipoise.cli.template import written
from equipoise.cli.told import told
from equipoise.study import parse
from equipoise.study.check import Checked, check
from equipoise.study.executors.base import cores
from equipoise.study.studies import changed


def new_command(
    what: Annotated[str, typer.Argument(metavar="problem", help="what to write")] = "problem",
    name: Annotated[str, typer.Argument(help="its name; two files are called after it")] = "mine",
) -> None:
    """Write a commented problem that runs as it is, and the study that names it."""
    with told():
        if what != "problem":
            raise ValueError(f"there is nothing to write for {what!r}; known: problem")
        if not name.isidentifier():
            raise ValueError(
                f"{name!r} makes no good file name; take letters, digits and underscores"
            )
        files = Path(f"{name}.py"), Path(f"{name}.toml")
        for path in files:
            if path.exists():
                raise ValueError(f"{str(path)!r} is there already; choose another name")
        for path, text in zip(files, written(name, *map(str, files)), strict=True):
            path.write_text(text, encoding="utf-8")
            typer.echo(path)
        typer.echo(f"Next: equipoise check {files[1]}")


def check_command(
    which: Annotated[str, typer.Argument(metavar="STUDY", help="as 'equipoise run' takes it")],
    preset: Preset = None,
    quick: Quick = False,
    arch: Arch = None,
    width: Width = None,
    tasks: Tasks = None,
    option: Options = None,
    data_root: Place = None,
    workers: Annotated[
        int | None, typer.Option(help="that will run it; default: cores", min=1)
    ] = None,
) -> None:
    """Take a few steps of every arm of a study, say how long it will take, and write nothing."""
    with told():
        found = []
        place(data_root)
        wanted = asked(which, preset, quick, arch, width, tasks, option)
        for each in check(parse(changed(wanted.content(), wanted.changes()), which)):
            found.append(each)
            typer.echo(_line(each))
        count = workers or cores()
        trials = sum(each.trials - each.shared for each in found)
        seconds = sum(each.seconds for each in found) / count
        typer.echo(
            f"{trials} trials, about {_time(seconds)} with {count} worker(s) on this machine"
        )
        if any(each.trouble for each in found):
            raise typer.Exit(1)


def _line(each: Checked) -> str:
    if each.trouble:
        return f"{each.label:<28} FAILED  {each.trouble}"
    line = f"{each.label:<28} {each.trials:>5} trials  {each.step_ms:8.2f} ms a step"
    return f"{line}, {each.shared} of them shared with an arm above" if each.shared else line


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    if seconds < 5400:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.1f} hours"
