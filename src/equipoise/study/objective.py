"""One training run as an objective of the user's own Optuna study."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from statistics import fmean
from typing import Any

from equipoise.problems import Problem
from equipoise.study.arms import SCALARIZATION
from equipoise.study.comparison import named, refuse_no_methods
from equipoise.study.loading import parse
from equipoise.study.measuring import Scores
from equipoise.study.method_spec import MethodSpec
from equipoise.study.preparing import refuse_criterion, refuse_method, rehearsed
from equipoise.study.proposals import suggested, the_search, weights_suggested
from equipoise.study.spec import Spec
from equipoise.study.train import run
from equipoise.study.trial import SINGLE_TASK, Trial, with_options
from equipoise.study.values import Coarse, Range

# What else may be said of a run, as a study says it.
SETTINGS = (
    "problem_options",
    "arguments",
    "weight_decay",
    "optimizer",
    "schedule",
    "route",
    "weight_sum",
    "device",
)
Tried = Sequence[Any] | Mapping[str, Any] | Range


@dataclass
class Objective:
    """What a trial of Optuna is worth: trains once, and returns a criterion on validation; higher is better.

    ``optuna.create_study(direction="maximize").optimize(Objective(...), n_trials=30)``. The trial is told the
    criterion after every epoch and may prune the run. The test split is never read.

    Args:
        problem: as for :func:`equipoise.study.compare`.
        methods: ids; of several, one is suggested.
        learning_rates: values, or ``{"low": 1e-3, "high": 0.1}``.
        epochs: of a run.
        batch_size: of a step.
        search: options by name, each with values or a range; only for one method.
        by: ``"loss"``: the mean over tasks of the loss on validation as a share of the loss before training,
            negative; or ``"task/metric"``, negative where lower is better.
        seed: of the run, the same for all trials.
        settings: ``weight_decay``, ``optimizer``, ``schedule``, ``route``, ``weight_sum``, ``device`` and
            ``problem_options`` as a study has them, and ``arguments`` of the balancer.

    Fixed weights (``"scalarization"``) are suggested as shares of the first loss, a point of the simplex.

    Raises:
        ValueError: something that was given makes no sense, or Optuna is not installed.
        TypeError: ``problem`` is something else.
    """

    problem: str | Problem | Callable[..., Problem]
    methods: Sequence[str]
    learning_rates: float | Tried
    epochs: int
    batch_size: int
    search: Mapping[str, Tried] = field(default_factory=dict)
    by: str = "loss"
    seed: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        the_search("Objective()")
        self._name, _ = named(self.problem)
        self._spec = self._checked()
        told, _ = rehearsed(self._spec)
        refuse_criterion("by", self.by, told)
        self._first: dict[str, float] = told["first_losses"]
        self._higher = {
            f"{each['task']}/{each['metric']}": each["higher_is_better"]
            for each in told["measures"]
        }
        self._refuse_impossible()

    def _checked(self) -> Spec:
        """What was given, checked as a study's keys are."""
        if not isinstance(self.settings, Mapping):
            raise ValueError(
                f"Objective(): settings is a mapping, such as {{'weight_decay': 1e-4}}; got {self.settings!r}"
            )
        for key in self.settings:
            if key not in SETTINGS:
                near = get_close_matches(str(key), SETTINGS, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(SETTINGS)}"
                raise ValueError(f"Objective(): settings has no key {key!r}; {hint}")
        refuse_no_methods(self.methods, "Objective()")
        if any(isinstance(each, Mapping) for each in self.methods):
            raise ValueError(
                "Objective(): methods are ids; options to be tried go into search, arguments into settings"
            )
        if SINGLE_TASK in self.methods:
            raise ValueError(
                f"Objective(): {SINGLE_TASK!r} learns one task; give a method of several"
            )
        if self.search and len(self.methods) > 1:
            raise ValueError("search names options of one method; give one method, or no search")
        if SCALARIZATION in self.methods and self.search:
            raise ValueError(
                f"search has no effect on {SCALARIZATION!r}, whose weights are suggested anyway; take it out"
            )
        settings = dict(self.settings)
        shared = {"arguments": settings.pop("arguments", {}), "search": self.search}
        return parse(
            {
                "problem": self._name,
                "methods": [
                    {"id": each, **{k: v for k, v in shared.items() if v}} for each in self.methods
                ],
                "learning_rates": self.learning_rates,
                "search": "random",
                "candidates": 2,
                "epochs": self.epochs,
                "batch_size": self.batch_size,
                "seeds": [self.seed],
                **settings,
            },
            "Objective()",
        )

    def _refuse_impossible(self) -> None:
        """Builds every method once with every value that is listed, and with the ends of what is not."""
        for method in self._spec.methods:
            ends = {name: _ends(values) for name, values in method.search.items()}
            usual = {name: values[0] for name, values in ends.items()}
            for name, values in (ends or {"": [None]}).items():
                for value in values:
                    options = {**usual, name: value} if name else {}
                    tried = self._trial(method, _ends(self._spec.learning_rates)[0], options)
                    refuse_method(method.id, tried, list(self._first))

    def _trial(self, method: MethodSpec, rate: float, options: Mapping[str, Any]) -> Trial:
        spec = self._spec
        return Trial(
            **spec.of_trials(),
            method=method.id,
            method_options=with_options(options),
            arguments=with_options(method.arguments),
            stage="tune",
            seed=spec.seeds[0],
            learning_rate=rate,
            weight_decay=spec.weight_decay,
        )

    def __call__(self, trial: Any) -> float:
        """Trains as the trial suggests.

        Raises:
            optuna.TrialPruned: the trial was pruned, or left the finite numbers.
        """
        optuna = the_search("Objective()")
        if not isinstance(trial, optuna.trial.BaseTrial):
            raise ValueError(
                f"an Objective is called with a trial of Optuna, by study.optimize(objective); got {trial!r}"
            )
        ways = trial.study.directions if isinstance(trial, optuna.trial.Trial) else []
        if any(way != optuna.study.StudyDirection.MAXIMIZE for way in ways):
            raise ValueError(
                "an Objective is better where it is higher: optuna.create_study(direction='maximize')"
            )
        by_id = {each.id: each for each in self._spec.methods}
        method = by_id[suggested(trial, {"method": list(by_id)})["method"]]
        rate = suggested(trial, {"learning_rate": self._spec.learning_rates})["learning_rate"]
        options = suggested(trial, method.search)
        if method.id == SCALARIZATION:
            options["weights"] = weights_suggested(trial, list(self._first.values()))
        last = float("nan")

        def watch(epoch: int, found: Scores) -> str:
            nonlocal last
            last = self._worth(found)
            trial.report(last, epoch)
            return "pruned" if trial.should_prune() else ""

        result = run(self._trial(method, rate, options), watch=watch)
        if result.status != "done":
            raise optuna.TrialPruned(result.note)
        return last

    def _worth(self, found: Scores) -> float:
        if self.by == "loss":
            return -fmean(
                found[name, "loss"] / max(abs(first), 1e-12) for name, first in self._first.items()
            )
        task, _, metric = self.by.rpartition("/")
        return (1.0 if self._higher.get(self.by, False) else -1.0) * found[task, metric]


def _ends(values: Sequence[Any] | Range | Coarse) -> Sequence[Any]:
    if isinstance(values, Coarse):
        return values.coarse
    return [values.low, values.high] if isinstance(values, Range) else values
