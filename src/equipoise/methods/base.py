"""What every method is: a card, and maths on tensors."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

Needs = Literal["losses", "gramian", "jacobian", "batches", "bilevel"]
Heads = Literal["weighted", "unweighted"]
LeastLoss = Literal["any", "zero", "above_zero"]


@dataclass(frozen=True, kw_only=True)
class Card:
    r"""The facts about a published method, as the catalogue and the documentation show them.

    Attributes:
        id: lower snake case name, as in ``Balancer("uw_so")``.
        name: the name as the literature writes it.
        title, authors, venue, year, arxiv: the source paper; where they are left out, the first one under
            ``References:`` in the method's docstring.
        equation: the weights (or the combined gradient) in one line of LaTeX.
        heads: what the task heads get in the paper: the gradient of the weighted loss, or of the plain
            loss (only the shared parameters are balanced).
        weight_sum: what the weights sum to in the paper: ``"K"``, ``"1"`` or ``"free"``.
        degree: homogeneity of the weights: multiplying every loss (a method that needs losses) or every
            entry of the Gramian (one that needs gradients) by ``c`` multiplies the weights by
            ``c ** degree``. None where no such law holds, or where it depends on an option.
        unit_free: the combined direction keeps its direction when single tasks change their unit
            (loss and gradient of task k times ``c_k``).
        guarantee: what the paper proves about the update, in a few words; empty if nothing.
        defaults: the defaults and where they come from.
        deviations: where known public implementations differ from the paper, and what is done here.
        libmtl: name in LibMTL, or None.
        torchjd: name in TorchJD, or None.
    """

    id: str
    name: str
    title: str = ""
    authors: str = ""
    venue: str = ""
    year: int = 0
    arxiv: str | None = None
    equation: str
    heads: Heads
    weight_sum: Literal["K", "1", "free"]
    degree: float | None
    unit_free: bool
    guarantee: str = ""
    defaults: str = ""
    deviations: str = ""
    libmtl: str | None = None
    torchjd: str | None = None


# Authors, *title*, venue year, arXiv:id - as a docstring names a paper.
REFERENCE = re.compile(
    r"References: (?P<authors>[^*]+?), \*(?P<title>[^*]+)\*, (?:(?P<venue>[^,;.]+?) )?(?P<year>\d{4})"
    r"[^,;.]*(?:, arXiv:(?P<arxiv>\d{4}\.\d{4,5}))?"
)


def cited(card: Card, docstring: str) -> Card:
    """The card with the first paper under ``References:`` of the docstring, unless it names one itself.

    Raises:
        ValueError: no paper is found.
    """
    if card.title:
        return card
    found = REFERENCE.search(" ".join(docstring.split()))
    if found is None:
        raise ValueError(
            f"the card of '{card.id}' names no paper, and the docstring has no 'References:' of the form "
            "'Authors, *Title*, Venue Year, arXiv:id'"
        )
    paper = found.groupdict()
    return replace(
        card,
        authors=paper["authors"],
        title=paper["title"],
        venue=paper["venue"] or "arXiv",
        year=int(paper["year"]),
        arxiv=paper["arxiv"],
    )


class Method(nn.Module):
    """The maths of one published method, and the little state it has.

    A method sees tensors only: no parameter names, devices, graphs or training loops. State lives in
    buffers that are listed in ``state`` and created on first use by :meth:`recall`, so that a method
    need not know the number of tasks when it is built. ``state`` names, for each buffer, the dimensions
    that count tasks; :meth:`only` uses them to work on the tasks that are present in a step.
    """

    needs: ClassVar[Needs]
    routes: ClassVar[tuple[str, ...]]
    card: ClassVar[Card]
    state: ClassVar[Mapping[str, tuple[int, ...]]] = {}
    # The losses that the maths takes; an option may change it.
    least_loss: LeastLoss = "any"
    learns: ClassVar[bool] = False
    # The call between steps without which the method never gets going, such as "end_epoch()".
    awaits: str = ""
    # Whether the order in which the tasks are given is of no matter.
    symmetric: ClassVar[bool] = True
    # Whether tasks that agree are followed along their common gradient, not a rescaling of its entries.
    keeps_direction: ClassVar[bool] = True

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        # Under -OO there are no docstrings, and a card does without.
        if "card" in vars(cls) and cls.__doc__ is not None:
            cls.card = cited(cls.card, cls.__doc__)

    def __init__(self) -> None:
        super().__init__()
        for name in self.state:
            # Known as buffers from the start: a tensor assigned to any other name is not saved.
            self.register_buffer(name, None)

    def direction(self, jacobian: Tensor, losses: Tensor) -> Tensor:
        """The combined gradient of given task gradients; the state advances.

        Args:
            jacobian: ``Tensor[..., K, P]``, row k the gradient of task k.
            losses: ``Tensor[..., K]``.

        Returns:
            ``Tensor[..., P]``.
        """
        raise NotImplementedError

    def check(self, losses: Tensor) -> None:
        """Refuses losses ``Tensor[..., K]`` that the maths cannot take.

        It reads them on the host, which the maths never does; :meth:`direction` calls it first.

        Raises:
            ValueError: a loss is less than ``least_loss`` says, or not a number.
        """
        if self.least_loss == "any":
            return
        zero = self.least_loss == "zero"
        good = losses >= 0 if zero else losses > 0
        if bool(good.all()):
            return
        bad = (~good).reshape(-1, good.shape[-1]).any(0).nonzero().flatten()
        raise ValueError(
            f"{self.card.id} takes no loss {'below 0' if zero else 'of 0 or below'}, but that of task "
            f"{', '.join(map(str, bad.tolist()))} (counted from 0) is: got {losses.tolist()}; add a "
            "constant to it, or choose a method without this need"
        )

    def head_factors(self, losses: Tensor) -> Tensor | None:
        """What the heads' losses ``Tensor[K]`` are multiplied with where the method's weights are not.

        None is 1 for every task.
        """
        return None

    def begin(self, tasks: int) -> None:
        """Creates the parameters of a method that learns its weights; called once, before the first step."""

    def after_step(self, losses: Tensor) -> None:
        """Takes the losses ``Tensor[..., K]`` of the same batch after the optimiser step (FAMO)."""

    def end_epoch(self) -> None:
        """Closes an epoch (DWA)."""

    def recall(self, name: str, initial: Tensor) -> Tensor:
        """The state buffer ``name``; where it has no value yet, ``initial`` (and it is created).

        A task that was absent so far has NaN in its place, which is replaced by ``initial``.

        Raises:
            ValueError: the state was kept for another number of tasks.
        """
        kept: Tensor | None = getattr(self, name, None)
        if kept is None:
            self.register_buffer(name, initial.detach().clone())
            return initial.detach().clone()
        if kept.shape != initial.shape:
            raise ValueError(
                f"{self.card.id} keeps '{name}' of shape {tuple(kept.shape)} from earlier steps, but this "
                f"step needs {tuple(initial.shape)}; use one method object per set of tasks"
            )
        if not self._unseen:
            return kept
        return torch.where(kept.isnan(), initial.detach(), kept)

    @contextmanager
    def only(self, present: Tensor, tasks: int) -> Iterator[None]:
        """Lets the method see only some tasks; the state of the others stays as it is.

        Args:
            present: indices of the tasks present, ``Tensor[k]`` of integers.
            tasks: number of tasks K.
        """
        whole: dict[str, Tensor] = {}
        for name, dims in self.state.items():
            kept: Tensor | None = getattr(self, name, None)
            if kept is None or not dims:
                continue
            whole[name] = kept
            for dim in dims:
                kept = kept.index_select(dim, present.to(kept.device))
            setattr(self, name, kept)
        self._present = present
        try:
            yield
        finally:
            self._present = None
            for name, dims in self.state.items():
                part: Tensor | None = getattr(self, name, None)
                if part is None or not dims:
                    continue
                full = whole.get(name)
                if full is None:
                    shape = list(part.shape)
                    for dim in dims:
                        shape[dim] = tasks
                    full = part.new_full(shape, torch.nan)
                    self._unseen = True
                setattr(self, name, _put(full.clone(), part, dims, present.to(part.device)))

    _present: Tensor | None = None
    # Whether some state may have NaN in the place of a task not seen yet; looking costs time every step.
    _unseen: bool = False

    def of_present(self, parameter: Tensor) -> Tensor:
        """The entries of a learnable ``Tensor[K]`` that belong to the tasks of this step."""
        return parameter if self._present is None else parameter[self._present]

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        for name in self.state:
            if prefix + name in state_dict:
                self.register_buffer(name, torch.empty_like(state_dict[prefix + name]))
                self._unseen = self._unseen or bool(state_dict[prefix + name].isnan().any())
            else:
                self.register_buffer(name, None)
        super()._load_from_state_dict(state_dict, prefix, *args)


def _put(full: Tensor, part: Tensor, dims: tuple[int, ...], index: Tensor) -> Tensor:
    """Writes ``part`` into ``full`` at ``index`` along every one of ``dims``."""
    where: list[Any] = [slice(None)] * full.ndim
    for position, dim in enumerate(dims):
        shape = [1] * len(dims)
        shape[position] = -1
        where[dim] = index.view(shape)
    full[tuple(where)] = part
    return full


class LossMethod(Method):
    """A method that weights losses by looking at losses."""

    needs: ClassVar[Needs] = "losses"
    routes: ClassVar[tuple[str, ...]] = ("losses",)

    def weights(self, losses: Tensor) -> Tensor:
        """Loss weights ``Tensor[..., K]`` for losses ``Tensor[..., K]``.

        Constant for autograd, except in a method that learns its weights, where they carry the graph of
        its parameters.
        """
        raise NotImplementedError

    def penalty(self) -> Tensor | None:
        """What a method that learns its weights adds to each task's weighted loss, ``Tensor[K]``."""
        return None

    def direction(self, jacobian: Tensor, losses: Tensor) -> Tensor:
        """See :meth:`Method.direction`."""
        jacobian, losses = jacobian.detach(), widened(losses.detach())
        self.check(losses)
        return combine(self.weights(losses).detach(), jacobian)


