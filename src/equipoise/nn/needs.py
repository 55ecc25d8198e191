"""Libraries that only some networks and problems need."""

from __future__ import annotations

import importlib
from typing import Any


def needs(module: str, extra: str) -> Any:
    """A module of a library that an extra of this package installs.

    Args:
        module: its dotted name.
        extra: which one installs it.

    Raises:
        ImportError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        library = str(error.name).partition(".")[0]
        raise ImportError(
            f'this needs {library}; install it with: pip install "equipoise[{extra}]"'
        ) from None
