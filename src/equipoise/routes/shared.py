"""Which parameters are shared and which belong to one task."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from equipoise.routes.features import Share
from equipoise.routes.graph import reached


@dataclass
class Found:
    """The parameters of a step.

    Attributes:
        shared: those whose task gradients are balanced.
        own: for each loss, the others it reaches.
    """

    shared: list[Tensor]
    own: list[list[Tensor]]


class SharedParameters:
    """Finds the shared parameters from the graph, or takes those the user named.

    A parameter that was shared once stays shared, so that a task's absence does not change the set.
    Those found are in the order in which the forward pass uses them, those named in the order given.

    Args:
        named: a module or parameters; None to find them.
    """

    def __init__(self, named: nn.Module | Sequence[Tensor] | None) -> None:
        self._named: list[Tensor] | None = None
        if named is not None:
            self._named = list(named.parameters() if isinstance(named, nn.Module) else named)
            if not self._named:
                raise ValueError("shared= has no parameters")
        self._seen: dict[Tensor, None] = {}
        self._checked: set[tuple[str, ...]] = set()

    def find(self, losses: Sequence[Tensor], names: Sequence[str], share: Share | None) -> Found:
        """The shared parameters of these losses.

        Raises:
            ValueError: nothing trainable is shared.
        """
        if share is not None:
            return self._below_features(losses, share)
        common, own = reached(losses)
        if self._named is not None:
            shared = [p for p in self._named if p.requires_grad]
            if not shared:
                raise ValueError("none of the shared parameters requires a gradient")
            chosen = set(shared)
            rest = [p for p in common if p not in chosen]
            own = [[p for p in of_task if p not in chosen] + rest for of_task in own]
            return Found(shared, own)
        everything = set(common).union(*own)
        self._seen.update((p, None) for p in common if isinstance(p, nn.Parameter))
        shared = [p for p in self._seen if p in everything]
        shared += [p for p in common if p not in self._seen]
        if not shared:
            if len(losses) > 1:
                raise ValueError(
                    f"no trainable parameter is reached by two of the losses {', '.join(map(repr, names))}: "
                    "nothing is shared, so there is nothing to balance. If the trunk is frozen, unfreeze it "
                    "or use a method that looks at losses only"
                )
            return Found(own[0], [[]])
        return Found(shared, [[p for p in of_task if p not in self._seen] for of_task in own])

    def _below_features(self, losses: Sequence[Tensor], share: Share) -> Found:
        trunk, heads, past = _around(losses, share)
        if past:
            raise ValueError(
                "some losses reach shared parameters past the features given to share(); share everything "
                "the heads read, or leave share() out so that all shared parameters are found"
            )
        if self._named is not None:
            if set(self._named) != set(trunk):
                raise ValueError(
                    "shared= names other parameters than those below the features given to share(); leave "
                    "one of them out"
                )
            trunk = self._named
        return Found(trunk, heads)

    def warn_of_bypass(
        self, losses: Sequence[Tensor], names: tuple[str, ...], share: Share
    ) -> None:
        """Warns, once for a set of tasks, of losses that reach the trunk past the features."""
        if names in self._checked:
            return
        self._checked.add(names)
        _, heads, past = _around(losses, share)
        if past:
            who = [name for name, own in zip(names, heads, strict=True) if past.intersection(own)]
            warnings.warn(
                f"losses ({', '.join(who or names)}) reach shared parameters past the features given to "
                "share(); that part of the gradient is not balanced. Share everything the heads read, or "
                "use route='parameters'",
                stacklevel=5,
            )


def _around(
    losses: Sequence[Tensor], share: Share
) -> tuple[list[Tensor], list[list[Tensor]], set[Tensor]]:
    """What lies below the features, what each loss reaches past them, and what of that is shared."""
    common, own = reached(share.features)
    trunk = [*common, *(leaf for of_feature in own for leaf in of_feature)]
    beside, heads = reached(losses, stop=share.node)
    past = set(beside).union(*heads).intersection(trunk).union(beside)
    return trunk, heads, {leaf for leaf in past if isinstance(leaf, nn.Parameter)}
