"""One driver a study at a time."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def only_driver(store: Path) -> Iterator[None]:
    """Holds the study; the system lets go of it when this process ends, however it ends.

    Raises:
        ValueError: another process holds it.
    """
    if sys.platform == "win32":
        yield  # no advisory locks here; SQLite still keeps the file itself in order
        return
    import fcntl

    path = store.with_name(store.name + "-lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(
                f"another run is writing to {str(store)!r}; wait for it, or use another --out"
            ) from None
        yield
    finally:
        os.close(handle)
