"""The stores of a folder: what they hold, in a line each, and how one is removed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from equipoise.study.asked import NONE, asked_by
from equipoise.study.database import StoreError
from equipoise.study.lock import only_driver
from equipoise.study.selection import study_of
from equipoise.study.store import Store

# What SQLite and the driver keep beside a store.
BESIDE = ("-wal", "-shm", "-lock")


@dataclass(frozen=True)
class Entry:
    """A store of a folder.

    Attributes:
        path: its file.
        problem: name of the problem; empty where the study has not begun.
        protocol: name of the protocol.
        done: trials of the study with a result, those that diverged among them.
        failed: trials without.
        others: trials of earlier settings, which the study as it stands does not ask for.
        date: when the last trial was recorded, to the minute, in UTC.
        trouble: why it cannot be read; empty otherwise.
    """

    path: Path
    problem: str = ""
    protocol: str = ""
    done: int = 0
    failed: int = 0
    others: int = 0
    date: str = ""
    trouble: str = ""


def entries(folder: Path) -> list[Entry]:
    """The stores of a folder, by name; files that are no studies are left out.

    Raises:
        ValueError: there is no such folder.
    """
    if not folder.is_dir():
        raise ValueError(
            f"there is no folder {str(folder)!r}; 'equipoise run' writes studies to 'runs'"
        )
    found = [entry(path) for path in sorted(folder.glob("*.db"))]
    return [each for each in found if each is not None]


def entry(path: Path) -> Entry | None:
    """What a store holds; None for a file that is no study."""
    try:
        with Store(path, read_only=True) as store:
            spec = store.get("spec") or {}
            stored = store.trials()
            whole = NONE
            for each in study_of(store).settings().values() if spec else ():
                whole |= asked_by(store, each)
    except StoreError as error:
        no_study = "not a study" in str(error) or "not of a study" in str(error)
        return None if no_study else Entry(path, trouble=str(error))
    except ValueError as error:
        return Entry(path, trouble=f"{str(path)!r} cannot be read: {error}")
    trials = [each for key, each in stored.items() if key in whole.ids]
    failed = sum(each.status == "failed" for each in trials)
    return Entry(
        path,
        problem=spec.get("problem", ""),
        protocol=spec.get("protocol", ""),
        done=len(trials) - failed,
        failed=failed,
        others=len(stored) - len(trials),
        date=max((each.finished for each in trials), default="")[:16].replace("T", " "),
    )


def kept(others: int) -> str:
    """What is to be said of trials that a study does not ask for."""
    what = "trial of earlier settings is" if others == 1 else "trials of earlier settings are"
    return (
        f"{others} {what} kept in the file and counted nowhere; with those settings "
        "'equipoise run' takes them up again, and 'equipoise rm' removes them with the file"
    )


def remove(path: Path) -> None:
    """Removes a store and what lies beside it.

    Raises:
        ValueError: there is no such store, or a run is writing to it.
    """
    if not path.is_file():
        raise ValueError(f"there is no file {str(path)!r}")
    if entry(path) is None:
        raise ValueError(f"{str(path)!r} is not a study; it is left alone")
    with only_driver(path):
        for file in (path, *(path.with_name(path.name + end) for end in BESIDE)):
            file.unlink(missing_ok=True)
