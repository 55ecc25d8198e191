"""The command ``equipoise report``."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import Annotated, Any

import typer

from equipoise.cli.result import summary, summary_across, to_json
from equipoise.cli.running import need_report
from equipoise.cli.told import told
from equipoise.study import Store, findings
from equipoise.study.across import across, load


def report_command(
    stores: Annotated[
        list[Path], typer.Argument(metavar="DB...", help="the files of one study or of several")
    ],
    out: Annotated[
        Path | None, typer.Option(help="the HTML file, or a folder; default: beside DB")
    ] = None,
    figures: Annotated[
        Path | None, typer.Option(help="a folder for every chart as PNG, SVG and PDF")
    ] = None,
    show: Annotated[bool, typer.Option("--open", help="open it in the browser")] = False,
    gate: Annotated[
        bool,
        typer.Option(
            "--gate", help="compare with a later baseline only where the earlier ones differ"
        ),
    ] = False,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="print the result as JSON; write a report only with --out"),
    ] = False,
) -> None:
    """Write the report of a study: one HTML file that works offline, Markdown and CSV.

    Several files, of different problems, give one report across problems and one of each; with --json the
    ranks over them.
    """
    with told():
        if gate and len(stores) > 1:
            raise ValueError("--gate is for one study; give one file at a time")
        page: Path | None = None
        if out is not None or figures is not None or not as_json:
            need_report()
        if out is not None or not as_json:
            page = _write(stores, out, gate)
        if figures is not None:
            _draw(stores, figures, gate)
        if as_json:
            typer.echo(to_json({**_told(stores, gate), "report": page and str(page)}))
        else:
            typer.echo(page)
        if show and page is not None:
            webbrowser.open(page.resolve().as_uri())


def _told(stores: list[Path], gate: bool) -> dict[str, Any]:
    if len(stores) > 1:
        return summary_across(across(load(stores)))
    with Store(stores[0], read_only=True) as opened:
        return {**summary(findings(opened, gate=gate)), "store": str(stores[0])}


def _write(stores: list[Path], out: Path | None, gate: bool) -> Path:
    from equipoise.report import write, write_across

    folder = out is not None and out.is_dir()
    if len(stores) == 1:
        target = out / f"{stores[0].stem}.html" if out is not None and folder else out
        with Store(stores[0], read_only=True) as opened:
            return write(opened, target, gate)
    whole = stores[0].parent if out is None else out
    return write_across(stores, whole / "across.html" if out is None or folder else whole)


def _draw(stores: list[Path], folder: Path, gate: bool) -> None:
    from equipoise.report import pictures, pictures_across

    if len(stores) > 1:
        pictures_across(stores, folder)
        return
    with Store(stores[0], read_only=True) as opened:
        pictures(opened, folder, gate)
