"""What the command ``equipoise`` starts with: Ctrl-C is told even while the libraries load."""

from __future__ import annotations

import os
import signal
from types import FrameType


def main() -> None:
    """Runs the command line."""
    before = signal.signal(signal.SIGINT, _stop)
    from equipoise.cli import prepare

    app = prepare()
    signal.signal(signal.SIGINT, before)
    app()


def _stop(number: int, frame: FrameType | None) -> None:
    # Not an exception: half-loaded libraries catch it, or print it while they are taken apart.
    os.write(2, b"\nStopped before anything had begun.\n")
    os._exit(130)
