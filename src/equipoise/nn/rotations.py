"""RotoGrad's rotations: each task sees the shared features in a frame of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations


class Rotations(nn.Module):
    r"""One rotation of the shared features per task, trained so that task gradients point the same way.

    The head of task k reads :math:`r_k = R_k z`. With :math:`u_k = \partial L_k / \partial r_k`, the
    gradient that reaches the features is :math:`g_k = R_k^\top u_k`. The rotations do not see the losses;
    they minimise

    .. math:: \frac1B \sum_{b,k} \| R_k v_b - u_{kb} \|^2, \quad v = \frac1K \sum_k \frac{c}{\|g_k\|} g_k,
        \quad c = \frac1K \sum_k \|g_k\|

    over the B rows of the batch, as in the official code, with :math:`v` and :math:`u_k` held constant. They
    start at the identity. Their optimiser should be slower than the network's, so that the heads can follow.

    Use it on the views of the balancer, whose method ``"rotograd"`` equalises the gradients' norms::

        views = rotations(balancer.share(trunk(x)))
        balancer({t: loss(heads[t](views[t]), y[t]) for t in tasks}).backward()
        rotations.backward()

    Args:
        tasks: names of the tasks.
        size: number of features to rotate, the first ``size`` of the last dimension.

    References:
        Javaloy, Valera, *RotoGrad: Gradient Homogenization in Multitask Learning*, ICLR 2022,
        arXiv:2103.02631.
    """

    def __init__(self, tasks: Sequence[str], size: int) -> None:
        super().__init__()
        if size < 2:
            raise ValueError(f"size={size}: there is nothing to rotate in fewer than two features")
        self.size = size
        self.turns = nn.ModuleDict()
        for task in tasks:
            turn = nn.Linear(size, size, bias=False)
            parametrizations.orthogonal(turn, orthogonal_map="matrix_exp")
            turn.weight = torch.eye(size)
            self.turns[task] = turn
        self._incoming: dict[str, Tensor] = {}

    def forward(self, views: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The rotated features ``Tensor[..., size or more]`` of every task.

        Args:
            views: the features as each task gets them, as ``balancer.share`` hands them out.

        Raises:
            ValueError: the features are fewer than the rotations.
        """
        self._incoming = {}
        return {task: self._turned(task, view) for task, view in views.items()}

    def _turned(self, task: str, view: Tensor) -> Tensor:
        if view.shape[-1] < self.size:
            raise ValueError(
                f"the features of task '{task}' have {view.shape[-1]} entries, fewer than the {self.size} "
                "to rotate"
            )
        rotation = self.rotation(task).detach()
        out = view[..., : self.size] @ rotation.mT
        if out.requires_grad and self.training:
            hook: Any = out.register_hook
            hook(lambda gradient: self._note(task, gradient))
        return torch.cat([out, view[..., self.size :]], -1)

    def _note(self, task: str, gradient: Tensor) -> None:
        self._incoming[task] = gradient.detach().reshape(-1, self.size)

    def rotation(self, task: str) -> Tensor:
        """The rotation of a task, ``Tensor[size, size]``, orthogonal."""
        weight: Any = self.turns[task].weight
        return torch.as_tensor(weight)

    def backward(self) -> Tensor:
        """Writes the rotations' gradients from what the last backward pass sent through them.

        Returns:
            Their objective, detached.

        Raises:
            RuntimeError: no backward pass went through the rotations since the last call.
        """
        if not self._incoming:
            raise RuntimeError(
                "no gradient has passed the rotations: call balancer(losses).backward() first, with losses "
                "computed from the rotated features"
            )
        # The loss of the whole batch is the mean of the processes' losses.
        count = _processes()
        incoming = {task: u / count for task, u in self._incoming.items()}
        frames = {task: self.rotation(task) for task in incoming}
        arrived = {task: u @ frames[task].detach() for task, u in incoming.items()}
        squares = torch.stack([g.square().sum() for g in arrived.values()])
        norms = dict(zip(arrived, _total(squares).sqrt().unbind(), strict=True))
        common = torch.stack(list(norms.values())).mean()
        tiny = torch.finfo(common.dtype).tiny
        v = torch.stack(
            [common / norms[task].clamp_min(tiny) * g for task, g in arrived.items()]
        ).mean(0)
        gaps = [(v @ frames[task].mT - u).square().sum(-1).mean() for task, u in incoming.items()]
        objective = torch.stack(gaps).sum()
        turns = [p for p in self.turns.parameters() if p.requires_grad]
        for turn, gradient in zip(
            turns, torch.autograd.grad(objective, turns, allow_unused=True), strict=True
        ):
            if gradient is not None:
                gradient = _total(gradient) / count
                turn.grad = gradient if turn.grad is None else turn.grad + gradient
        objective = _total(objective.detach()) / count
        self._incoming = {}
        return objective.detach()


def _processes() -> int:
    """How many processes train together."""
    distributed = torch.distributed
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_world_size()
    return 1


def _total(tensor: Tensor) -> Tensor:
    """The sum over processes."""
    if _processes() > 1:
        torch.distributed.all_reduce(tensor)
    return tensor
