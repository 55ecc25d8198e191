"""What an arm is tuned over: candidates listed, drawn, refined around the best, or taken from another arm."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, ClassVar, Protocol

import numpy as np

from equipoise.study.trial import with_options
from equipoise.study.values import Coarse, Range, between, rounded

Values = Sequence[Any] | Range | Coarse


@dataclass(frozen=True)
class Candidate:
    """One point of the space that an arm is tuned over.

    Attributes:
        learning_rate: of the trial.
        options: of the method, as canonical JSON.
        weight_decay: of the trial.
        bars: what the trial has to reach half-way, as canonical JSON; see :mod:`equipoise.study.pruning`.
    """

    learning_rate: float
    options: str
    weight_decay: float = 0.0
    bars: str = "{}"

    def option(self, name: str) -> Any:
        """The value of an option."""
        return json.loads(self.options)[name]

    def told(self, *names: str) -> str:
        """Some options in a few characters: ``weights 0.1:2.9``."""
        return ", ".join(f"{name} {_short(self.option(name))}" for name in names)


def _short(value: Any) -> str:
    if isinstance(value, list):
        return ":".join(map(_short, value))
    return f"{value:g}" if isinstance(value, int | float) else str(value)


@dataclass(frozen=True)
class Known:
    """What a run of the tuning procedure knows so far.

    Attributes:
        seed: of this run of the procedure.
        score: the score of a candidate on validation, higher is better; NaN where it diverged or failed, None
            before it is known.
        weights: the mean weights of the tasks in what an arm of this label chose, empty where it gave none;
            None before that is known.
        bars: what was usual at every epoch among some candidates, for :attr:`Candidate.bars`.
        before: candidates that an earlier look named, which stay named.
    """

    seed: int
    score: Callable[[Candidate], float | None]
    weights: Callable[[str], Mapping[str, float] | None]
    bars: Callable[[Sequence[Candidate]], str]
    before: Sequence[Candidate] = ()


class Space(Protocol):
    """What an arm is tuned over."""

    @property
    def size(self) -> int:
        """How many candidates it comes to."""
        ...

    @property
    def remembered(self) -> str:
        """What a store keeps its candidates under; empty where they follow from the study at once."""
        ...

    def candidates(self, known: Known) -> list[Candidate] | None:
        """The candidates as far as they are known; more may follow once these have scores. None: not yet."""
        ...


@dataclass(frozen=True)
class Axes:
    """What is varied.

    Attributes:
        rates: learning rates.
        decays: weight decays.
        search: values of options.
        options: that stay.
    """

    rates: Sequence[float] | Range
    decays: Sequence[float] | Range = (0.0,)
    search: Mapping[str, Values] | None = None
    options: Mapping[str, Any] | None = None

    def at(self, rate: float, decay: float, **searched: Any) -> Candidate:
        """The candidate at some values."""
        return Candidate(rate, with_options({**(self.options or {}), **searched}), decay)

    def values(self) -> dict[str, Values]:
        """All axes by name."""
        axes: dict[str, Values] = {"learning_rate": self.rates, "weight_decay": self.decays}
        return {**axes, **(self.search or {})}

    def listed(self) -> list[Candidate]:
        """Every rate with every decay and every value of the options.

        Raises:
            ValueError: an axis is a range.
        """
        axes = {name: _listed(name, tried) for name, tried in self.values().items()}
        points = (dict(zip(axes, point, strict=True)) for point in product(*axes.values()))
        return [self.at(p.pop("learning_rate"), p.pop("weight_decay"), **p) for p in points]


def _listed(name: str, tried: Values) -> Sequence[Any]:
    if isinstance(tried, Range):
        raise ValueError(
            f"{name} is a range, of which a grid cannot try every value: list the values, or set "
            "search = 'random' and candidates = the number of draws"
        )
    return tried.coarse if isinstance(tried, Coarse) else tried


@dataclass(frozen=True)
class Listed:
    """A grid, or any other list."""

    points: tuple[Candidate, ...]
    remembered: ClassVar[str] = ""

    @property
    def size(self) -> int:
        """How many candidates it comes to."""
        return len(self.points)

    def candidates(self, known: Known) -> list[Candidate]:
        """All of them."""
        return list(self.points)


@dataclass(frozen=True)
class Drawn:
    """Draws of every axis, anew by every seed; all arms draw the same learning rates and decays.

    Attributes:
        axes: what is drawn from.
        label: of the arm.
        size: number of draws.
        weights: loss weights that come first, and then are drawn between the extremes of these and beyond, by
            a factor; None for methods without.
    """

    axes: Axes
    label: str
    size: int
    weights: Callable[[np.random.Generator], Iterator[Sequence[float]]] | None = None
    remembered: ClassVar[str] = ""

    def candidates(self, known: Known) -> list[Candidate]:
        """All draws."""
        shared = np.random.default_rng([known.seed, 2111])
        own = np.random.default_rng([known.seed, zlib.crc32(self.label.encode())])
        weights = None if self.weights is None else self.weights(own)
        made: dict[Candidate, None] = {}
        # Few listed values have few combinations: then the same is drawn again.
        for _ in range(50 * self.size):
            if len(made) == self.size:
                break
            rate, decay = (drawn(axis, shared) for axis in (self.axes.rates, self.axes.decays))
            searched = {n: drawn(v, own) for n, v in (self.axes.search or {}).items()}
            if weights is not None:
                searched["weights"] = next(weights)
            made[self.axes.at(rate, decay, **searched)] = None
        return list(made)


def drawn(values: Values, random: np.random.Generator) -> Any:
    """One value; between the ends of what is a range, or was listed as two numbers or more in their order."""
    if isinstance(values, Coarse):
        values = values.coarse
    if isinstance(values, Range):
        return rounded(values.at(random.random()))
    return values[int(random.integers(len(values)))]


@dataclass(frozen=True)
class Refined:
    """A grid, and finer values of one option around the best of it.

    Attributes:
        axes: the grid; ``option`` is a :class:`Coarse` among its searched options.
        option: to be refined.
        label: of the arm.
    """

    axes: Axes
    option: str
    label: str = ""

    @property
    def remembered(self) -> str:
        """What its candidates are stored under."""
        return f"{self.label} {self.axes} {self.option}"

    @property
    def size(self) -> int:
        """How many candidates it comes to."""
        return len(self.axes.listed()) + self._values.fine

    @property
    def _values(self) -> Coarse:
        values = (self.axes.search or {})[self.option]
        assert isinstance(values, Coarse)
        return values

    def candidates(self, known: Known) -> list[Candidate]:
        """The grid; once it is known, finer values at the best candidate too."""
        coarse = self.axes.listed()
        if len(known.before) > len(coarse):
            return list(known.before)
        scores = [known.score(candidate) for candidate in coarse]
        if any(score is None for score in scores):
            return coarse
        finite = [i for i, score in enumerate(scores) if score is not None and math.isfinite(score)]
        if not finite:
            return coarse
        best = coarse[max(finite, key=lambda i: scores[i] or 0.0)]
        options = json.loads(best.options)
        finer = between(self._values, options[self.option])
        return coarse + [
            replace(best, options=with_options({**options, self.option: value})) for value in finer
        ]


@dataclass(frozen=True)
class Frozen:
    """The mean weights that a dynamic method gave, as fixed ones, with every learning rate and decay.

    Attributes:
        label: of the arm with the dynamic method.
        axes: rates and decays.
        tasks: names, in the order of the weights.
    """

    label: str
    axes: Axes
    tasks: tuple[str, ...]
    remembered: ClassVar[str] = ""

    @property
    def size(self) -> int:
        """How many candidates it comes to."""
        return len(self.axes.listed())

    def candidates(self, known: Known) -> list[Candidate] | None:
        """None before the other arm has chosen; no candidates if it gave none, or not all positive."""
        given = known.weights(self.label)
        if given is None:
            return None
        if not set(self.tasks) <= set(given) or not all(given[task] > 0 for task in self.tasks):
            return []
        mean = sum(given[task] for task in self.tasks) / len(self.tasks)
        weights = [rounded(given[task] / mean) for task in self.tasks]
        return [
            replace(point, options=with_options({"weights": weights}))
            for point in self.axes.listed()
        ]
