"""Which study the command line asks for: a problem's preset or a TOML file, and what options change in it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

from equipoise.problems.files import PLACE
from equipoise.study import load, preset
from equipoise.study.studies import QUICK

Which = Annotated[
    list[str],
    typer.Argument(
        metavar="STUDY...",
        help="a TOML file, a problem (see 'equipoise problems'), or FILE.py:FUNCTION; several: in turn",
    ),
]
Preset = Annotated[str | None, typer.Option("--preset", help="of the problem; default: its first")]
Quick = Annotated[
    bool, typer.Option("--quick", help="the preset 'quick': small, through in minutes")
]
Arch = Annotated[
    str | None, typer.Option(help="architecture, where the problem has a choice: mtan, mmoe, ...")
]
Width = Annotated[int | None, typer.Option(help="of the network", min=1)]
Tasks = Annotated[str | None, typer.Option(help="of the problem, separated by commas")]
Options = Annotated[
    list[str] | None,
    typer.Option("--option", metavar="KEY=VALUE", help="of the problem; may be repeated"),
]
Place = Annotated[
    Path | None,
    typer.Option("--data-root", "--root", help=f"folder of the data sets; default: ${PLACE}"),
]


@dataclass(frozen=True)
class Asked:
    """A study that was asked for.

    Attributes:
        which: how it was named.
        preset: of the problem; None for its first.
        options: of the problem, beside those of the study.
    """

    which: str
    preset: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def content(self) -> dict[str, Any]:
        """What it says, without what options change.

        Raises:
            ValueError: there is none.
        """
        if self.which.endswith(".toml"):
            if self.preset is not None:
                raise ValueError(f"{self.which} is a study; only a problem has presets")
            return load(self.which).model_dump(exclude_unset=True)
        return preset(self.which, self.preset)

    def changes(self) -> dict[str, Any]:
        """What options of the problem change in it, as keys of a study."""
        return {"problem_options": dict(self.options)} if self.options else {}

    def store(self) -> Path:
        """Where it goes unless told otherwise: each preset and architecture has a file of its own."""
        name = Path(self.which.rpartition(":")[2]).stem
        parts = [name, self.preset, self.options.get("arch")]
        return Path("runs") / f"{'-'.join(part for part in parts if part)}.db"


def asked(
    which: str,
    preset: str | None,
    quick: bool,
    arch: str | None = None,
    width: int | None = None,
    tasks: str | None = None,
    options: list[str] | None = None,
) -> Asked:
    """The study that is asked for.

    Raises:
        ValueError: two presets were named, or an option is no pair, is given twice or is no number.
    """
    if quick and preset is not None:
        raise ValueError("--quick is a preset of its own; give it or --preset")
    given = {"arch": arch, "width": width, "tasks": split("--tasks", tasks)}
    found: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    for pair in options or ():
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise ValueError(f"--option takes KEY=VALUE, not {pair!r}")
        if key in found:
            raise ValueError(f"{key} is given twice: --option {pair} and {found[key]!r}; give one")
        found[key] = _value(pair, value)
    return Asked(which, QUICK if quick else preset, found)


def place(root: Path | None) -> None:
    """Names the folder of data sets for this process and those it starts.

    Raises:
        ValueError: there is no such folder.
    """
    if root is None:
        return
    if not root.is_dir():
        raise ValueError(f"--data-root: there is no folder {str(root)!r}")
    os.environ[PLACE] = str(root.resolve())


def split(option: str, text: str | None) -> list[str] | None:
    """The parts of a list with commas; None for None.

    Raises:
        ValueError: there is none.
    """
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts:
        raise ValueError(f"{option} is empty; name one or more, separated by commas")
    return parts


def _value(pair: str, text: str) -> Any:
    try:
        found = json.loads(text)
        json.dumps(found, allow_nan=False)
    except json.JSONDecodeError:
        return text
    except ValueError:
        raise ValueError(f"--option {pair}: a value cannot be NaN or infinite") from None
    return found
