"""The commands that tell of problems and of the data sets they read: problems, data."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from equipoise.cli.asking import Place, place
from equipoise.cli.result import to_json
from equipoise.cli.told import told
from equipoise.problems import PROBLEMS, DataSet, data_sets, presets
from equipoise.problems.files import build
from equipoise.problems.files.prepared import damaged

app = typer.Typer(help="Data sets on disk: list, check, prepare.", no_args_is_help=True)
_REMEDY = "--data-root names another place"
_Name = Annotated[
    str, typer.Argument(metavar="PROBLEM", help="see 'equipoise problems', or FILE.py:FUNCTION")
]
_Names = Annotated[
    list[str] | None, typer.Argument(metavar="[PROBLEM]...", help="those of these problems only")
]


def problems_command(
    as_json: Annotated[bool, typer.Option("--json", help="print as JSON")] = False,
) -> None:
    """List the problems: where their data comes from, and their presets."""
    with told(_REMEDY):
        rows = [
            {
                "problem": name,
                "data": [each.name for each in data_sets(name)],
                "presets": list(presets(name)),
            }
            for name in PROBLEMS
        ]
        if as_json:
            typer.echo(to_json({"problems": rows}))
            return
        table = Table("problem", "data sets on disk", "presets", box=None)
        for row in rows:
            table.add_row(
                str(row["problem"]), ", ".join(row["data"]) or "none", ", ".join(row["presets"])
            )
        Console(soft_wrap=False).print(table)


@app.command("list")
def list_command(
    names: _Names = None,
    root: Place = None,
    as_json: Annotated[bool, typer.Option("--json", help="print as JSON")] = False,
) -> None:
    """List the data sets, the problems that read them, and which are there."""
    with told(_REMEDY):
        place(root)
        found = list(_all(names or PROBLEMS))
        rows = [
            {
                "data": each.name,
                "problems": readers,
                "there": _is_there(each),
                "licence": each.licence,
                "page": each.page,
            }
            for each, readers in found
        ]
        if as_json:
            typer.echo(to_json({"data": rows}))
            return
        for row, (each, readers) in zip(rows, found, strict=True):
            typer.echo(f"{each.name}: {'there' if row['there'] else 'not there'}")
            for what, words in (
                ("problems", ", ".join(readers)),
                ("licence", each.licence),
                ("page", each.page),
            ):
                typer.echo(f"    {what:<9} {words}")


@app.command("check")
def check_command(name: _Name, root: Place = None) -> None:
    """Read the files of a problem and say which is missing or wrong, with its page and licence."""
    with told(_REMEDY):
        place(root)
        wrong = 0
        for each in _sets(name):
            complaints = list(each.complaints())
            if not complaints:
                for recipe in each.recipes(each.folder()):
                    complaints += damaged(each.folder(), recipe)
            for line in complaints:
                typer.echo(line)
            wrong += len(complaints)
            state = f"{len(complaints)} wrong" if complaints else "all well"
            typer.echo(f"{each.name}: {state}. Licence: {each.licence}. Page: {each.page}")
        if wrong:
            raise typer.Exit(1)


@app.command("prepare")
def prepare_command(name: _Name, root: Place = None) -> None:
    """Decode the files of a problem once, into arrays beside them; a run that was stopped goes on."""
    with told(_REMEDY):
        place(root)
        for each in _sets(name):
            folder = each.folder()
            recipes = each.recipes(folder)
            if not recipes:
                typer.echo(f"{each.name}: nothing to prepare, its files are read as they are")
            for recipe in recipes:
                if not os.access(folder, os.W_OK):
                    raise ValueError(
                        f"{folder} cannot be written to; put a copy, or links to its files, into a folder of "
                        "yours and name that by --data-root"
                    )
                with Progress(
                    TextColumn("{task.description}"),
                    BarColumn(),
                    MofNCompleteColumn(),
                    TimeRemainingColumn(),
                    console=Console(stderr=True),
                ) as bar:
                    row = bar.add_task(f"{each.name} {recipe.key}", total=len(recipe.items))
                    there = build(folder, recipe, partial(_show, bar, row))
                typer.echo(there)


def _show(bar: Progress, row: TaskID, done: int, of: int) -> None:
    bar.update(row, completed=done, total=of)


def _sets(name: str) -> tuple[DataSet, ...]:
    found = data_sets(name)
    if not found:
        typer.echo(f"{name} reads no files: nothing to do")
    return found


def _all(names: Iterable[str]) -> Iterator[tuple[DataSet, list[str]]]:
    """Every data set once, with the problems that read it."""
    readers: dict[tuple[str, ...], tuple[DataSet, list[str]]] = {}
    for name in names:
        for each in data_sets(name):
            readers.setdefault((each.name, *each.files), (each, []))[1].append(name)
    yield from readers.values()


def _is_there(each: DataSet) -> bool:
    """Whether no file is missing; their content is not looked at."""
    try:
        return not any(each.lacking(each.folder()))
    except ValueError:
        return False
