"""The specification of a study: what a TOML file may say, checked key by key."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from equipoise.methods.catalogue import find
from equipoise.study.questions import PROTOCOLS
from equipoise.study.trial import OPTIMIZERS, SCHEDULES, SINGLE_TASK

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # type: ignore[import-not-found, unused-ignore]

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class MethodSpec(_Strict):
    """One method of a study.

    Attributes:
        id: as ``equipoise methods`` lists it, or a class of yours, ``"my_method.py:Class"``.
        options: fixed options.
        arguments: of the balancer around it, such as ``heads``, ``weight_sum`` or ``update_every``.
        search: options to be tuned, each with the values to try.
        learning_rates: to try with this method, instead of those of the study.
        label: how tables call it.
    """

    id: str
    options: dict[str, Any] = {}
    arguments: dict[str, Any] = {}
    search: dict[str, Annotated[list[Any], Field(min_length=1)]] = {}
    learning_rates: Annotated[list[Positive], Field(min_length=1)] | None = None
    label: str | None = None

    @field_validator("id")
    @classmethod
    def _known(cls, value: str) -> str:
        if value != SINGLE_TASK and ":" not in value:
            find(value)
        return value


class Spec(_Strict):
    """A study.

    Attributes:
        problem: name of the problem, ``"package.module:function"`` or ``"path/to/file.py:function"``. A
            file that a TOML file names is looked for beside it, then where the command runs.
        problem_options: passed to the problem.
        name: title of the report.
        protocol: what is compared with what; see :data:`equipoise.study.PROTOCOLS`.
        methods: ids, or tables with options. Single-task networks and the controls of the protocol
            are always added.
        learning_rates: each method tries all of them; its best on validation is used.
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
            and AdamW does not feel it at all. ``"tasks"`` makes every sum the number of tasks.
        device: where trials compute.
        allow_unequal_budgets: lets methods have different numbers of tuning trials; the report warns.
    """

    problem: str
    problem_options: dict[str, Any] = {}
    name: str = ""
    protocol: str = "litmus"
    methods: list[MethodSpec] = []
    learning_rates: Annotated[list[Positive], Field(min_length=1)]
    tuning: Literal["per seed", "once"] = "per seed"
    tuning_seeds: Annotated[int, Field(ge=1)] = 1
    seeds: Annotated[list[int], Field(min_length=1)] = [0, 1, 2, 3, 4]
    epochs: Annotated[int, Field(ge=1)]
    batch_size: Annotated[int, Field(ge=1)]
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
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
        if not isinstance(value, list):
            return value
        tables = [{"id": each} if isinstance(each, str) else each for each in value]
        return [
            each
            for each in tables
            if not (isinstance(each, dict) and each.get("id") == SINGLE_TASK)
        ]

    @field_validator("seeds", mode="before")
    @classmethod
    def _number_is_range(cls, value: Any) -> Any:
        return list(range(value)) if isinstance(value, int) and value > 0 else value

    @field_validator("seeds", "learning_rates")
    @classmethod
    def _different(cls, value: list[Any]) -> list[Any]:
        if len(set(value)) != len(value):
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

    def title(self) -> str:
        """Name of the study."""
        return self.name or self.problem

    def to_toml(self) -> str:
        """The study as the TOML file that repeats it."""
        given = self.model_dump(exclude_defaults=True)
        given["seeds"] = self.seeds
        methods = given.pop("methods", [])
        lines = [f"{key} = {_toml(value)}" for key, value in given.items()]
        listed = [each["id"] if set(each) == {"id"} else each for each in methods]
        lines += ["methods = [", *(f"  {_toml(each)}," for each in listed), "]"]
        return "\n".join(lines) + "\n"


def load(path: str | Path) -> Spec:
    """Reads a study from a TOML file.

    Raises:
        ValueError: the file is missing, is not TOML, or has a key or value that makes no sense; the
            message names the key.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"there is no file {str(path)!r}")
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path}: not valid TOML: {error}") from None
    return parse(_beside(content, path.parent), str(path))


def _beside(content: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The study with its ``"file.py:name"`` that lie beside the TOML file as they are found from here."""

    def found(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {**value, "id": found(value["id"])} if "id" in value else value
        if isinstance(value, list):
            return [found(each) for each in value]
        file, colon, name = value.rpartition(":") if isinstance(value, str) else ("", "", "")
        there = folder / file
        return f"{there}:{name}" if colon and file.endswith(".py") and there.is_file() else value

    named = ("problem", "methods", "optimizer", "schedule")
    return {key: found(value) if key in named else value for key, value in content.items()}


def parse(content: Mapping[str, Any], source: str = "study") -> Spec:
    """Checks a study given as a mapping.

    Raises:
        ValueError: a key or value makes no sense; the message names the key.
    """
    try:
        return Spec.model_validate(dict(content))
    except ValidationError as error:
        lines = [_explain(dict(each)) for each in error.errors()]
        raise ValueError(f"{source}: " + "; ".join(lines)) from None


def _explain(error: dict[str, Any]) -> str:
    where = error["loc"]
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in where).lstrip(
        "."
    )
    if error["type"] == "extra_forbidden":
        owner = MethodSpec if where[0] == "methods" else Spec
        near = get_close_matches(str(where[-1]), owner.model_fields, n=1)
        hint = (
            f"; did you mean '{near[0]}'?" if near else f"; known: {', '.join(owner.model_fields)}"
        )
        return f"key '{key}' is not known{hint}"
    if error["type"] == "missing":
        return f"key '{key}' is missing"
    what = str(error["msg"]).removeprefix("Value error, ")
    return f"key '{key}': {what} (given: {error['input']!r})"


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        pairs = [f"{_key(key)} = {_toml(each)}" for key, each in value.items()]
        return "{ " + ", ".join(pairs) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml(each) for each in value) + "]"
    return repr(value) if isinstance(value, float) else json.dumps(value, ensure_ascii=False)


def _key(name: str) -> str:
    bare = name.isascii() and name.replace("_", "").replace("-", "").isalnum()
    return name if bare else json.dumps(name, ensure_ascii=False)