class GramianMethod(Method):
    """A method that weights task gradients by looking at their inner products."""

    needs = "gramian"
    routes: ClassVar[tuple[str, ...]] = ("parameters", "features")
    reads_gramian: ClassVar[bool] = True
    # Whether the paper weights the whole model at once, or every parameter tensor by itself.
    blocks: ClassVar[Literal["model", "parameter"]] = "model"

    def weights(self, gramian: Tensor, losses: Tensor) -> Tensor:
        """Weights ``Tensor[..., K]`` of the task gradients.

        Args:
            gramian: ``Tensor[..., K, K]``, inner products of the task gradients.
            losses: ``Tensor[..., K]``.
        """
        raise NotImplementedError

    def direction(self, jacobian: Tensor, losses: Tensor) -> Tensor:
        """See :meth:`Method.direction`."""
        jacobian, losses = jacobian.detach(), losses.detach().double()
        self.check(losses)
        rows = jacobian.double()
        gramian = rows @ rows.mT
        squares = gramian.diagonal(dim1=-2, dim2=-1)
        if not bool(squares.isfinite().all()):
            bad = (~squares.isfinite()).reshape(-1, squares.shape[-1]).any(0).nonzero().flatten()
            raise ValueError(
                f"the gradients of tasks {bad.tolist()} are not finite (counted from 0)"
            )
        return combine(self.weights(gramian, losses), jacobian)


