"""What every method is: a card, and maths on tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from equipoise.methods.card import Card, Heads, LeastLoss, Needs, cited
from equipoise.methods.state import Stateful
from equipoise.solvers.base import NonFiniteError
from equipoise.solvers.products import combine as combine

__all__ = ["Card", "Heads", "Needs"]


class Method(Stateful):
    """The maths of one published method, and the little state it has.

    A method sees tensors only: no parameter names, devices, graphs or training loops. Its state is declared
    in ``state`` and read through :meth:`recall`, see :class:`Stateful`; a method need not know the number
    of tasks when it is built.
    """

    needs: ClassVar[Needs]
    routes: ClassVar[tuple[str, ...]]
    card: ClassVar[Card]
    # The losses that the maths takes; an option may change it.
    least_loss: LeastLoss = "any"
    learns: ClassVar[bool] = False
    # Whether learned weights are stepped by the balancer: they then need a gradient within a step alone, and
    # nobody else (DistributedDataParallel) has to expect one.
    self_optimized: bool = False
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

    def _called(self) -> str:
        return self.card.id


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
            raise NonFiniteError(
                f"the gradients of tasks {bad.tolist()} are not finite (counted from 0)"
            )
        return combine(self.weights(gramian, losses), jacobian, gramian)


class JacobianMethod(Method):
    """A method that looks at single entries of the task gradients."""

    needs = "jacobian"
    routes: ClassVar[tuple[str, ...]] = ("parameters", "features")

    # The weights ``Tensor[..., K]`` of the last :meth:`combine`, of a method that has some: they let the
    # heads be weighted too.
    applied_weights: Tensor | None = None
    # Whether it has loss weights all the same, so that heads can be weighted.
    tells_weights: ClassVar[bool] = False

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
    awaits = "bilevel(inner, outer)"
    inner_rate: float
    inner_steps: int = 1

    def learn(self, cross: Tensor) -> None:
        """Moves the weights, given what they do to the outer losses.

        Args:
            cross: ``Tensor[K, K]``, inner product of the gradient of inner loss i before the virtual
                step with that of outer loss j after it.
        """
        raise NotImplementedError


def widened(tensor: Tensor) -> Tensor:
    """The tensor in float32 where it has half precision: inverses and squares overflow there."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
