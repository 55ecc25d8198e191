"""Commands for the files of studies: ls, show, export, merge, rm."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from equipoise.cli.progress import describe
from equipoise.cli.told import told
from equipoise.study import Store
from equipoise.study.asked import NONE
from equipoise.study.export import export
from equipoise.study.merge import merge
from equipoise.study.selection import study_of
from equipoise.study.shelf import entries, kept, remove
from equipoise.study.standing import standing

DB = Annotated[Path, typer.Argument(metavar="DB", help="the file of a study")]


def ls(
    folder: Annotated[Path, typer.Argument(metavar="[FOLDER]", help="where studies lie")] = Path(
        "runs"
    ),
    as_json: Annotated[bool, typer.Option("--json", help="print as JSON")] = False,
) -> None:
    """List the studies of a folder."""
    with told():
        found = entries(folder)
        if as_json:
            rows = [{**vars(each), "path": str(each.path)} for each in found]
            typer.echo(json.dumps(rows, indent=2))
            return
        table = _table("file", "problem", "protocol", "done", "failed", "last trial (UTC)")
        for each in found:
            numbers = ("", "") if each.trouble else (str(each.done), str(each.failed))
            table.add_row(each.path.name, each.problem, each.protocol, *numbers, each.date)
        Console().print(table)
        for each in found:
            if each.trouble:
                typer.echo(f"Careful: {each.trouble}", err=True)
            if each.others:
                typer.echo(f"{each.path.name}: {kept(each.others)}")


def show(
    store: DB,
    tracebacks: Annotated[
        bool, typer.Option(help="show errors whole, not their last line")
    ] = False,
) -> None:
    """Show a study: what it compares, how far it is, and what failed."""
    with told(), Store(store, read_only=True) as opened:
        arms = standing(opened)
        typer.echo(study_of(opened).to_toml())
        table = _table("arm", "tuning", "final")
        for arm in arms:
            # Where every seed tunes for itself, final trials are among those of tuning.
            states = (arm.tuning, arm.finals.values() if arm.apart else ())
            table.add_row(arm.label, *map(_counted, states))
        Console().print(table)
        whole = NONE
        for one in arms:
            whole |= one.asked
        stored = opened.trials()
        others = len(stored.keys() - whole.ids)
        if others:
            typer.echo(kept(others))
        for each in (stored[key] for key in stored if key in whole.ids):
            if each.status == "failed":
                error = each.note if tracebacks else (each.note.splitlines() or ["no message"])[-1]
                typer.echo(
                    f"{describe(each.trial)} failed ({each.cause}), {each.attempts} x: {error}"
                )


def export_command(
    store: DB,
    out: Annotated[Path, typer.Option(help="the folder to write to")],
    form: Annotated[str, typer.Option("--format", help="csv, json or parquet")] = "csv",
) -> None:
    """Write every table of a study to files."""
    with told(), Store(store, read_only=True) as opened:
        for path in export(opened, out, form):
            typer.echo(path)


def merge_command(
    first: Annotated[Path, typer.Argument(metavar="A", help="the file of a study")],
    second: Annotated[Path, typer.Argument(metavar="B", help="the same study from elsewhere")],
    out: Annotated[Path, typer.Option(help="the file to write")],
    keep_first: Annotated[
        bool, typer.Option("--keep-first", help="take A's numbers where the two differ")
    ] = False,
) -> None:
    """Join two files of one study that ran on two machines."""
    with told(), Store(first, read_only=True) as one, Store(second, read_only=True) as two:
        done = merge(one, two, out, keep_first)
        typer.echo(
            f"{out}: {done.first} trials of {first}, {done.second} of {second}; {done.both} were in both "
            f"with the same numbers"
        )
        if done.different:
            typer.echo(
                f"Careful: {done.different} trials had other numbers in {second}, by up to "
                f"{done.largest:.2g} of their value; those of {first} were taken.",
                err=True,
            )


def rm(
    store: DB,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="do not ask")] = False,
) -> None:
    """Remove the file of a study, and what lies beside it."""
    with told():
        if store.is_file() and not yes and not typer.confirm(f"Remove {store} and all its trials?"):
            typer.echo("Nothing was removed.")
            return
        remove(store)
        typer.echo(f"Removed {store}.")


def _counted(states: Iterable[str]) -> str:
    """``12 done, 1 failed``."""
    return ", ".join(f"{count} {state}" for state, count in sorted(Counter(states).items()))


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
