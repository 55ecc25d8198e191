"""Values that a study may try: a range between two numbers, or coarse ones to be refined."""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    model_validator,
)

from equipoise.study.trial import canonical

# What a study file says is checked key by key; nothing else may stand in it.
STRICT = ConfigDict(extra="forbid", frozen=True)


def number(value: Any) -> Any:
    """A number as it is, also one of NumPy; true and false are none."""
    if isinstance(value, bool | str):
        raise ValueError("give a number")
    return value.item() if hasattr(value, "item") and not getattr(value, "ndim", 0) else value


def plain(value: Any) -> Any:
    """A value that a file can hold; a trial is known by such ones."""
    try:
        canonical(value)
    except (TypeError, ValueError):
        raise ValueError(
            "give text, finite numbers, true or false, or lists and tables of these"
        ) from None
    return value


def listed(value: Any) -> Any:
    """A list of what was given as one number, or as a sequence of another kind."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return [value]
    if isinstance(value, tuple | range):
        return list(value)
    return value.tolist() if hasattr(value, "tolist") else value


def tried(value: Any) -> Any:
    """As :func:`listed`, where one value is not tried but given."""
    value = list(value) if isinstance(value, tuple | range) else value
    value = value.tolist() if hasattr(value, "tolist") else value
    if not isinstance(value, list | dict | BaseModel):
        raise ValueError(
            "give a list of values to try, or a table with low and high; one value belongs into options"
        )
    return value


Real = Annotated[float, Field(allow_inf_nan=False), BeforeValidator(number)]
Positive = Annotated[Real, Field(gt=0)]
Whole = Annotated[int, BeforeValidator(number)]
Plain = Annotated[Any, BeforeValidator(plain)]


class Range(BaseModel):
    """Numbers between two ends, for searches that draw.

    Attributes:
        low: the smallest.
        high: the largest.
        log: whether factors count, and not differences.
    """

    model_config = STRICT

    low: Real
    high: Real
    log: bool = True

    @model_validator(mode="after")
    def _is_a_range(self) -> Range:
        if not self.low < self.high:
            raise ValueError(f"low = {self.low:g} is not below high = {self.high:g}")
        if self.log and self.low <= 0:
            raise ValueError(f"low = {self.low:g} has no logarithm; set log = false")
        return self

    def at(self, share: float) -> float:
        """The number at a share of the way, from 0 to 1."""
        if not self.log:
            return self.low + share * (self.high - self.low)
        return math.exp(math.log(self.low) + share * math.log(self.high / self.low))

    def share(self, value: float) -> float:
        """The share of the way at which a number lies."""
        if not self.log:
            return (value - self.low) / (self.high - self.low)
        return math.log(value / self.low) / math.log(self.high / self.low)


class Coarse(BaseModel):
    """Values of an option that are tried first; then finer ones on both sides of the best.

    Attributes:
        coarse: at least two numbers; positive ones are refined evenly in their logarithm.
        fine: number of finer values.
    """

    model_config = STRICT

    coarse: Annotated[list[Real], Field(min_length=2)]
    fine: Annotated[Whole, Field(ge=1)] = 4

    @model_validator(mode="after")
    def _differ(self) -> Coarse:
        if len(set(self.coarse)) < len(self.coarse):
            raise ValueError(f"{self.coarse} repeats an entry; each is tried once")
        return self


def rounded(value: float) -> float:
    """To four digits, so that reports and files show what was used."""
    return float(f"{value:.4g}")


def between(values: Coarse, best: float) -> list[float]:
    """Values on both sides of the best one, as far as the next coarse ones, evenly in their logarithm.

    At an end all lie on the inner side: what lies beyond may be no value of the option at all.
    """
    tried = sorted(values.coarse)
    place = tried.index(best)
    even = tried[0] <= 0
    points = tried if even else [math.log(x) for x in tried]
    left = values.fine // 2
    if place == 0:
        left = 0
    elif place == len(tried) - 1:
        left = values.fine
    sides = [(place - 1, left), (place + 1, values.fine - left)]
    made = [
        points[place] + (points[end] - points[place]) * number / (count + 1)
        for end, count in sides
        for number in range(1, count + 1)
    ]
    return [rounded(x if even else math.exp(x)) for x in made]


KINDS = ("a range", "coarse values", "a list")


def kind(value: Any) -> str:
    """Which of them a study file gives, so that a mistake is told of that one alone."""
    if isinstance(value, Coarse) or (isinstance(value, dict) and "coarse" in value):
        return KINDS[1]
    return range_or_list(value)


def range_or_list(value: Any) -> str:
    """As :func:`kind`, where nothing is refined."""
    return KINDS[0] if isinstance(value, Range | dict) else KINDS[2]


Rates = Annotated[
    Annotated[Range, Tag(KINDS[0])] | Annotated[list[Positive], Field(min_length=1), Tag(KINDS[2])],
    Discriminator(range_or_list),
    BeforeValidator(listed),
]
Tried = Annotated[
    Annotated[Range, Tag(KINDS[0])]
    | Annotated[Coarse, Tag(KINDS[1])]
    | Annotated[list[Plain], Field(min_length=1), Tag(KINDS[2])],
    Discriminator(kind),
    BeforeValidator(tried),
]