class JacobianMethod(Method):
    """A method that looks at single entries of the task gradients."""

    needs = "jacobian"
    routes: ClassVar[tuple[str, ...]] = ("parameters", "features")

    # The weights ``Tensor[..., K]`` of the last :meth:`combine`, of a method that has some: they let the
    # heads be weighted too.
    applied_weights: Tensor | None = None

    def combine(self, jacobian: Tensor, losses: Tensor) -> Tensor:
        """The combined gradient ``Tensor[..., P]`` of task gradients ``Tensor[..., K, P]``."""
        raise NotImplementedError

    def combine_features(
        self, gradients: list[Tensor], features: list[Tensor], losses: Tensor
    ) -> list[Tensor]:
        """The combined gradients at the shared features.

        Here the features are taken for parameters; a paper that treats the batch dimension in its own
        way overrides this.

        Args:
            gradients: ``Tensor[K, B, ...]`` for every feature.
            features: ``Tensor[B, ...]``.
            losses: ``Tensor[K]``.

        Returns:
            ``Tensor[B, ...]`` for every feature.
        """
        flat = [g.flatten(1) for g in gradients]
        combined = self.combine(torch.cat(flat, 1), losses)
        pieces = torch.split(combined, [f.shape[1] for f in flat])
        return [piece.view(f.shape) for piece, f in zip(pieces, features, strict=True)]

    def direction(self, jacobian: Tensor, losses: Tensor) -> Tensor:
        """See :meth:`Method.direction`."""
        jacobian, losses = jacobian.detach(), widened(losses.detach())
        self.check(losses)
        return self.combine(widened(jacobian), losses).to(jacobian.dtype)


