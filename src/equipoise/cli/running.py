"""The command ``equipoise run``."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer

from equipoise.cli.asking import (
    Arch,
    Asked,
    Options,
    Place,
    Preset,
    Quick,
    Tasks,
    Which,
    Width,
    asked,
    place,
    split,
)
from equipoise.cli.changes import replaced
from equipoise.cli.places import TAKES, executor
from equipoise.cli.progress import Lines, Live
from equipoise.cli.result import nothing_compared, summary, summary_across, to_json
from equipoise.cli.told import STOPPED, told
from equipoise.study import Executor, Listener, Spec, Store, findings, parse, run
from equipoise.study.across import across, load
from equipoise.study.preparing import prepared
from equipoise.study.run import Silence
from equipoise.study.studies import changed

_REPORT = ("jinja2", "altair", "vl_convert")


def run_command(
    which: Which,
    preset: Preset = None,
    quick: Quick = False,
    arch: Arch = None,
    width: Width = None,
    tasks: Tasks = None,
    option: Options = None,
    data_root: Place = None,
    methods: Annotated[str | None, typer.Option(help="ids, separated by commas")] = None,
    seeds: Annotated[int | None, typer.Option(help="number of paired seeds", min=1)] = None,
    epochs: Annotated[int | None, typer.Option(help="epochs of each trial", min=1)] = None,
    learning_rates: Annotated[str | None, typer.Option(help="to try, separated by commas")] = None,
    device: Annotated[str | None, typer.Option(help="where trials compute: cpu, cuda")] = None,
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
            "methods": split("--methods", methods),
            "seeds": seeds,
            "epochs": epochs,
            "device": device,
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
        place(data_root)
        if out is not None and len(which) > 1:
            raise ValueError("--out is for one study; several go to runs/NAME.db each")
        where_to = executor(where, options)
        if report:
            need_report()
        wanted = [asked(each, preset, quick, arch, width, tasks, option) for each in which]
        # All are read before the first begins, so that the last does not fail after hours.
        specs = [_spec(each, changes, quiet or as_json) for each in wanted]
        stores = [out or each.store() for each in wanted]
        if len(set(stores)) < len(stores):
            raise ValueError(
                "two of the studies have the same name; run them one at a time with --out"
            )
        if len(specs) > 1:
            _refuse_early(specs)
        silent = quiet or as_json
        results = []
        for spec, path in zip(specs, stores, strict=True):
            result = _study(spec, path, where_to, keep, report, silent)
            results.append(result)
            if not as_json:
                _tell(result)
            if result["nothing"]:
                typer.echo(f"equipoise: nothing could be compared: {result['nothing']}", err=True)
        across_all = _across(stores, report, silent=as_json) if len(stores) > 1 else None
        if as_json:
            told_each = [{k: v for k, v in each.items() if k != "nothing"} for each in results]
            whole = {"studies": told_each, "across": across_all}
            typer.echo(to_json(told_each[0] if across_all is None else whole))
        if any(each["nothing"] for each in results):
            raise typer.Exit(1)


def _spec(wanted: Asked, changes: dict[str, Any], silent: bool) -> Spec:
    content, all_changes = wanted.content(), {**changes, **wanted.changes()}
    spec = parse(changed(content, all_changes), wanted.which)
    if not silent:
        for line in replaced(content, all_changes, wanted.which):
            typer.echo(line, err=True)
    return spec


def _refuse_early(specs: list[Spec]) -> None:
    """Builds everything of all studies: data that the last lacks is told before the first has run."""
    for spec in specs:
        prepared(spec)


def _study(
    spec: Spec, path: Path, where: Executor, keep: bool, report: bool, silent: bool
) -> dict[str, Any]:
    """Runs a study and returns its result, and why nothing could be compared, if so."""
    listener = _listener(silent)
    try:
        with listener:
            run(spec, path, where, listener.told, keep=keep)
    except KeyboardInterrupt:
        _stopped(path)
    try:
        return _finish(path, report)
    except KeyboardInterrupt:
        typer.echo(
            f"\nStopped. All trials are in {path}; 'equipoise report {path}' writes the report.",
            err=True,
        )
        raise typer.Exit(STOPPED) from None


def _across(stores: list[Path], report: bool, silent: bool) -> dict[str, Any]:
    """What studies of several problems say together."""
    if report:
        from equipoise.report import write_across

        page = write_across(stores, stores[0].parent / "across.html")
        if not silent:
            typer.echo(f"Report across problems: {page}")
    return summary_across(across(load(stores)))


def _stopped(path: Path) -> None:
    kept = f"What had finished is in {path}; the same command goes on from there."
    typer.echo(f"\nStopped. {kept if path.exists() else 'Nothing had begun.'}", err=True)
    raise typer.Exit(STOPPED) from None


def _numbers(option: str, text: str | None) -> list[float] | None:
    parts = split(option, text)
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


def _finish(path: Path, report: bool) -> dict[str, Any]:
    page: Path | None = None
    with Store(path, read_only=True) as opened:
        found = findings(opened)
        nothing = nothing_compared(opened, found)
        if report:
            from equipoise.report import write

            page = write(opened)
    return {**summary(found), "store": str(path), "report": page and str(page), "nothing": nothing}


def _tell(result: dict[str, Any]) -> None:
    for line in result["verdict"]:
        typer.echo(line)
    for advised in result["advice"]:
        typer.echo(f"Next: {advised}")
    for warning in result["warnings"]:
        typer.echo(f"Careful: {warning['text']}")
    if result["report"] is not None:
        typer.echo(f"Report: {result['report']}")
