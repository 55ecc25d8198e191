"""What the methods share that keep a number for every task and every parameter."""

from __future__ import annotations

from torch import Tensor

from equipoise.methods.base import JacobianMethod


class Tracked(JacobianMethod):
    """A method whose state is as large as the Jacobian."""

    def combine_features(
        self, gradients: list[Tensor], features: list[Tensor], losses: Tensor
    ) -> list[Tensor]:
        """Refuses: features belong to a batch, the next one has others.

        Raises:
            ValueError: always.
        """
        raise ValueError(
            f"{self.card.id} follows single entries of the task gradients over the steps, which "
            "features do not allow (every batch has its own); use route='parameters'"
        )
