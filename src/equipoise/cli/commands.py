"""The commands: run, report, methods."""

from __future__ import annotations

import json
import sys
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer

from equipoise.cli.progress import Lines, Live
from equipoise.cli.tables import show_card, show_cards, summary
from equipoise.study import (
    STUDIES,
    Executor,
    Inline,
    Listener,
    Local,
    Spec,
    Store,
    findings,
    load,
    parse,
    run,
    study,
)
from equipoise.study.run import Silence
from equipoise.study.studies import changed

app = typer.Typer(
    help="Balance the losses of a multi-task network, and find out, fairly, whether it helped.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
)
_REPORT = ("jinja2", "altair", "vl_convert")


@app.command("run")
def run_command(
    which: Annotated[
        str, typer.Argument(metavar="STUDY", help=f"{', '.join(STUDIES)}, or a TOML file")
    ],
    methods: Annotated[str | None, typer.Option(help="ids, separated by commas")] = None,
    seeds: Annotated[int | None, typer.Option(help="number of paired seeds", min=1)] = None,
    epochs: Annotated[int | None, typer.Option(help="epochs of each trial", min=1)] = None,
    learning_rates: Annotated[str | None, typer.Option(help="to try, separated by commas")] = None,
    executor: Annotated[
        str, typer.Option(help="local: worker processes; inline: this one, for debugging")
    ] = "local",
    workers: Annotated[int | None, typer.Option(help="processes; default: cores", min=1)] = None,
    out: Annotated[
        Path | None, typer.Option(help="the study's file; default: runs/NAME.db")
    ] = None,
    report: Annotated[bool, typer.Option(help="write the report at the end")] = True,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="say only the result")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print the result as JSON")] = False,
) -> None:
    """Run a study. The same command again does only what is missing."""
    with _told():
        spec = _spec(
            which,
            {
                "methods": _split(methods),
                "seeds": seeds,
                "epochs": epochs,
                "learning_rates": _numbers("--learning-rates", learning_rates),
            },
        )
        path = out or Path("runs") / f"{Path(which).stem}.db"
        if report:
            _need_report()
        listener = _listener(quiet or as_json)
        try:
            with listener:
                run(spec, path, _executor(executor, workers), listener.told)
        except KeyboardInterrupt:
            typer.echo(
                f"\nStopped. What had finished is in {path}; the same command goes on from there.",
                err=True,
            )
            raise typer.Exit(130) from None
        _finish(path, report, as_json)


@app.command("report")
def report_command(
    store: Annotated[Path, typer.Argument(metavar="DB", help="the file of a study")],
    out: Annotated[Path | None, typer.Option(help="the HTML file; default: beside DB")] = None,
    show: Annotated[bool, typer.Option("--open", help="open it in the browser")] = False,
) -> None:
    """Write the report of a study: one HTML file that works offline, Markdown and CSV."""
    with _told():
        _need_report()
        from equipoise.report import write

        with Store(store, read_only=True) as opened:
            page = write(opened, out)
        typer.echo(page)
        if show:
            webbrowser.open(page.resolve().as_uri())


@app.command("methods")
def methods_command(
    name: Annotated[str | None, typer.Argument(metavar="[ID]", help="show the whole card")] = None,
    needs: Annotated[
        str | None, typer.Option(help="only those that need: losses, gramian, jacobian")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print as JSON")] = False,
) -> None:
    """List the methods, or show what one is."""
    with _told():
        if name is None:
            show_cards(needs, as_json)
        else:
            show_card(name, as_json)


@contextmanager
def _told() -> Iterator[None]:
    """A mistake of the user is one clear line and exit code 2, not a traceback."""
    try:
        yield
    except ValueError as error:
        typer.echo(f"equipoise: {error}", err=True)
        raise typer.Exit(2) from None


def _spec(which: str, changes: dict[str, Any]) -> Spec:
    if which in STUDIES:
        return study(which, **changes)
    if which.endswith(".toml"):
        given = load(which).model_dump(exclude_unset=True)
        return parse(changed(given, changes), which)
    raise ValueError(
        f"there is no study {which!r}; known: {', '.join(STUDIES)}, or a file NAME.toml"
    )


def _split(text: str | None) -> list[str] | None:
    return None if text is None else [part.strip() for part in text.split(",") if part.strip()]


def _numbers(option: str, text: str | None) -> list[float] | None:
    parts = _split(text)
    try:
        return None if parts is None else [float(part) for part in parts]
    except ValueError:
        raise ValueError(f"{option} takes numbers separated by commas, not {text!r}") from None


def _executor(name: str, workers: int | None) -> Executor:
    if name == "local":
        return Local(workers)
    if name == "inline":
        return Inline()
    raise ValueError(f"there is no executor {name!r}; known: local, inline")


class _Quiet:
    told: Listener = Silence()

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        return None


def _listener(quiet: bool) -> Live | Lines | _Quiet:
    if quiet:
        return _Quiet()
    return Live() if sys.stderr.isatty() else Lines()


def _need_report() -> None:
    missing = [name for name in _REPORT if find_spec(name) is None]
    if missing:
        raise ValueError(
            f"the report needs {', '.join(missing)}; install it with: pip install "
            f'"equipoise[report]", or run with --no-report'
        )


def _finish(path: Path, report: bool, as_json: bool) -> None:
    page: Path | None = None
    with Store(path, read_only=True) as opened:
        found = findings(opened)
        if report:
            from equipoise.report import write

            page = write(opened)
    told = summary(found)
    if as_json:
        typer.echo(json.dumps({**told, "store": str(path), "report": page and str(page)}, indent=2))
        return
    for line in told["verdict"]:
        typer.echo(line)
    for warning in told["warnings"]:
        typer.echo(f"Careful: {warning}")
    if page is not None:
        typer.echo(f"Report: {page}")
