"""A copy of the trunk for each task, with layers between stages where the copies meet."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from equipoise.nn.multitask import MultiTask, Part, refuse_share
from equipoise.nn.stages import by_task, copies, parted, rejoined
from equipoise.nn.trunk import Share, Trunk


class Columns(MultiTask):
    """Columns, one a task, whose features are mixed after some stages.

    Args:
        trunk: of which every task gets a copy.
        heads: by task.
        after: stages after which columns meet, counted from 0; None: after each.
        mixer: makes, from the number of a stage and the position of a task, a module that maps the
            features of all columns, in the order of the tasks, to the task's own.

    Raises:
        ValueError: there is no such stage.
    """

    def __init__(
        self,
        trunk: Trunk,
        heads: Mapping[str, nn.Module],
        after: Sequence[int] | None,
        mixer: Callable[[int, int], nn.Module],
    ) -> None:
        super().__init__(heads)
        made = copies(trunk, len(self.heads))
        count = len(made[0])
        places = range(count) if after is None else after
        wrong = [stage for stage in places if stage not in range(count)]
        if wrong:
            raise ValueError(f"after={wrong[0]}: the trunk has stages 0 to {count - 1}")
        # One column has nothing to be mixed with.
        self._places = sorted(set(places)) if len(self.heads) > 1 else []
        self.columns = by_task(
            {task: nn.ModuleList(stages) for task, stages in zip(self.heads, made, strict=True)}
        )
        self.mixers = nn.ModuleDict(
            {
                str(stage): by_task({task: mixer(stage, k) for k, task in enumerate(self.heads)})
                for stage in self._places
            }
        )

    def _last(self) -> int:
        """The last stage after which columns meet; -1 if they never do."""
        return self._places[-1] if self._places else -1

    def reached(self, task: str) -> Iterable[Part]:
        """See :meth:`MultiTask.reached`."""
        last = self._last()
        yield self.heads[task]
        for other, column in self.columns.items():
            for stage, module in enumerate(list(column)):  # type: ignore[call-overload]
                if other == task or stage <= last:
                    yield module
                if stage in self._places and (other == task or stage < last):
                    yield self.mixers[str(stage)][other]  # type: ignore[index]

    def forward(
        self, inputs: Any, share: Share | None = None, tasks: Sequence[str] | None = None
    ) -> dict[str, Any]:
        """Outputs by task.

        Args:
            inputs: what the first stage takes.
            share: splits the features of all columns, a tuple of K tensors, into a view for each task. The
                columns have to meet after the last stage; else there is nothing that all tasks read.
            tasks: whose outputs are wanted; None for all. Columns that these do not read are not computed.

        Raises:
            ValueError: ``share`` was given, and columns do not meet after the last stage.
        """
        wanted = self.wanted(tasks)
        last = self._last()
        count = len(next(iter(self.columns.values())))  # type: ignore[arg-type]
        if last < count - 1:
            refuse_share(share, "after its last stage every task has features of its own")
        values = dict.fromkeys(self.columns if last >= 0 else wanted, inputs)
        for stage in range(count):
            values = {t: self.columns[t][stage](v) for t, v in values.items()}  # type: ignore[index]
            if stage in self._places:
                reading = self.columns if stage < last else wanted
                values = self._mixed(stage, values, share if stage == count - 1 else None, reading)
        return self.read({task: values[task] for task in wanted})

    def _mixed(
        self, stage: int, values: Mapping[str, Any], share: Share | None, tasks: Iterable[str]
    ) -> dict[str, Any]:
        parts = {t: parted(value, f"stage {stage}") for t, value in values.items()}
        features: tuple[Tensor, ...] = tuple(tensor for tensor, _ in parts.values())
        views = self.views(features, share, list(tasks))
        mixers: Any = self.mixers[str(stage)]
        return {t: rejoined(mixers[t](view), parts[t][1]) for t, view in views.items()}
