"""The command ``equipoise run``."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer

from equipoise.cli.changes import replaced
from equipoise.cli.places import TAKES, executor
from equipoise.cli.progress import Lines, Live
from equipoise.cli.result import nothing_compared, summary, to_json
from equipoise.cli.told import STOPPED, told
from equipoise.study import STUDIES, Listener, Store, findings, load, parse, run
from equipoise.study.run import Silence
from equipoise.study.studies import changed

_REPORT = ("jinja2", "altair", "vl_convert")


def run_command(
    which: Annotated[
        str, typer.Argument(metavar="STUDY", help=f"{', '.join(STUDIES)}, or a TOML file")
    ],
    methods: Annotated[str | None, typer.Option(help="ids, separated by commas")] = None,
    seeds: Annotated[int | None, typer.Option(help="number of paired seeds", min=1)] = None,
    epochs: Annotated[int | None, typer.Option(help="epochs of each trial", min=1)] = None,
    learning_rates: Annotated[str | None, typer.Option(help="to try, separated by commas")] = None,
    where: Annotated[
        str, typer.Option("--executor", help=f"where trials run: {', '.join(TAKES)}")
    ] = "local",
    workers: Annotated[
        int | None,
        typer.Option(help="trials at a time; default: cores, or room on the GPUs", min=1),
    ] = None,
    threads: Annotated[int | None, typer.Option(help="of a trial; default: 1", min=1)] = None,
    workers_per_gpu: Annotated[
        int | None, typer.Option(help="trials that share a GPU; default: 1", min=1)
    ] = None,
    time_limit: Annotated[
        float | None, typer.Option(help="seconds a trial may take; default: no limit")
    ] = None,
    retries: Annotated[
        int | None, typer.Option(help="for a trial whose worker died or hung; default: 1", min=0)
    ] = None,
    gpus: Annotated[
        float | None, typer.Option(help="of a trial, for ray (0.5: two share one) and slurm", min=0)
    ] = None,
    address: Annotated[str | None, typer.Option(help="of a Ray cluster; default: one here")] = None,
    partition: Annotated[str | None, typer.Option(help="of Slurm")] = None,
    debug: Annotated[
        bool, typer.Option("--debug", help="inline only: let errors of trials through")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="the study's file; default: runs/NAME.db")
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="keep trials that ran before the problem's files changed")
    ] = False,
    report: Annotated[bool, typer.Option(help="write the report at the end")] = True,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="say only the result")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print the result as JSON")] = False,
) -> None:
    """Run a study. The same command again does only what is missing."""
    with told():
        changes = {
            "methods": _split(methods),
            "seeds": seeds,
            "epochs": epochs,
            "learning_rates": _numbers("--learning-rates", learning_rates),
        }
        options = {
            "workers": workers,
            "threads": threads,
            "workers_per_gpu": workers_per_gpu,
            "time_limit": time_limit,
            "retries": retries,
            "gpus": gpus,
            "address": address,
            "partition": partition,
            "debug": debug or None,
        }
        content = content_of(which)
        spec = parse(changed(content, changes), which)
        path = out or Path("runs") / f"{Path(which).stem}.db"
        place = executor(where, options)
        if report:
            need_report()
        silent = quiet or as_json
        if not silent:
            for line in replaced(content, changes, which):
                typer.echo(line, err=True)
        listener = _listener(silent)
        try:
            with listener:
                run(spec, path, place, listener.told, keep=keep)
        except KeyboardInterrupt:
            _stopped(path)
        try:
            _finish(path, report, as_json)
        except KeyboardInterrupt:
            typer.echo(
                f"\nStopped. All trials are in {path}; 'equipoise report {path}' writes the report.",
                err=True,
            )
            raise typer.Exit(STOPPED) from None


def _stopped(path: Path) -> None:
    kept = f"What had finished is in {path}; the same command goes on from there."
    typer.echo(f"\nStopped. {kept if path.exists() else 'Nothing had begun.'}", err=True)
    raise typer.Exit(STOPPED) from None


def content_of(which: str) -> dict[str, Any]:
    """What a study says: one of ours, or a TOML file.

    Raises:
        ValueError: there is none.
    """
    if which in STUDIES:
        return dict(STUDIES[which])
    if which.endswith(".toml"):
        return load(which).model_dump(exclude_unset=True)
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


def need_report() -> None:
    """Refuses to begin what would end in a report that cannot be written.

    Raises:
        ValueError: a package is missing.
    """
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
        nothing = nothing_compared(opened, found)
        if report:
            from equipoise.report import write

            page = write(opened)
    result = summary(found)
    if as_json:
        typer.echo(to_json({**result, "store": str(path), "report": page and str(page)}))
    else:
        for line in result["verdict"]:
            typer.echo(line)
        for advised in result["advice"]:
            typer.echo(f"Next: {advised}")
        for warning in result["warnings"]:
            typer.echo(f"Careful: {warning['text']}")
        if page is not None:
            typer.echo(f"Report: {page}")
    if nothing:
        typer.echo(f"equipoise: nothing could be compared: {nothing}", err=True)
        raise typer.Exit(1)
