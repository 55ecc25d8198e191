"""The command ``equipoise``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.util import find_spec

# What the commands need beyond torch, and nothing that only the report needs.
_NEEDED = ("typer", "rich", "numpy", "scipy", "pydantic", "sklearn", "moocore")


def prepare() -> Callable[[], object]:
    """Loads the command line, or ends with what is missing for it."""
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        sys.exit(
            f"equipoise: the command line needs {', '.join(missing)}, which the core does not bring.\n"
            f'Install it with:  pip install "equipoise[report]"'
        )
    from equipoise.cli.commands import app

    return app


def main() -> None:
    """Runs the command line."""
    prepare()()
