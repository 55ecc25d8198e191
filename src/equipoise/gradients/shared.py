"""Which parameters are shared and which belong to one task."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from torch import Tensor, nn

from equipoise.gradients.batched import batched
from equipoise.gradients.chain import Trust
from equipoise.gradients.graph import Entry, Reached, hides, reached
from equipoise.gradients.passes import NO_REENTRANT
from equipoise.gradients.ranks import Ranks

NAMED = "named by shared="
BY_GRAPH = "reached by two losses or more"
BY_GRADIENT = (
    "the losses meet above the heads, so the tensors were told apart by their gradients: a head's is zero "
    "for every task but its own"
)
BELOW_FEATURES = "what lies below the features given to share()"


class Found(NamedTuple):
    """The parameters of a step.

    Attributes:
        shared: those whose task gradients are balanced.
        own: for each loss, the others it reaches.
        how: in what way they were told apart.
        doubtful: whether some tensor in ``shared`` may be a head, which only gradients can tell.
        sinks: nodes through which DistributedDataParallel passed its outputs.
        half: whether something is computed in float16.
        entry: the node through which all losses reach what is shared, where they meet in one only.
    """

    shared: list[Tensor]
    own: list[list[Tensor]]
    how: str
    doubtful: bool
    sinks: list[Any]
    half: bool
    entry: Entry | None = None


class SharedParameters:
    """Finds the shared parameters from the graph, or takes those the user named.

    A parameter that was shared once stays shared, so that a task's absence does not change the set.
    Those found are in the order in which the forward pass uses them, those named in the order given. A tensor
    that is no ``nn.Parameter``, such as an input with ``requires_grad``, is never taken for shared.

    Args:
        named: a module or parameters; None to find them.

    Attributes:
        trust: in chains of layers below the heads.
    """

    def __init__(self, named: nn.Module | Sequence[Tensor] | None) -> None:
        self._named: nn.Module | list[Tensor] | None = None
        if named is not None:
            self._named = named if isinstance(named, nn.Module) else list(named)
            if not self.named:
                raise ValueError("shared= has no parameters")
        self._seen: dict[Tensor, None] = {}
        # Heads told by their gradients, and their tasks.
        self._heads: dict[Tensor, str] = {}
        self._beside: dict[tuple[str, ...], bool] = {}
        self.trust = Trust()

    @property
    def named(self) -> list[Tensor]:
        """The parameters the user named."""
        if isinstance(self._named, nn.Module):
            return list(self._named.parameters())
        return self._named or []

    def __getstate__(self) -> dict[str, Any]:
        # What was found are another network's parameters for a copy.
        return {**self.__dict__, "_seen": {}, "_heads": {}, "_beside": {}, "trust": Trust()}

    def find(
        self,
        losses: Sequence[Tensor],
        names: Sequence[str],
        *,
        whole: bool,
        instead: Mapping[Tensor, Tensor] | None = None,
    ) -> Found:
        """The shared parameters of these losses.

        Args:
            losses: scalars with a graph.
            names: of their tasks.
            whole: whether to name every parameter that was ever shared, reached in this step or not, as
                ranks have to that do not all have the same tasks.
            instead: leaves that stand for others (gathered for sharded parameters), and those others.

        Raises:
            ValueError: nothing trainable is shared.
        """
        got = reached(losses, instead=instead)
        if self._named is not None:
            shared = [p for p in self.named if p.requires_grad]
            if not shared:
                raise ValueError("none of the shared parameters requires a gradient")
            chosen = set(shared)
            rest = [p for p in got.common if p not in chosen]
            own = [[p for p in of_task if p not in chosen] + rest for of_task in got.own]
            return Found(shared, own, NAMED, False, got.sinks, got.half)
        parameters = [p for p in got.common if isinstance(p, nn.Parameter)]
        loose = [p for p in got.common if not isinstance(p, nn.Parameter)]
        # One that was shared before is reached by one loss only, beside what the others pass.
        beside = any(p in self._seen for of_task in got.own for p in of_task)
        # Losses without a parameter of their own may meet above their heads.
        joined = _headless(got.own) > 1
        if not joined:
            self._seen.update(dict.fromkeys(parameters))
        everything = set(parameters).union(*got.own)
        shared = [p for p in self._seen if whole or p in everything]
        shared += [p for p in parameters if p not in self._seen]
        if not shared:
            if len(losses) > 1:
                raise ValueError(_nothing_shared(names, bool(loose), hides(losses)))
            return Found(got.own[0], [[]], BY_GRAPH, False, got.sinks, got.half)
        own = [[p for p in of_task if p not in self._seen] + loose for of_task in got.own]
        doubtful = joined and any(p not in self._seen for p in shared)
        entry = None if doubtful or loose or beside else got.entry
        return Found(shared, own, BY_GRAPH, doubtful, got.sinks, got.half, entry)

    def told_apart(
        self, found: Found, names: Sequence[str], moved: list[list[bool]]
    ) -> tuple[Found, list[int]]:
        """Tells heads from the trunk by their gradients, where the losses meet above the heads.

        Args:
            found: what the graph told.
            names: of the tasks.
            moved: for each task, and each tensor in ``found.shared``, whether its gradient is not zero.

        Returns:
            The parameters with the heads taken out of ``shared``, and for each tensor that was in it, the
            position of the task it is the head of, or -1.

        Raises:
            ValueError: nothing is shared.
        """
        # A task without any gradient in this step (a hinge loss at 0) says nothing of what it reaches.
        telling = sum(map(any, moved)) > 1
        heads = []
        for j, tensor in enumerate(found.shared):
            movers = [k for k, row in enumerate(moved) if row[j]]
            if len(movers) > 1:
                self._seen.setdefault(tensor)
                self._heads.pop(tensor, None)
            elif movers and telling and tensor not in self._seen:
                self._heads[tensor] = names[movers[0]]
            owner = self._heads.get(tensor)
            heads.append(names.index(owner) if owner in names else -1)
        own = [list(of_task) for of_task in found.own]
        for tensor, k in zip(found.shared, heads, strict=True):
            if k >= 0:
                own[k].append(tensor)
        shared = [p for p, k in zip(found.shared, heads, strict=True) if k < 0]
        if not shared:
            raise ValueError(
                "no parameter has a gradient of two losses: nothing is shared, so there is nothing to balance"
            )
        how = BY_GRADIENT if any(k >= 0 for k in heads) else BY_GRAPH
        return found._replace(shared=shared, own=own, how=how, doubtful=False), heads

    def below(
        self, features: Sequence[Tensor], node: Any, losses: Sequence[Tensor]
    ) -> Found | None:
        """The shared parameters where the shared features were given.

        Args:
            features: the shared features.
            node: the graph node between the features and the tasks' views of them.
            losses: scalars with a graph.

        Returns:
            None where the losses meet above their heads, so that these cannot be told apart.

        Raises:
            ValueError: a loss reaches shared parameters past the features.
        """
        trunk, got, past = _around(features, node, losses)
        if past:
            raise ValueError(
                "some losses reach shared parameters past the features given to share(); share everything "
                "the heads read, or leave share() out so that all shared parameters are found"
            )
        if got.common:
            return None
        if self._named is not None:
            if set(self.named) != set(trunk):
                raise ValueError(
                    "shared= names other parameters than those below the features given to share(); leave "
                    "one of them out"
                )
            trunk = self.named
        return Found(trunk, got.own, BELOW_FEATURES, False, got.sinks, got.half)

    def half_beside(
        self,
        features: Sequence[Tensor],
        node: Any,
        losses: Sequence[Tensor],
        names: tuple[str, ...],
    ) -> bool:
        """Whether the heads compute in float16; warns of losses that reach the trunk past the features.

        Both are looked for once for a set of tasks.
        """
        if names not in self._beside:
            _, got, past = _around(features, node, losses)
            self._beside[names] = got.half
            if past:
                who = [n for n, own in zip(names, got.own, strict=True) if past.intersection(own)]
                warnings.warn(
                    f"losses ({', '.join(who or names)}) reach shared parameters past the features given to "
                    "share(); that part of the gradient is not balanced. Share everything the heads read, or "
                    "use route='parameters'",
                    stacklevel=2,
                )
        return self._beside[names]


def _around(
    features: Sequence[Tensor], node: Any, losses: Sequence[Tensor]
) -> tuple[list[Tensor], Reached, set[Tensor]]:
    """What lies below the features, what each loss reaches past them, and what of that is shared."""
    below = reached(features)
    trunk = [*below.common, *(leaf for of_feature in below.own for leaf in of_feature)]
    trunk = [leaf for leaf in trunk if isinstance(leaf, nn.Parameter)]
    got = reached(losses, stop=node)
    together = batched(got.entry, losses, node) if got.common else None
    if together is not None:
        common = [p for p in got.common if p not in together.heads]
        own = [of_task + more for of_task, more in zip(together.own, got.own, strict=True)]
        got = replace(got, common=common, own=own)
    past = set(got.common).union(*got.own).intersection(trunk)
    # What several losses reach beside the features is shared too, unless they only meet above their heads.
    if _headless(got.own) < 2:
        past.update(leaf for leaf in got.common if isinstance(leaf, nn.Parameter))
    return trunk, got, past


def _headless(own: Sequence[Sequence[Tensor]]) -> int:
    """How many losses have no parameter of their own; a number, such as a loss weight, makes no head."""
    return sum(all(p.numel() == 1 for p in of_task) for of_task in own)


def _nothing_shared(names: Sequence[str], loose: bool, hidden: bool) -> str:
    who = ", ".join(map(repr, names))
    if hidden:
        return NO_REENTRANT
    if loose:
        return (
            f"no nn.Parameter is reached by two of the losses {who}, only plain tensors with requires_grad, "
            "which are taken for inputs; if they are to be trained, name them with shared="
        )
    return (
        f"no trainable parameter is reached by two of the losses {who}: nothing is shared, so there is "
        "nothing to balance. If the trunk is frozen, unfreeze it or use a method that looks at losses only"
    )


def refuse_disagreement(found: Found, ranks: Ranks) -> None:
    """Raises where ranks would average gradients of different parameters.

    Raises:
        ValueError: they found different ones.
    """
    said = ranks.agreed([tuple(p.shape) for p in found.shared])
    if any(shapes != said[0] for shapes in said):
        counts = ", ".join(str(len(shapes)) for shapes in said)
        raise ValueError(
            f"the processes found different shared parameters ({counts} tensors), since some lack a "
            "task; name them with shared="
        )
