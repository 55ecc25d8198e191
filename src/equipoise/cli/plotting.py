"""The command ``equipoise plot``."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from equipoise.cli.told import told
from equipoise.nn.needs import needs


def plot_command(
    log: Annotated[Path, typer.Argument(metavar="LOG", help="a JSONL log of metrics")],
    out: Annotated[
        Path | None, typer.Option(help="an .html or .svg file; default: HTML beside LOG")
    ] = None,
    show: Annotated[bool, typer.Option("--open", help="open it in the browser")] = False,
) -> None:
    """Draw weights, losses and conflicts of a training run from the log of its metrics."""
    with told():
        for library in ("altair", "vl_convert", "jinja2"):
            needs(library, "report")
        from equipoise.report.logged import plot

        page = plot(log, out)
        typer.echo(page)
        if show:
            webbrowser.open(page.resolve().as_uri())
