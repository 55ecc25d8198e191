"""LTB: a tree of stages, whose branches are learned."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from equipoise.nn.experts import at_least, mixed
from equipoise.nn.multitask import MultiTask, Part
from equipoise.nn.stages import by_task, copies, parted, rejoined
from equipoise.nn.trunk import Share, Trunk


class LTB(MultiTask):
    r"""Learning to branch: every stage exists several times, and each copy learns whose output it reads.

    Copy i of stage j reads a mixture of the copies of the stage before,

    .. math:: x_i^j = \sum_p d_{ip} \, y_p^{j-1}, \quad
        d_i = \operatorname{softmax}\left((\log\theta_i + \epsilon) / \tau\right), \quad
        \epsilon \sim \mathrm{Gumbel}

    with probabilities :math:`\theta_i` of its parents, uniform at first; the head of a task chooses among
    the copies of the last stage likewise. In evaluation each reads its most probable parent: a tree, of
    which only what the tasks need is computed. :meth:`settle` makes training use that tree too, as the
    paper does once branches are found.

    The temperature is :math:`\tau_t = \max(\tau_0 / \sqrt{1 + t / a}, \tau_{\min})` after t training
    passes (a pass for one task of K counts 1 / K). The schedule is not the paper's: it starts mixing and
    ends choosing.

    Args:
        trunk: its stages are copied.
        heads: by task.
        nodes: copies of each stage; None: one a task.
        temperature: :math:`\tau_0`.
        anneal: a, in training passes.
        lowest: :math:`\tau_{\min}`.
        hard: whether a training pass draws one parent for each, with the gradient of the mixture (straight
            through): it then is a pass of one tree, as evaluation is. With mixtures the tree is another
            network than the one that trained, until the temperature is low or it is settled and trained on.
        warm_up: training passes in which all parents count alike and branches do not learn.

    Raises:
        ValueError: an option is out of its range.

    References:
        Guo, Lee, Ulbricht, *Learning to Branch for Multi-Task Learning*, ICML 2020, arXiv:2006.01895.
    """

    passes: Tensor
    settled: Tensor

    def __init__(
        self,
        trunk: Trunk,
        heads: Mapping[str, nn.Module],
        *,
        nodes: int | None = None,
        temperature: float = 5.0,
        anneal: float = 100.0,
        lowest: float = 0.5,
        hard: bool = True,
        warm_up: int = 0,
    ) -> None:
        super().__init__(heads)
        count = len(self.heads) if nodes is None else nodes
        at_least(nodes=(count, 1), warm_up=(warm_up, 0))
        for name, value in (("temperature", temperature), ("anneal", anneal), ("lowest", lowest)):
            if value <= 0:
                raise ValueError(f"{name}={value}: it has to be positive")
        made = copies(trunk, count)
        self.stages = nn.ModuleList(
            nn.ModuleList(stages[j] for stages in made) for j in range(len(made[0]))
        )
        self.branches = nn.ModuleList(
            nn.ModuleList(Branch(count) for _ in range(count)) for _ in made[0][1:]
        )
        self.leaves = by_task({task: Branch(count) for task in self.heads})
        self.temperature, self.anneal, self.lowest = temperature, anneal, lowest
        self.hard, self.warm_up = hard, warm_up
        # Counted in tasks, so that passes for one task at a time add up.
        self.register_buffer("passes", torch.zeros((), dtype=torch.int64))
        self.register_buffer("settled", torch.zeros((), dtype=torch.bool))

    @classmethod
    def over(
        cls,
        trunk: Trunk,
        heads: Mapping[str, nn.Module],
        *,
        nodes: int | None = None,
        temperature: float = 5.0,
        anneal: float = 100.0,
        lowest: float = 0.5,
        hard: bool = True,
        warm_up: int = 0,
    ) -> LTB:
        """The network over a trunk; the options are those of the class."""
        return cls(
            trunk,
            heads,
            nodes=nodes,
            temperature=temperature,
            anneal=anneal,
            lowest=lowest,
            hard=hard,
            warm_up=warm_up,
        )

    def tau(self) -> Tensor:
        """The temperature of the next training pass, ``Tensor[]``."""
        falling = (1 + self._time() / self.anneal).rsqrt() * self.temperature
        return falling.clamp_min(self.lowest)

    def _time(self) -> Tensor:
        return self.passes.to(torch.get_default_dtype()) / len(self.heads)

    def settle(self) -> None:
        """Makes training use the tree of the most probable branches from now on."""
        self.settled.fill_(True)

    def tree(self) -> dict[str, tuple[int, ...]]:
        """For each task, the copy of every stage that it passes, when each reads its most probable parent."""
        paths = {}
        for task, leaf in self.leaves.items():
            path = [_parent(leaf)]
            for branches in reversed(self.branches):
                path.append(_parent(branches[path[-1]]))  # type: ignore[index]
            paths[task] = tuple(reversed(path))
        return paths

    def reached(self, task: str) -> Iterable[Part]:
        """See :meth:`MultiTask.reached`."""
        stages: Any = self.stages
        if self.settled:
            nodes = [stage[n] for stage, n in zip(stages, self.tree()[task], strict=True)]
            return [*nodes, self.heads[task]]
        return [self.stages, self.branches, self.leaves[task], self.heads[task]]

    def forward(
        self, inputs: Any, share: Share | None = None, tasks: Sequence[str] | None = None
    ) -> dict[str, Any]:
        """Outputs by task.

        Args:
            inputs: what the first stage takes.
            share: splits what the copies of the last stage return, ``Tensor[B, n, ...]``, into a view for
                each task.
            tasks: whose outputs are wanted; None for all.
        """
        wanted = self.wanted(tasks)
        if self.settled or not self.training:
            return self._of_tree(inputs, share, wanted)
        tau, learns = self.tau(), self._time() >= self.warm_up
        self.passes += len(wanted)
        stages: Any = self.stages
        values = [node(inputs) for node in stages[0]]
        levels: Any = zip(stages[1:], self.branches, strict=True)
        for nodes, branches in levels:
            stacked, wholes = _stacked(values)
            values = [
                node(_drawn(stacked, wholes, branch(tau, learns, self.hard)))
                for node, branch in zip(nodes, branches, strict=True)
            ]
        stacked, wholes = _stacked(values)
        leaves: Any = self.leaves
        views = self.views(stacked, share, wanted)
        return self.read(
            {
                task: _drawn(view, wholes, leaves[task](tau, learns, self.hard))
                for task, view in views.items()
            }
        )

    def _of_tree(self, inputs: Any, share: Share | None, wanted: list[str]) -> dict[str, Any]:
        """Outputs of the most probable tree; tasks that pass the same copies compute them once."""
        tree = self.tree()
        stages: Any = self.stages
        known: dict[tuple[int, ...], Any] = {(): inputs}
        for task in wanted:
            path = tree[task]
            for j, node in enumerate(path):
                if path[: j + 1] not in known:
                    known[path[: j + 1]] = stages[j][node](known[path[:j]])
        if share is None:
            return self.read({task: known[tree[task]] for task in wanted})
        ends = list(dict.fromkeys(tree[task] for task in wanted))
        places = {task: ends.index(tree[task]) for task in wanted}
        stacked, wholes = _stacked([known[end] for end in ends])
        views = self.views(stacked, share, wanted)
        return self.read(
            {t: rejoined(view[:, places[t]], wholes[places[t]]) for t, view in views.items()}
        )


class Branch(nn.Module):
    """Whom a copy, or a head, reads.

    Args:
        count: how many it may read.
    """

    def __init__(self, count: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(count))

    def probabilities(self) -> Tensor:
        """Of its parents, ``Tensor[n]``."""
        return self.logits.softmax(0)

    def forward(self, tau: Tensor, learns: Tensor, hard: bool) -> Tensor:
        """Weights of the parents, ``Tensor[1, n]``, drawn anew.

        Args:
            tau: temperature.
            learns: whether branches learn yet; if not, all parents count alike.
            hard: whether one of them has all the weight.
        """
        noise = -torch.empty_like(self.logits).exponential_().log()
        # Multiplied, so that the branches are part of every pass: what is shared does not change.
        drawn = ((self.logits + noise) * learns / tau).softmax(0)
        if hard:
            one = nn.functional.one_hot(drawn.argmax(), len(drawn)).to(drawn)
            drawn = torch.where(learns, one + (drawn - drawn.detach()), drawn)
        return drawn[None]


def _parent(branch: Any) -> int:
    return int(branch.logits.argmax())


def _stacked(values: Sequence[Any]) -> tuple[Tensor, list[Any]]:
    """What copies of a stage returned: the features, and each's whole value where it is more than these."""
    parts = [parted(value, "a stage") for value in values]
    return torch.stack([tensor for tensor, _ in parts], 1), [whole for _, whole in parts]


def _drawn(stacked: Tensor, wholes: Sequence[Any], weights: Tensor) -> Any:
    """The mixture; what is no feature, such as a mask, comes from the parent with most weight."""
    whole = None if wholes[0] is None else wholes[int(weights.argmax())]
    return rejoined(mixed(stacked, weights), whole)
