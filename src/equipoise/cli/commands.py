"""The commands, in one table, and the smallest of them: methods."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated

import typer

from equipoise.cli import data, stores
from equipoise.cli.plotting import plot_command
from equipoise.cli.reporting import report_command
from equipoise.cli.running import run_command
from equipoise.cli.starting import check_command, new_command
from equipoise.cli.tables import show_card, show_cards
from equipoise.cli.told import told
from equipoise.cli.watching import watch

app = typer.Typer(
    help="Balance the losses of a multi-task network, and find out, fairly, whether it helped.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
)


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
    "plot": plot_command,
    "methods": methods_command,
    "problems": data.problems_command,
    "watch": watch,
    "ls": stores.ls,
    "show": stores.show,
    "export": stores.export_command,
    "merge": stores.merge_command,
    "rm": stores.rm,
}
for _name, _function in COMMANDS.items():
    app.command(_name)(_function)
app.add_typer(data.app, name="data")
