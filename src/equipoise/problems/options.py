"""Options of a problem as a study or the command line gives them, refused where they cannot be right."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any


def whole(name: str, value: Any, least: int = 1, most: int | None = None) -> int:
    """A whole number.

    Args:
        name: of the option.
        value: what was given for it.
        least: the smallest that can be.
        most: the largest; None for no end.

    Raises:
        ValueError: it is something else.
    """
    fits = isinstance(value, int) and not isinstance(value, bool) and value >= least
    if fits and (most is None or value <= most):
        return int(value)
    end = f"{least} or more" if most is None else f"from {least} to {most}"
    raise ValueError(f"{name} is {value!r}; give a whole number, {end}")


def rows(value: Any, least: int = 10) -> int | None:
    """How many examples are kept; None for all.

    Raises:
        ValueError: it is no whole number, or fewer than there have to be.
    """
    if value is None:
        return None
    try:
        return whole("rows", value, least)
    except ValueError as error:
        raise ValueError(f"{error}, or None for all") from None


def sizes(**values: Any) -> None:
    """Refuses what is no whole number, 1 or more; by name.

    Raises:
        ValueError: one is none.
    """
    for name, value in values.items():
        whole(name, value)


def shares(**values: Any) -> None:
    """Refuses what is no number from 0 to below 1, such as a share that is dropped; by name.

    Raises:
        ValueError: one is none.
    """
    for name, value in values.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not 0 <= value < 1:
            raise ValueError(f"{name} is {value!r}; give a number from 0 to below 1")


def flag(name: str, value: Any) -> bool:
    """Yes or no.

    Raises:
        ValueError: it is neither.
    """
    if isinstance(value, bool):
        return value
    raise ValueError(f"{name} is {value!r}; give true or false")


def word(name: str, value: Any, known: Collection[str] = ()) -> str:
    """A name, one of ``known`` unless that is empty.

    Raises:
        ValueError: it is something else.
    """
    if isinstance(value, str) and (not known or value in known):
        return value
    raise ValueError(
        f"{name} is {value!r}; " + (f"known: {', '.join(known)}" if known else "give a name")
    )


def words(name: str, value: Any, least: int = 1) -> tuple[str, ...]:
    """Different names: a list, one of them alone, or some with commas between them.

    Raises:
        ValueError: it is something else, there are fewer than ``least``, or one is there twice.
    """
    parts = [part.strip() for part in value.split(",")] if isinstance(value, str) else value
    good = isinstance(parts, Sequence) and all(isinstance(each, str) and each for each in parts)
    if good and least <= len(parts) == len(set(parts)):
        return tuple(parts)
    raise ValueError(
        f"{name} is {value!r}; give {least} or more different names, as a list or as a,b"
    )


def tasks(value: Any) -> tuple[str, ...] | None:
    """Names of tasks, see :func:`words`; None for all.

    Raises:
        ValueError: it is something else.
    """
    return None if value is None else words("tasks", value)


def mapping(name: str, value: Any) -> dict[str, Any]:
    """Options of an option, by name; None for none.

    Raises:
        ValueError: it is something else.
    """
    if value is None:
        return {}
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return dict(value)
    raise ValueError(f'{name} is {value!r}; give values by name, such as {{"experts": 8}}')
