"""K gradients at once down a chain of Linear layers, without a backward pass of autograd for each task.

From the bottom of the heads down, a trunk often is a chain: Linear layers, functions of single entries,
changes of shape. There the gradients of all tasks are propagated together, so that a layer costs one product
whatever the number of tasks. The first node that is none of these ends the chain, and autograd goes on from
there, task by task.

A hook on a tensor inside the chain is not called, and nothing in the graph tells that it is there. What the
chain finds is therefore compared with autograd in the 1st, 3rd, 7th, 15th ... step; where they differ, the
chain is not used again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

from equipoise.gradients.graph import leaf_of

# Gradients of single parameters, ``Tensor[K, ...]``.
Blocks = dict[Tensor, Tensor]
# Of K gradients ``Tensor[..., K, d]`` at a node's output, those at its input; adds to those of parameters.
Link = Callable[[Tensor, Blocks], Tensor]
# A node and the number of its output; None where no gradient is needed further down.
Edge = tuple[Any, int]

# Products of all tasks round differently from those of one.
_SAME = {torch.float32: 1e-3, torch.float64: 1e-9}


class Chain(NamedTuple):
    """Where all losses pass, and what is below.

    Attributes:
        links: from the top down.
        leaves: the parameters on the way.
        below: where autograd goes on; None where nothing is left.
        kind: what two steps with the same chain have in common.
    """

    links: list[Link]
    leaves: list[Tensor]
    below: GradientEdge | None
    kind: tuple[str, ...]

    def descend(self, upstream: Tensor) -> tuple[Blocks, Tensor]:
        """The gradients of the chain's parameters, and those at its lower end.

        Args:
            upstream: the gradients at its upper end, ``Tensor[K, ...]``.
        """
        blocks: Blocks = {}
        gradients = upstream.movedim(0, -2)
        for link in self.links:
            gradients = link(gradients, blocks)
        return blocks, gradients.movedim(-2, 0)


class Trust:
    """What was taken on trust so far, how often, and what has turned out not to deserve it."""

    def __init__(self) -> None:
        self._uses: dict[tuple[str, ...], int] = {}
        self._refused: set[tuple[str, ...]] = set()

    def given(self, kind: tuple[str, ...]) -> bool:
        """Whether something of that kind may be used."""
        return kind not in self._refused

    def due(self, kind: tuple[str, ...]) -> bool:
        """Counts a use, and tells whether it is to be compared with autograd."""
        uses = self._uses[kind] = self._uses.get(kind, 0) + 1
        return uses & (uses + 1) == 0

    def refuse(self, kind: tuple[str, ...]) -> None:
        """Never again."""
        self._refused.add(kind)


def apart(found: Sequence[Tensor], exact: Sequence[Tensor | None]) -> Tensor:
    """How far one task's gradients are from those of autograd, in units of what rounding explains.

    Args:
        found: the gradients.
        exact: those of autograd; None for a gradient of 0.
    """
    size = torch.stack([mine.norm() for mine in found]).norm()
    pairs = zip(found, exact, strict=True)
    off = torch.stack([(g if e is None else g - e).norm() for g, e in pairs]).norm()
    # Gradients that are not finite say nothing; they are told of elsewhere.
    return torch.nan_to_num(off / size / _SAME[off.dtype])


def chain_below(edge: Edge, dtype: torch.dtype) -> Chain | None:
    """The chain below an edge; None where it has no Linear layer."""
    if dtype not in _SAME:
        return None
    node, output = edge
    links: list[Link] = []
    leaves: list[Tensor] = []
    names: list[str] = []
    # As far as the last Linear layer.
    good = 0
    below: Edge = edge
    while node is not None and output == 0:
        name = type(node).__name__
        rule = _RULES.get(name)
        found = None if rule is None else rule(node)
        if found is None:
            break
        link, (node, output) = found
        links.append(link)
        names.append(name)
        if isinstance(link, _Linear):
            if link.weight.dtype is not dtype:
                break
            names.append(str(tuple(link.weight.shape)))
            leaves += link.leaves
            good, below = len(links), (node, output)
    if not good:
        return None
    rest = None if below[0] is None else GradientEdge(*below)
    return Chain(links[:good], leaves, rest, tuple(names))


class _Linear:
    """A Linear layer, ``x @ weight.T + bias``.

    Args:
        node: of ``addmm`` or ``mm``.
        weight: its parameter ``Tensor[out, in]``.
        bias: its parameter, if it has one that is trained.
        inputs: x, ``Tensor[rows, in]``.
        turned: ``weight.T`` as the forward pass used it; None where x needs no gradient.
    """

    def __init__(
        self, weight: Tensor, bias: Tensor | None, inputs: Tensor, turned: Tensor | None
    ) -> None:
        self.weight = weight
        self.bias = bias
        self._inputs = inputs
        self._turned = turned

    @property
    def leaves(self) -> list[Tensor]:
        """Its parameters."""
        return [self.weight] if self.bias is None else [self.weight, self.bias]

    def __call__(self, gradients: Tensor, blocks: Blocks) -> Tensor:
        """The gradients of its parameters, added to ``blocks``, and those at its input."""
        rows, tasks, outside = gradients.shape
        gradients = gradients.contiguous()
        # [rows, K * out].T @ [rows, in]: one product for all tasks, in the order in which it is wanted.
        of_weight = torch.mm(gradients.view(rows, tasks * outside).t(), self._inputs)
        _add(blocks, self.weight, of_weight.view(tasks, outside, -1))
        if self.bias is not None:
            _add(blocks, self.bias, gradients.sum(0))
        if self._turned is None:
            return gradients
        further = torch.mm(gradients.view(rows * tasks, outside), self._turned.t())
        return further.view(rows, tasks, -1)


def _add(blocks: Blocks, leaf: Tensor, found: Tensor) -> None:
    blocks[leaf] = blocks[leaf] + found if leaf in blocks else found


def _addmm(node: Any) -> tuple[_Linear, Edge] | None:
    (bias, _), (x, x_output), (weight, _) = node.next_functions
    if node._saved_alpha != 1 or node._saved_beta != 1:
        return None
    trained = None if bias is None else leaf_of(bias)
    if bias is not None and (trained is None or trained.ndim != 1):
        return None
    return _linear(trained, weight, node._saved_mat1, x and node._saved_mat2, (x, x_output))


def _mm(node: Any) -> tuple[_Linear, Edge] | None:
    (x, x_output), (weight, _) = node.next_functions
    return _linear(None, weight, node._saved_self, x and node._saved_mat2, (x, x_output))


def _linear(
    bias: Tensor | None, turned: Any, inputs: Tensor, matrix: Tensor | None, further: Edge
) -> tuple[_Linear, Edge] | None:
    if type(turned).__name__ != "TBackward0":
        return None
    weight = leaf_of(turned.next_functions[0][0])
    if weight is None or inputs.dtype is not weight.dtype:
        return None
    return _Linear(weight, bias, inputs.detach(), matrix), further


def _entrywise(link: Callable[[Any], Link]) -> Callable[[Any], tuple[Link, Edge]]:
    """A rule for a function of single entries: its link, given the node."""
    return lambda node: (link(node), node.next_functions[0])


def _beside_tasks(saved: Tensor) -> Tensor:
    """What a forward pass kept, to be used with the gradients of all tasks."""
    return saved.detach().unsqueeze(-2)


def _relu(node: Any) -> Link:
    result = _beside_tasks(node._saved_result)
    return lambda g, _: torch.ops.aten.threshold_backward(g, result, 0)


def _tanh(node: Any) -> Link:
    result = _beside_tasks(node._saved_result)
    return lambda g, _: torch.ops.aten.tanh_backward(g, result)


def _sigmoid(node: Any) -> Link:
    result = _beside_tasks(node._saved_result)
    return lambda g, _: torch.ops.aten.sigmoid_backward(g, result)


def _gelu(node: Any) -> Link:
    given, form = _beside_tasks(node._saved_self), node._saved_approximate
    return lambda g, _: torch.ops.aten.gelu_backward(g, given.expand_as(g), approximate=form)


def _silu(node: Any) -> Link:
    given = _beside_tasks(node._saved_self)
    return lambda g, _: torch.ops.aten.silu_backward(g, given)


def _leaky_relu(node: Any) -> Link:
    given, slope = _beside_tasks(node._saved_self), node._saved_negative_slope
    return lambda g, _: torch.ops.aten.leaky_relu_backward(g, given, slope, False)


def _elu(node: Any) -> Link:
    given = _beside_tasks(node._saved_self)
    numbers = node._saved_alpha, node._saved_scale, node._saved_input_scale
    return lambda g, _: torch.ops.aten.elu_backward(g, *numbers, False, given)


def _softplus(node: Any) -> Link:
    given, beta, threshold = (
        _beside_tasks(node._saved_self),
        node._saved_beta,
        node._saved_threshold,
    )
    return lambda g, _: torch.ops.aten.softplus_backward(g, given, beta, threshold)


def _times(node: Any) -> tuple[Link, Edge] | None:
    """A product with something that needs no gradient, such as the mask of dropout."""
    (x, x_output), (other, _) = node.next_functions
    factor = node._saved_other
    if x is None or other is not None or not isinstance(factor, Tensor):
        return None
    if list(factor.shape) != list(x._input_metadata[x_output].shape):
        return None
    beside = _beside_tasks(factor)
    return lambda g, _: g * beside, (x, x_output)


def _view(node: Any) -> tuple[Link, Edge] | None:
    """A change of shape that leaves the last dimension alone."""
    x, x_output = node.next_functions[0]
    before, after = list(node._saved_self_sym_sizes), list(node._input_metadata[0].shape)
    if not before or not after or before[-1] != after[-1]:
        return None
    return lambda g, _: g.reshape(*before[:-1], g.shape[-2], before[-1]), (x, x_output)


_RULES: dict[str, Callable[[Any], tuple[Link, Edge] | None]] = {
    "AddmmBackward0": _addmm,
    "MmBackward0": _mm,
    "ReluBackward0": _entrywise(_relu),
    "TanhBackward0": _entrywise(_tanh),
    "SigmoidBackward0": _entrywise(_sigmoid),
    "GeluBackward0": _entrywise(_gelu),
    "SiluBackward0": _entrywise(_silu),
    "LeakyReluBackward0": _entrywise(_leaky_relu),
    "EluBackward0": _entrywise(_elu),
    "SoftplusBackward0": _entrywise(_softplus),
    "MulBackward0": _times,
    "ViewBackward0": _view,
    "UnsafeViewBackward0": _view,
}