class CrossBatchMethod(Method):
    """A method that weights task gradients by inner products across independent batches.

    The product of two noisy gradients of the same batch is biased by the noise they share; across
    batches it is not. Three batches make a step: two for the products, the third for the update.
    """

    needs = "batches"
    routes: ClassVar[tuple[str, ...]] = ("parameters",)

    def weights(self, cross_gramian: Tensor, losses: Tensor) -> Tensor:
        """Weights ``Tensor[..., K]`` of the task gradients of the third batch.

        Args:
            cross_gramian: ``Tensor[..., K, K]``, entry (i, j) the inner product of task i's gradient on
                the first batch with task j's on the second; not symmetric.
            losses: ``Tensor[..., K]``.
        """
        raise NotImplementedError

    def direction(self, jacobian: Tensor | Sequence[Tensor], losses: Tensor) -> Tensor:
        """The combined gradient ``Tensor[..., P]``; the state advances.

        Args:
            jacobian: three ``Tensor[..., K, P]``, of the two batches for the products and of the one
                for the update.
            losses: ``Tensor[..., K]``.

        Raises:
            ValueError: there are not three Jacobians.
        """
        if isinstance(jacobian, Tensor) or len(jacobian) != 3:
            got = "one" if isinstance(jacobian, Tensor) else len(jacobian)
            raise ValueError(
                f"{self.card.id} takes the Jacobians of three independent batches; got {got}"
            )
        first, second, third = (rows.detach() for rows in jacobian)
        losses = losses.detach().double()
        self.check(losses)
        cross = first.double() @ second.double().mT
        return combine(self.weights(cross, losses), third)


class BilevelMethod(LossMethod):
    """A method that learns loss weights on outer (validation) losses, a look ahead at a time.

    Attributes:
        inner_rate: learning rate of the virtual step on the inner losses.
        inner_steps: number of virtual steps.
    """

    needs = "bilevel"
    inner_rate: float
    inner_steps: int = 1

    def learn(self, cross: Tensor) -> None:
        """Moves the weights, given what they do to the outer losses.

        Args:
            cross: ``Tensor[K, K]``, inner product of the gradient of inner loss i before the virtual
                step with that of outer loss j after it.
        """
        raise NotImplementedError


class Random(Method):
    """A generator of its own for a method that draws, saved and restored with the method's state.

    Args:
        seed: where the draws start; None takes the seed of torch's default generator, so that
            ``torch.manual_seed`` governs them without their disturbing it.
    """

    def __init__(self, seed: int | None = None) -> None:
        super().__init__()
        self.generator = torch.Generator().manual_seed(
            torch.initial_seed() if seed is None else seed
        )

    def get_extra_state(self) -> Tensor:
        """The generator's state, for ``state_dict``."""
        return self.generator.get_state()

    def set_extra_state(self, state: Tensor) -> None:
        """Restores the generator."""
        self.generator.set_state(state.cpu())


def combine(weights: Tensor, jacobian: Tensor) -> Tensor:
    """The weighted sum ``Tensor[..., P]`` of task gradients ``Tensor[..., K, P]``."""
    rows = widened(jacobian)
    return (weights.to(rows).unsqueeze(-2) @ rows).squeeze(-2).to(jacobian.dtype)


def widened(tensor: Tensor) -> Tensor:
    """The tensor in float32 where it has half precision: inverses and squares overflow there."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
