"""What a user can cause is told in a sentence, with an exit code, and never as a traceback."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import typer

# As shells say it of a command that Ctrl-C ended.
STOPPED = 130


@contextmanager
def told(remedy: str = "--out names another place") -> Iterator[None]:
    """A mistake is one clear line and exit code 2; Ctrl-C is a line and exit code 130.

    Args:
        remedy: what helps where a file cannot be read or written.
    """
    try:
        yield
    except KeyboardInterrupt:
        typer.echo("\nStopped.", err=True)
        raise typer.Exit(STOPPED) from None
    except BrokenPipeError:
        raise  # somebody reads no further, as in "| head": typer ends quietly
    except ValueError as error:
        typer.echo(f"equipoise: {error}", err=True)
        raise typer.Exit(2) from None
    except OSError as error:
        what = error.strerror or str(error)
        where = "" if error.filename is None else f" {str(error.filename)!r}"
        typer.echo(f"equipoise: {where.strip()}: {what}; {remedy}", err=True)
        raise typer.Exit(2) from None
