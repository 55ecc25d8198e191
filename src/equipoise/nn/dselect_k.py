"""DSelect-k: gates that select k experts, differentiably."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from equipoise.nn.experts import Source, at_least
from equipoise.nn.mmoe import MMoE
from equipoise.nn.trunk import Trunk


class DSelectK(MMoE):
    r"""MMoE whose gates select k of the n experts, smoothly while they learn.

    A gate has k selectors. Selector i holds :math:`m = \lceil \log_2 n \rceil` numbers :math:`z^i`, which
    a smooth step makes the bits of the number of an expert:

    .. math:: r(z)_j = \prod_{b=1}^{m} S(z_b)^{c_{jb}} (1 - S(z_b))^{1 - c_{jb}}, \quad
        q = \sum_{i=1}^{k} \operatorname{softmax}(\alpha)_i \; r(z^i)

    with the binary code :math:`c_j` of expert j and the smooth step

    .. math:: S(t) = -\frac{2}{\gamma^3} t^3 + \frac{3}{2 \gamma} t + \frac12

    between :math:`\pm\gamma / 2`, 0 below and 1 above. Once every :math:`|z_b| \ge \gamma / 2`, at most k
    weights are not zero, and they sum to one. The regulariser of a gate (:meth:`regularisers`) drives it
    there.

    :math:`z` and :math:`\alpha` are linear in a vector, or parameters themselves with ``gate="static"``.
    Both forms are the paper's; its vector is the input (``gate="input"``), the default one is that of
    :class:`MMoE`.

    Args:
        trunk: of which every expert is a copy.
        heads: by task.
        experts: their number n.
        k: experts that a task selects.
        gamma: width :math:`\gamma` of the smooth step.
        gate: what gates look at: ``"experts"``, ``"input"``, or ``"static"`` (nothing).
        inputs: size of the flattened input, for ``gate="input"``.
        bottom: number of stages that come before the experts and exist once.
        regularised: whether training passes keep the regularisers of the gates.

    Raises:
        ValueError: an option is out of its range, or ``inputs`` is missing.

    References:
        Hazimeh et al., *DSelect-k: Differentiable Selection in the Mixture of Experts with Applications to
        Multi-Task Learning*, NeurIPS 2021, arXiv:2106.03760.
    """

    def __init__(
        self,
        trunk: Trunk,
        heads: Mapping[str, nn.Module],
        *,
        experts: int = 4,
        k: int = 2,
        gamma: float = 1.0,
        gate: Source = "experts",
        inputs: int | None = None,
        bottom: int = 0,
        regularised: bool = False,
    ) -> None:
        at_least(k=(k, 1), experts=(experts, k))
        if gamma <= 0:
            raise ValueError(f"gamma={gamma}: the smooth step needs a positive width")
        self._make = (k, gamma, regularised)
        super().__init__(trunk, heads, experts=experts, gate=gate, inputs=inputs, bottom=bottom)

    @classmethod
    def over(
        cls,
        trunk: Trunk,
        heads: Mapping[str, nn.Module],
        *,
        experts: int = 4,
        k: int = 2,
        gamma: float = 1.0,
        gate: Source = "experts",
        inputs: int | None = None,
        bottom: int = 0,
        regularised: bool = False,
    ) -> DSelectK:
        """The network over a trunk; the options are those of the class."""
        return cls(
            trunk,
            heads,
            experts=experts,
            k=k,
            gamma=gamma,
            gate=gate,
            inputs=inputs,
            bottom=bottom,
            regularised=regularised,
        )

    def gate(self, experts: int, size: int | None) -> nn.Module:
        """A fresh gate, from a vector of some size (None: from nothing) to weights of the experts."""
        k, gamma, regularised = self._make
        return SelectGate(experts, size, k, gamma, regularised)

    def regularisers(self) -> dict[str, Tensor]:
        r"""By task, how far its gate was from selecting in the last training pass.

        .. math:: -\sum_{i,j} r(z^i)_j \log r(z^i)_j + \sum_i \Bigl(\sum_j r(z^i)_j\Bigr)^{-1}

        as a mean over examples; the second term, for codes that name no expert, only where n is no power
        of 2. Add it to the task's loss, times a factor of yours such as 0.01: a gate is its task's own.

        Raises:
            RuntimeError: there was no training pass, or ``regularised=True`` was not set.
        """
        gates: Any = self.gates
        found = {t: gates[t].regulariser for t in self.tasks if gates[t].regulariser is not None}
        if not found:
            raise RuntimeError(
                "no regulariser was kept: build the network with regularised=True, and ask after a training "
                "pass"
            )
        return found


class SelectGate(nn.Module):
    """k differentiable selectors of n experts, and the weights among them.

    Args:
        count: number of experts n.
        size: of the vector that the gate looks at; None for parameters.
        k: number of selectors.
        gamma: width of the smooth step.
        regularised: whether training passes keep the regulariser.
    """

    codes: Tensor

    def __init__(
        self, count: int, size: int | None, k: int, gamma: float, regularised: bool
    ) -> None:
        super().__init__()
        self.k, self.gamma, self.regularised = k, gamma, regularised
        self.regulariser: Tensor | None = None
        bits = math.ceil(math.log2(count))
        self.register_buffer(
            "codes",
            torch.tensor([[(j >> b) & 1 for b in range(bits)] for j in range(count)]).bool(),
            persistent=False,
        )
        self.bits = _of(size, k * bits, gamma / 100)
        self.scores = _of(size, k, 0.05)

    def __getstate__(self) -> dict[str, Any]:
        # A regulariser has the graph of its pass, which cannot be copied.
        return {**self.__dict__, "regulariser": None}

    def selectors(self, vector: Tensor | None) -> Tensor:
        """What each selector gives every expert, ``Tensor[B, k, n]``; B is 1 without a vector."""
        bits = _told(self.bits, vector)
        step = smooth_step(bits.reshape(len(bits), self.k, 1, self.codes.shape[1]), self.gamma)
        return torch.where(self.codes, step, 1 - step).prod(-1)

    def forward(self, vector: Tensor | None) -> Tensor:
        """Weights ``Tensor[B, n]``, or ``Tensor[1, n]`` for all examples."""
        chosen = self.selectors(vector)
        if self.training and self.regularised and torch.is_grad_enabled():
            self.regulariser = self._regulariser(chosen)
        scores = torch.softmax(_told(self.scores, vector), -1)
        return (scores[:, :, None] * chosen).sum(1)

    def _regulariser(self, chosen: Tensor) -> Tensor:
        tiny = torch.finfo(chosen.dtype).tiny
        omega = -(chosen * chosen.clamp_min(tiny).log()).sum((1, 2)).mean()
        if len(self.codes) < 2 ** self.codes.shape[1]:
            omega = omega + chosen.sum(2).clamp_min(tiny).reciprocal().sum(1).mean()
        return omega


def smooth_step(t: Tensor, gamma: float) -> Tensor:
    """From 0 below -gamma / 2 to 1 above gamma / 2, by a cubic polynomial."""
    inside = t.clamp(-gamma / 2, gamma / 2)
    return -2 / gamma**3 * inside**3 + 3 / (2 * gamma) * inside + 0.5


def _of(size: int | None, count: int, spread: float) -> nn.Module | nn.Parameter:
    """Numbers, or a linear map to them, that start within a spread of zero."""
    if size is None:
        return nn.Parameter(torch.empty(1, count).uniform_(-spread, spread))
    linear = nn.Linear(size, count)
    nn.init.uniform_(linear.weight, -spread, spread)
    nn.init.uniform_(linear.bias, -spread, spread)
    return linear


def _told(numbers: Any, vector: Tensor | None) -> Tensor:
    told: Tensor = numbers if vector is None else numbers(vector)
    return told
