"""A callback for Lightning. Optimisation stays automatic: ``training_step`` returns ``balancer(losses)``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

from torch.utils.hooks import RemovableHandle

from equipoise.adapters.shared import (
    balancer_of,
    built,
    groups_left,
    keep_from_ddp,
    looks_again,
    metrics_of,
    watched,
)
from equipoise.balance import Balancer
from equipoise.balance.naming import Losses
from equipoise.diagnosis import Monitor
from equipoise.nn.needs import MissingLibraryError, needs


class Hooks:
    """Logs what the balancer does, ends its epochs, trains and saves what it learns.

    ::

        class Network(LightningModule):
            def __init__(self):
                self.balancer = Balancer("dwa", tasks=["segmentation", "depth"])

            def training_step(self, batch):
                return self.balancer(self.losses(batch))

        Trainer(callbacks=[BalancerCallback()]).fit(Network(), loader)

    A balancer that is part of the module is in the module's checkpoints; one that is given here is in the
    callback's.

    Args:
        balancer: None takes ``module.balancer``.
        monitor: is shown the losses of every step before they are balanced, and logged.
        every: optimiser steps from one line in the loggers to the next; None: as the trainer logs.
        losses: from module and batch to the losses, for methods that look at them again after the step
            (FAMO).
        options: of the parameter group of weights that are learned, such as ``lr``.
    """

    def __init__(
        self,
        balancer: Balancer | None = None,
        *,
        monitor: Monitor | None = None,
        every: int | None = None,
        losses: Callable[[Any, Any], Losses] | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        if every is not None and every < 1:
            raise ValueError(f"every={every}: metrics are logged every 1 or more steps")
        self.balancer: Balancer
        self._given = balancer
        self._monitor = monitor
        self._every = every
        self._losses = losses
        self._options = options
        self._hook: RemovableHandle | None = None
        self._step = 0
        # Epochs that the balancer has been told the end of; None before this is known.
        self._ended: int | None = None

    # --- the beginning and the end ----------------------------------------------------------------

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Before the module is wrapped for several processes."""
        if stage == "fit":
            keep_from_ddp(pl_module, balancer_of(pl_module, self._given))

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """Finds the balancer, and gives what it learns to the optimiser.

        Raises:
            ValueError: there is no balancer, or the method needs what was not given.
        """
        self.balancer = balancer_of(pl_module, self._given)
        if looks_again(self.balancer) and self._losses is None:
            raise ValueError(
                f"'{self.balancer.card.id}' looks at the losses again after each step: give the callback "
                "losses=, a function from module and batch to the losses"
            )
        if self._given is not None:
            self.balancer.to(pl_module.device)
        self._add_groups(trainer)
        if self._monitor is not None:
            self._hook = watched(self.balancer, self._monitor)

    def _add_groups(self, trainer: Any) -> None:
        groups = groups_left(self.balancer, trainer.optimizers, self._options)
        if not groups:
            return
        if trainer.lr_scheduler_configs or len(trainer.optimizers) != 1:
            raise ValueError(
                f"no optimiser has the learnable weights of '{self.balancer.card.id}', and beside learning "
                "rate schedules or several optimisers the callback cannot add them: put "
                "*balancer.param_groups() into the optimiser in configure_optimizers(), or use "
                "Balancer(..., self_optimized=True)"
            )
        for group in groups:
            trainer.optimizers[0].add_param_group(group)

    def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
        """Lets go of the balancer."""
        if self._hook is not None:
            self._hook.remove()
            self._hook = None

    # --- steps and epochs -------------------------------------------------------------------------

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Notes where training begins, which a resumed run knows only here."""
        self._step = trainer.global_step
        if self._ended is None:
            self._ended = trainer.current_epoch
        # A checkpoint of an epoch's last step does not know yet that the epoch is over.
        self._end(trainer.current_epoch)

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Lets the method look again where it wants to, and logs where it is time."""
        step = trainer.global_step
        if step == self._step:
            return  # the gradients of this batch wait for those of the next
        self._step = step
        losses = self._losses
        if looks_again(self.balancer) and losses is not None:
            with trainer.strategy.precision_plugin.forward_context():
                self.balancer.after_step(lambda: losses(pl_module, batch))
        if step % (self._every or trainer.log_every_n_steps) == 0:
            # Lightning counts its own lines from 0.
            for logger in trainer.loggers:
                logger.log_metrics(metrics_of(self.balancer, self._monitor), step=step - 1)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Tells the balancer that an epoch is over."""
        self._end(trainer.current_epoch + 1)

    def _end(self, epochs: int) -> None:
        if self._ended is not None and epochs > self._ended:
            self.balancer.end_epoch()
            self._ended = epochs

    # --- evaluation: a balancer beside the module does not follow its mode -------------------------

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        """No state changes in validation."""
        if self._given is not None:
            self._given.eval()

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Goes on training."""
        if self._given is not None:
            self._given.train()

    # --- checkpoints ------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """The epochs told, and the balancer where it is no part of the module."""
        mine = {} if self._given is None else {"balancer": self._given.state_dict()}
        return {"ended": self._ended, **mine}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Goes on from there.

        Raises:
            ValueError: the checkpoint has no balancer.
        """
        self._ended = state_dict["ended"]
        if self._given is None:
            return
        if "balancer" not in state_dict:
            raise ValueError(
                "the callback of this checkpoint held no balancer, as it was part of the module; resume with "
                "BalancerCallback() and self.balancer in the module"
            )
        self._given.load_state_dict(state_dict["balancer"])


def _base() -> type:
    """Lightning's Callback, of the package that the script uses where both are there."""
    if "pytorch_lightning" in sys.modules and "lightning.pytorch" not in sys.modules:
        return needs("pytorch_lightning", "lightning").Callback  # type: ignore[no-any-return]
    try:
        return needs("lightning.pytorch", "lightning").Callback  # type: ignore[no-any-return]
    except MissingLibraryError as missing:
        try:
            return needs("pytorch_lightning", "lightning").Callback  # type: ignore[no-any-return]
        except MissingLibraryError:
            raise missing from None


def __getattr__(name: str) -> Any:
    if name == "BalancerCallback":
        globals()[name] = built(name, Hooks, _base())
        return globals()[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
