"""The commands, in one table, and the two small ones: report and methods."""

from __future__ import annotations

import webbrowser
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated

import typer

from equipoise.cli import stores
from equipoise.cli.result import summary, to_json
from equipoise.cli.running import need_report, run_command
from equipoise.cli.starting import check_command, new_command
from equipoise.cli.tables import show_card, show_cards
from equipoise.cli.told import told
from equipoise.cli.watching import watch
from equipoise.study import Store, findings

app = typer.Typer(
    help="Balance the losses of a multi-task network, and find out, fairly, whether it helped.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
)


def report_command(
    store: stores.DB,
    out: Annotated[
        Path | None, typer.Option(help="the HTML file, or a folder; default: beside DB")
    ] = None,
    show: Annotated[bool, typer.Option("--open", help="open it in the browser")] = False,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="print the result as JSON; write a report only with --out"),
    ] = False,
) -> None:
    """Write the report of a study: one HTML file that works offline, Markdown and CSV."""
    with told():
        if as_json and out is None:
            with Store(store, read_only=True) as opened:
                typer.echo(
                    to_json({**summary(findings(opened)), "store": str(store), "report": None})
                )
            return
        need_report()
        from equipoise.report import write

        target = out / f"{store.stem}.html" if out is not None and out.is_dir() else out
        with Store(store, read_only=True) as opened:
            page = write(opened, target)
            result = summary(findings(opened)) if as_json else None
        typer.echo(
            to_json({**result, "store": str(store), "report": str(page)}) if result else page
        )
        if show:
            webbrowser.open(page.resolve().as_uri())


def methods_command(
    name: Annotated[str | None, typer.Argument(metavar="[ID]", help="show the whole card")] = None,
    needs: Annotated[
        str | None, typer.Option(help="only those that need: losses, gramian, jacobian")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print as JSON")] = False,
) -> None:
    """List the methods, or show what one is."""
    with told():
        if name is None:
            show_cards(needs, as_json)
        else:
            show_card(name, as_json)


COMMANDS: Mapping[str, Callable[..., None]] = {
    "new": new_command,
    "check": check_command,
    "run": run_command,
    "report": report_command,
    "methods": methods_command,
    "watch": watch,
    "ls": stores.ls,
    "show": stores.show,
    "export": stores.export_command,
    "merge": stores.merge_command,
    "rm": stores.rm,
}
for _name, _function in COMMANDS.items():
    app.command(_name)(_function)
