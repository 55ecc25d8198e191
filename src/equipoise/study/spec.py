"""The specification of a study: what a TOML file may say, checked key by key."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from equipoise.study.method_spec import MethodSpec
from equipoise.study.questions import PROTOCOLS, Search
from equipoise.study.toml_text import value_text
from equipoise.study.trial import OPTIMIZERS, SCHEDULES, SINGLE_TASK, with_options
from equipoise.study.values import STRICT, Plain, Range, Rates, Real, Whole, listed, number

Decay = Annotated[Real, Field(ge=0)]
# As torch and NumPy take them, also where one is multiplied by the number of an epoch.
Seed = Annotated[Whole, Field(ge=0, lt=2**31)]


class Spec(BaseModel):
    """A study.

    Attributes:
        problem: name of the problem, ``"package.module:function"`` or ``"path/to/file.py:function"``. A
            file that a TOML file names is looked for beside it, then where the command runs.
        problem_options: passed to the problem.
        name: title of the report.
        protocol: what is compared with what; see :data:`equipoise.study.PROTOCOLS`.
        methods: ids, or tables with options. Single-task networks and the controls of the protocol
            are always added.
        learning_rates: each method tries all of them; its best on validation is used. A table with ``low``
            and ``high`` where candidates are drawn.
        weight_decays: to be tried with every learning rate; without them ``weight_decay`` is used.
        search: ``"grid"``: every value with every other. ``"random"``: draws, on a logarithmic scale unless
            ranges say otherwise, anew by every seed. ``"optuna"``: proposals of a search that learns from
            what was tried. The default is that of the protocol: ``"optuna"`` for ``tune``, or else a grid.
        candidates: of every arm, where they are drawn or proposed.
        weight_step: of the grid of fixed weights, where the protocol tries all of them.
        sweep: an option of the problem with its values, such as ``{ width = [16, 64] }``: the whole
            comparison runs with each; that with the first is the main one.
        near_zero: by ``"task/metric"``, the size up to which the mean of the single-task networks counts as
            near zero, such as ``{ "depth/r2" = 0.1 }``: Delta_m then has the difference in the metric's own
            units and not in percent. It decides alone for its metric; for the others the spread of runs does.
        flatness: relative size of a random step away from the trained parameters, such as 0.1: how much the
            losses on validation rise by it is measured at the end; 0: not.
        tuning: ``"per seed"`` repeats the whole procedure: every seed trains all candidates and takes the
            best on validation, so that differences over seeds contain the noise of tuning. ``"once"``
            chooses by seeds of their own and repeats the chosen candidate only, as papers do.
        tuning_seeds: seeds for each tuning candidate where tuning is done once.
        seeds: of the comparison; a number n stands for 0 ... n-1.
        epochs: passes over the training data.
        batch_size: examples in a step.
        weight_decay: of the network.
        optimizer: ``"adamw"``, ``"sgd"``, or a factory of yours, ``"package:function"``, called with
            parameter groups, ``lr=`` and ``weight_decay=``.
        schedule: of the learning rate: ``"cosine"``, ``"constant"``, or a factory of yours, called with the
            optimiser and the number of steps; its ``step()`` is called after each.
        checkpoint: ``"last"``; or a criterion on validation, ``"loss"`` or ``"task/metric"``, at whose best
            epoch test numbers are taken beside those of the last epoch.
        route: where task gradients are taken.
        weight_sum: ``"paper"`` runs each method with the sum of weights of its paper. A constant
            factor of the weights is a factor of the learning rate, which is tuned for each method,
            and AdamW does not feel it at all. ``"tasks"`` makes every sum the number of tasks,
            ``"one"`` makes it 1.
        device: where trials compute.
        allow_unequal_budgets: lets methods have different numbers of tuning trials; the report warns.
    """

    model_config = STRICT

    problem: str
    problem_options: dict[str, Plain] = {}
    name: str = ""
    protocol: str = "litmus"
    methods: list[MethodSpec] = []
    learning_rates: Rates
    weight_decays: Annotated[list[Decay], Field(min_length=1), BeforeValidator(listed)] | None = (
        None
    )
    search: Search | None = None
    candidates: Annotated[Whole, Field(ge=2)] | None = None
    weight_step: Annotated[Real, Field(gt=0, le=0.5)] = 0.1
    sweep: dict[str, Annotated[list[Plain], Field(min_length=2)]] = {}
    near_zero: dict[str, Annotated[Real, Field(ge=0)]] = {}
    flatness: Annotated[Real, Field(ge=0, le=1)] = 0.0
    tuning: Literal["per seed", "once"] = "per seed"
    tuning_seeds: Annotated[Whole, Field(ge=1)] = 1
    seeds: Annotated[list[Seed], Field(min_length=1)] = [0, 1, 2, 3, 4]
    epochs: Annotated[Whole, Field(ge=1)]
    batch_size: Annotated[Whole, Field(ge=1)]
    weight_decay: Decay = 0.0
    optimizer: str = "adamw"
    schedule: str = "cosine"
    checkpoint: str = "last"
    route: Literal["auto", "losses", "parameters", "features"] = "auto"
    weight_sum: Literal["paper", "tasks", "one"] = "paper"
    device: str = "cpu"
    allow_unequal_budgets: bool = False

    @field_validator("methods", mode="before")
    @classmethod
    def _names_are_methods(cls, value: Any) -> Any:
        if not isinstance(value, list | tuple):
            raise ValueError("give a list of ids, such as ['uw'], or of tables with an id")
        for each in value:
            if isinstance(each, dict) and each.get("id") == SINGLE_TASK and len(each) > 1:
                raise ValueError(
                    f"{SINGLE_TASK!r}, the single-task networks, are in every study as they are; "
                    f"{', '.join(key for key in each if key != 'id')} of them cannot be given"
                )
        tables = [{"id": each} if isinstance(each, str) else each for each in value]
        return [
            each
            for each in tables
            if not (isinstance(each, dict) and each.get("id") == SINGLE_TASK)
        ]

    @field_validator("seeds", mode="before")
    @classmethod
    def _number_is_range(cls, value: Any) -> Any:
        value = number(value) if not isinstance(value, list) else value
        if isinstance(value, int):
            if value < 1:
                raise ValueError("give a number of seeds above 0, or a list of seeds")
            return list(range(value))
        return listed(value)

    @field_validator("seeds", "learning_rates", "weight_decays")
    @classmethod
    def _different(cls, value: Any) -> Any:
        if isinstance(value, list) and len(set(value)) != len(value):
            raise ValueError(f"{value} repeats an entry; each is run once")
        return value

    @field_validator("optimizer", "schedule")
    @classmethod
    def _known_part(cls, value: str, info: ValidationInfo) -> str:
        known = OPTIMIZERS if info.field_name == "optimizer" else SCHEDULES
        if value not in known and ":" not in value:
            raise ValueError(
                f"there is no {info.field_name} {value!r}; known: {', '.join(known)}, or your own as "
                "'package.module:function' or 'path/to/file.py:function'"
            )
        return value

    @field_validator("protocol")
    @classmethod
    def _has_protocol(cls, value: str) -> str:
        if value not in PROTOCOLS:
            raise ValueError(f"there is no protocol {value!r}; known: {', '.join(PROTOCOLS)}")
        return value

    @model_validator(mode="after")
    def _belongs_together(self) -> Spec:
        how = self.how
        if how != "grid" and self.candidates is None:
            raise ValueError(
                f"search = {how!r} needs candidates, the number of settings that each arm may try"
            )
        if how != "grid" and PROTOCOLS[self.protocol].fixed != "family":
            raise ValueError(
                f"protocol {self.protocol!r} tries a grid of fixed weights; it does not take search = {how!r}"
            )
        if self.protocol == "frontier" and self.tuning == "once":
            raise ValueError(
                "protocol 'frontier' needs the points of every seed, and so tuning = 'per seed', the default"
            )
        for option, values in self.sweep.items():
            if any(each in values[:k] for k, each in enumerate(values)):
                raise ValueError(f"sweep of {option!r} repeats an entry: {values}")
        if len(self.sweep) > 1:
            raise ValueError(f"sweep has {len(self.sweep)} options: {list(self.sweep)}; give one")
        both = sorted(set(self.sweep) & set(self.problem_options))
        if both:
            raise ValueError(
                f"{both[0]!r} is in sweep and in problem_options; give it in one of them"
            )
        return self

    @property
    def how(self) -> Search:
        """How candidates are found."""
        return self.search or PROTOCOLS[self.protocol].search

    def rate_span(self) -> tuple[float, float]:
        """The lowest and the highest learning rate."""
        rates = self.learning_rates
        return (rates.low, rates.high) if isinstance(rates, Range) else (min(rates), max(rates))

    def decays(self) -> list[float]:
        """The weight decays to try."""
        return [self.weight_decay] if self.weight_decays is None else self.weight_decays

    def settings(self) -> dict[str, Spec]:
        """The study at each value of what it sweeps, by what tells them apart; the main one first."""
        if not self.sweep:
            return {"": self}
        ((option, values),) = self.sweep.items()
        return {
            f"{option} = {value}": self.model_copy(
                update={"sweep": {}, "problem_options": {**self.problem_options, option: value}}
            )
            for value in values
        }

    def of_trials(self) -> dict[str, Any]:
        """What all trials of several tasks have in common, as they name it."""
        return {
            "problem": self.problem,
            "problem_options": with_options(self.problem_options),
            "optimizer": self.optimizer,
            "schedule": self.schedule,
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "route": self.route,
            "weight_sum": self.weight_sum,
            "device": self.device,
        }

    def title(self) -> str:
        """Name of the study."""
        return self.name or self.problem

    def to_toml(self) -> str:
        """The study as the TOML file that repeats it."""
        given = self.model_dump(exclude_defaults=True)
        given["seeds"] = self.seeds
        methods = given.pop("methods", [])
        lines = [f"{key} = {value_text(value)}" for key, value in given.items()]
        listed = [each["id"] if set(each) == {"id"} else each for each in methods]
        lines += ["methods = [", *(f"  {value_text(each)}," for each in listed), "]"]
        return "\n".join(lines) + "\n"
