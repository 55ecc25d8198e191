"""One training run as an objective of the user's own Optuna study."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from equipoise.problems import Problem, problem
from equipoise.study.arms import SCALARIZATION
from equipoise.study.comparison import named
from equipoise.study.measuring import Scores, criterion
from equipoise.study.proposals import suggested, weights_suggested
from equipoise.study.rehearsal import first_losses
from equipoise.study.train import run
from equipoise.study.trial import Trial, with_options
from equipoise.study.values import Coarse, Range

Tried = Sequence[Any] | Mapping[str, Any] | Range | Coarse


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
        settings: any other field of :class:`equipoise.study.Trial`, such as ``weight_decay``.

    Raises:
        ValueError: from the call: the problem, a method or an option makes no sense. Fixed weights
            (``"scalarization"``) are suggested as shares of the first loss, a point of the simplex.
    """

    problem: str | Problem | Callable[..., Problem]
    methods: Sequence[str]
    learning_rates: Tried
    epochs: int
    batch_size: int
    search: Mapping[str, Tried] = field(default_factory=dict)
    by: str = "loss"
    seed: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if isinstance(self.methods, str) or not self.methods:
            raise ValueError(f"methods is a list of ids, such as ['uw']; got {self.methods!r}")
        if self.search and len(self.methods) > 1:
            raise ValueError("search names options of one method; give one method, or no search")
        self._name, _ = named(self.problem)
        built = problem(self._name)
        self._built = built
        self._first = first_losses(built, self.settings.get("device", "cpu"))

    def __call__(self, trial: Any) -> float:
        """Trains as the trial suggests.

        Raises:
            optuna.TrialPruned: the trial was pruned, or left the finite numbers.
        """
        import optuna

        method = suggested(trial, {"method": self.methods})["method"]
        rate = suggested(trial, {"learning_rate": _values(self.learning_rates)})["learning_rate"]
        options = suggested(trial, {name: _values(v) for name, v in self.search.items()})
        if method == SCALARIZATION:
            options["weights"] = weights_suggested(trial, list(self._first.values()))
        last = float("nan")

        def watch(epoch: int, found: Scores) -> str:
            nonlocal last
            last = self._worth(found)
            trial.report(last, epoch)
            return "pruned" if trial.should_prune() else ""

        result = run(
            Trial(
                problem=self._name,
                method=method,
                method_options=with_options(options),
                stage="tune",
                seed=self.seed,
                learning_rate=rate,
                epochs=self.epochs,
                batch_size=self.batch_size,
                **self.settings,
            ),
            watch=watch,
        )
        if result.status != "done":
            raise optuna.TrialPruned(result.note)
        return last

    def _worth(self, found: Scores) -> float:
        if self.by == "loss":
            return -fmean(
                found[name, "loss"] / max(abs(first), 1e-12) for name, first in self._first.items()
            )
        return criterion(self._built, list(self._first), self.by, found)


def _values(given: Tried) -> Sequence[Any] | Range | Coarse:
    return Range(**given) if isinstance(given, Mapping) else given
