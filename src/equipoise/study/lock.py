"""One driver a study at a time."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from equipoise.study import database
from equipoise.study.database import StoreError

# Whoever asks whether a study is held, holds it for a moment.
TRIES = 5


@contextmanager
def only_driver(store: Path) -> Iterator[None]:
    """Holds the study; the system lets go of it when this process ends, however it ends.

    Raises:
        StoreError: another process holds it, or its folder cannot be written.
    """
    if sys.platform == "win32":
        yield  # no advisory locks here; SQLite still keeps the file itself in order
        return
    import fcntl

    database.refuse_folder(store)
    path = store.with_name(store.name + "-lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise StoreError(
            f"nothing can be written beside {str(store)!r} ({error.strerror}); use another --out"
        ) from error
    try:
        for left in reversed(range(TRIES)):
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not left:
                    raise StoreError(
                        f"another run is writing to {str(store)!r}; wait for it, or use another --out"
                    ) from None
                time.sleep(0.05)
        yield
    finally:
        os.close(handle)


def held(store: Path) -> bool:
    """Whether a driver holds the study; without advisory locks nobody can tell, and it says no."""
    path = store.with_name(store.name + "-lock")
    if sys.platform == "win32" or not path.exists():
        return False
    import fcntl

    with path.open() as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
