"""Modules by task, copies of stages, and what stages return: a tensor, or a tuple that begins with one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from equipoise.nn.trunk import Trunk


def by_task(modules: Mapping[str, nn.Module]) -> nn.ModuleDict:
    """Modules by task.

    Raises:
        ValueError: a task has a name that torch cannot store a module under.
    """
    try:
        return nn.ModuleDict(modules)
    except KeyError as error:
        raise ValueError(
            f"torch cannot store a module under the name of a task ({error.args[0]}): a name has no dot and "
            "is not that of a method of nn.ModuleDict, such as 'keys' or 'type'; rename the task"
        ) from None


def copies(trunk: Trunk, count: int) -> list[list[nn.Module]]:
    """Several times the stages of a trunk, each with parameters of its own.

    Raises:
        ValueError: the trunk gives the same modules twice, or not one channel count a stage.
    """
    made = [list(trunk.stages()) for _ in range(count)]
    seen: set[nn.Parameter] = set()
    for stages in made:
        if len(stages) != len(trunk.channels) or not stages:
            raise ValueError(
                f"the trunk has {len(stages)} stages and {len(trunk.channels)} entries in channels; give "
                "one stage or more, and the channels after each"
            )
        mine = {p for stage in stages for p in stage.parameters()}
        if seen & mine:
            raise ValueError(
                "the trunk gives the same modules at every call, so that copies would share parameters; let "
                "stages make fresh ones, for example with copy.deepcopy"
            )
        seen |= mine
    return made


def parted(value: Any, where: str) -> tuple[Tensor, Any]:
    """The tensor in what a stage returned, and the whole where there is more than that.

    Args:
        value: a tensor, or a tuple or list that begins with one; the rest, such as a mask, is passed on.
        where: what returned it, for the message.

    Raises:
        ValueError: it is neither.
    """
    if isinstance(value, Tensor):
        return value, None
    if isinstance(value, tuple | list) and value and isinstance(value[0], Tensor):
        return value[0], value
    raise ValueError(
        f"{where} returned a {type(value).__name__}; let it return a tensor, or a tuple whose first entry is "
        "the features and whose others are passed on as they are"
    )


def rejoined(tensor: Tensor, like: Any) -> Any:
    """A tensor in the place of the one that :func:`parted` took out."""
    return tensor if like is None else (tensor, *like[1:])


def channel_dim(features: Tensor, channels: int, where: str) -> int:
    """The dimension of the channels: the last of ``[B, F]`` and ``[B, T, F]``, 1 of maps.

    Raises:
        ValueError: neither has as many entries as the trunk says.
    """
    if 2 <= features.ndim <= 3 and features.shape[-1] == channels:
        return features.ndim - 1
    if features.ndim >= 3 and features.shape[1] == channels:
        return 1
    raise ValueError(
        f"{where} returned {list(features.shape)}, of which neither dimension 1 nor the last is the "
        f"{channels} channels that the trunk names"
    )


def pooled(features: Tensor, channels: int, where: str) -> Tensor:
    """The mean over space, or over tokens, ``Tensor[B, C]``."""
    dim = channel_dim(features, channels, where)
    others = [d for d in range(1, features.ndim) if d != dim]
    return features.mean(others) if others else features
