"""Options and losses that a method is given: checked, and brought to the tasks of the step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from equipoise.methods.base import Method


class PerTask:
    """An option that holds for all tasks (one number) or differs by task (a sequence).

    It is a setting, not state: it stays out of ``state_dict`` and keeps its full precision whatever
    the dtype of the losses.

    Args:
        option: its name, for errors.
        values: one number, or K.
    """

    def __init__(self, option: str, values: float | Sequence[float]) -> None:
        self.option = option
        self.exact = torch.as_tensor(values, dtype=torch.float64)
        if self.exact.ndim > 1:
            raise ValueError(
                f"option '{option}' takes one number, or one a task; got {tuple(self.exact.shape)}"
            )
        if not bool(self.exact.isfinite().all()):
            raise ValueError(f"option '{option}' takes finite numbers; got {values}")
        self._here = self.exact

    def of(self, method: Method, like: Tensor) -> Tensor:
        """The values for the tasks of this step, in the dtype and on the device of ``like``.

        Args:
            method: whose option it is; it knows which tasks are present.
            like: losses, ``Tensor[..., K]``.

        Returns:
            ``Tensor[]`` or ``Tensor[K]``.

        Raises:
            ValueError: there are not as many values as tasks.
        """
        if self._here.dtype != like.dtype or self._here.device != like.device:
            self._here = self.exact.to(like)
        if self._here.ndim == 0:
            return self._here
        here = method.of_present(self._here)
        if here.shape[0] != like.shape[-1]:
            raise ValueError(
                f"{method.card.id}: option '{self.option}' has {self.exact.shape[0]} values but "
                f"there are {like.shape[-1]} tasks; give one value a task, in the order of the "
                f"losses"
            )
        return here


def choose(option: str, choice: str | Sequence[str], table: Mapping[str, float]) -> PerTask:
    """Turns a word, or a word a task, into its number.

    Raises:
        ValueError: a word is not in the table.
    """
    words = [choice] if isinstance(choice, str) else list(choice)
    for word in words:
        if word not in table:
            raise ValueError(f"option '{option}' is one of {', '.join(table)}; got '{word}'")
    numbers = [table[word] for word in words]
    return PerTask(option, numbers[0] if isinstance(choice, str) else numbers)


def positive(option: str, value: float) -> float:
    """The value of an option that must be above zero.

    Raises:
        ValueError: it is not.
    """
    if not value > 0:
        raise ValueError(f"option '{option}' must be above 0; got {value}")
    return value


def not_negative(option: str, value: float) -> float:
    """The value of an option that must not be below zero.

    Raises:
        ValueError: it is.
    """
    if not value >= 0:
        raise ValueError(f"option '{option}' must not be below 0; got {value}")
    return value


def fraction(option: str, value: float) -> float:
    """The value of an option that lies in [0, 1).

    Raises:
        ValueError: it does not.
    """
    if not 0 <= value < 1:
        raise ValueError(f"option '{option}' must lie in [0, 1); got {value}")
    return value


def check_positive(method: Method, losses: Tensor) -> None:
    """Refuses losses that a method cannot divide by or take the logarithm of.

    Raises:
        ValueError: a loss is zero, negative or not a number.
    """
    if not (losses > 0).all().tolist():
        raise ValueError(
            f"{method.card.id} needs every loss above 0, got {losses.detach().tolist()}; shift a "
            "loss that can reach 0 by a constant, or choose a method without this need"
        )
