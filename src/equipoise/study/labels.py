"""What a study calls the arms that it adds by itself; no label of a user's may be taken for one."""

from __future__ import annotations

from equipoise.study.fixed import FIXED
from equipoise.study.questions import PROTOCOLS

SAMPLED = "task sampling (tuned)"
_FROZEN = "frozen "
_SINGLE = "single-task "
_CONTROLS = tuple(
    dict.fromkeys(method for each in PROTOCOLS.values() for method, _ in each.controls)
)


def frozen(label: str) -> str:
    """The arm with the mean weights of another one."""
    return _FROZEN + label


def is_frozen(label: str) -> bool:
    """Whether an arm has the mean weights of another one."""
    return label.startswith(_FROZEN)


def moving(label: str) -> str:
    """The arm whose mean weights an arm has; the label itself of all others."""
    return label.removeprefix(_FROZEN)


def single(task: str) -> str:
    """The network of a task alone."""
    return _SINGLE + task


def refuse_taken(label: str, method: str) -> None:
    """Refuses a user's label that would be taken for an arm of the study's own.

    Args:
        label: of the user's.
        method: that it is for.

    Raises:
        ValueError: it would.
    """
    mine = label in (FIXED, SAMPLED, "fixed weights", _SINGLE.strip()) or (
        label in _CONTROLS and label != method
    )
    if mine or label.startswith((_FROZEN, _SINGLE)):
        raise ValueError(
            f"the label {label!r} of {method!r} is what studies call an arm of their own; take another one"
        )
