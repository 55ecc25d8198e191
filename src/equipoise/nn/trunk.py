"""What architectures are built from: a network as stages, made afresh as often as one is needed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from torch import nn

# ``balancer.share``: from features to a view for each task, by name or in order.
Share: TypeAlias = Callable[[Any], Mapping[str, Any] | Sequence[Any]]


@dataclass(frozen=True)
class Trunk:
    """The shared part of a network.

    Attributes:
        stages: makes fresh stages, to be applied one after the other. The first takes the inputs.
        channels: size of dimension 1 (or of the last dimension, for ``Tensor[B, F]`` and ``[B, T, F]``)
            after each stage.
    """

    stages: Callable[[], Sequence[nn.Module]]
    channels: tuple[int, ...]

    @classmethod
    def of(cls, make: Callable[[], nn.Module], features: int) -> Trunk:
        """A trunk of one stage: any module of yours.

        Args:
            make: makes a fresh one.
            features: size of what it returns.
        """
        return cls(lambda: [make()], (features,))

    @property
    def features(self) -> int:
        """Size of what the last stage returns."""
        return self.channels[-1]

    def build(self) -> nn.Sequential:
        """All stages as one module."""
        return nn.Sequential(*self.stages())
