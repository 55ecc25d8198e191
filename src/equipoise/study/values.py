"""Values that a study may try: a range between two numbers, or coarse ones to be refined."""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

# What a study file says is checked key by key; nothing else may stand in it.
STRICT = ConfigDict(extra="forbid", frozen=True)


class Range(BaseModel):
    """Numbers between two ends, for searches that draw.

    Attributes:
        low: the smallest.
        high: the largest.
        log: whether factors count, and not differences.
    """

    model_config = STRICT

    low: Annotated[float, Field(allow_inf_nan=False)]
    high: Annotated[float, Field(allow_inf_nan=False)]
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

    coarse: Annotated[list[Annotated[float, Field(allow_inf_nan=False)]], Field(min_length=2)]
    fine: Annotated[int, Field(ge=1)] = 4

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


Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Rates = Annotated[
    Annotated[Range, Tag(KINDS[0])] | Annotated[list[Positive], Field(min_length=1), Tag(KINDS[2])],
    Discriminator(range_or_list),
]
Tried = Annotated[
    Annotated[Range, Tag(KINDS[0])]
    | Annotated[Coarse, Tag(KINDS[1])]
    | Annotated[list[Any], Field(min_length=1), Tag(KINDS[2])],
    Discriminator(kind),
]
