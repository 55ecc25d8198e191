"""Nestings of tensors: tuples, lists and mappings, and inputs of each task's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from typing import Any

import torch
from torch import Tensor


def nested(
    change: Callable[[Tensor], Tensor], value: Any, other: Callable[[Any], Any] | None = None
) -> Any:
    """The same nesting of tuples, lists and mappings, with every tensor changed.

    Args:
        change: of a tensor.
        value: the nesting.
        other: change of what is neither a tensor nor a nesting; None leaves it.
    """
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, Mapping):
        parts = {key: nested(change, part, other) for key, part in value.items()}
        return ByTask(parts) if isinstance(value, ByTask) else parts
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(nested(change, part, other) for part in value))
    if isinstance(value, list | tuple):
        return type(value)(nested(change, part, other) for part in value)
    return value if other is None else other(value)


def moved(value: Any, device: str | torch.device) -> Any:
    """The same on another device; graphs and the like are asked for ``to``."""

    def other(leaf: Any) -> Any:
        return leaf.to(device) if hasattr(leaf, "to") else leaf

    return nested(lambda tensor: tensor.to(device), value, other)


def tensors(value: Any) -> Iterator[Tensor]:
    """All tensors of a nesting."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        yield from chain.from_iterable(map(tensors, value.values()))
    elif isinstance(value, list | tuple):
        yield from chain.from_iterable(map(tensors, value))


def shapes(value: Any) -> str:
    """Types and shapes of a nesting, for messages: ``float32[64, 2]``."""
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')}{list(value.shape)}"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {shapes(part)}" for key, part in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(shapes, value)) + "]"
    return f"a {type(value).__name__}"


def told(error: BaseException) -> str:
    """An error in one line, for messages."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


class ByTask(dict[str, Any]):
    """Inputs of each task's own."""
