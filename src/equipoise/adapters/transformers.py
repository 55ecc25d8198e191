"""A Trainer of transformers that balances several losses, of one data set or of several."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from equipoise.adapters.shared import (
    balancer_of,
    built,
    groups_left,
    keep_from_ddp,
    looks_again,
    metrics_of,
)
from equipoise.adapters.task_data import (
    TASK,
    LossesOf,
    Sampling,
    TaskBatches,
    TaskData,
    named_losses,
)
from equipoise.balance import Balancer
from equipoise.diagnosis import Monitor
from equipoise.nn.needs import needs

FILE = "balancer.pt"


class TrainerMixin:
    """Balances the losses of a Trainer; write it before the Trainer that it is to change.

    ::

        trainer = BalancedTrainer(
            model, args, train_dataset=data,
            balancer=Balancer("cagrad", tasks=["topic", "tone"]),
            losses=lambda outputs, inputs: {"topic": ..., "tone": ...},
        )

    Losses are means over a batch, which the Trainer divides by the number of batches that it accumulates.
    With a mapping of data sets as ``train_dataset`` every batch is of one task; its name is in the inputs as
    ``"task"`` and goes to ``forward`` where that takes it.

    Args:
        given: what the Trainer takes by position.
        balancer: None takes ``model.balancer``.
        losses: from the model's outputs and the inputs to the losses by task; or such a function to one loss
            for each task. None: ``outputs["losses"]``, or ``outputs["loss"]`` where a batch is of one task.
        monitor: is shown the losses of every training batch, and logged.
        sampling: of tasks with their own data: the temperature of the draws (1: in proportion to the sizes),
            or ``"round_robin"``.
        balancer_options: of the parameter group of weights that are learned, such as ``lr``.
        named: what the Trainer takes by name.

    Raises:
        ValueError: there is no balancer, or it lacks a task that has data, or an option would have no effect.
    """

    # The losses are means of a batch: the Trainer is to divide them by the number of batches accumulated.
    loss_is_scaled_for_ga = False

    def __init__(
        self,
        *given: Any,
        balancer: Balancer | None = None,
        losses: LossesOf | None = None,
        monitor: Monitor | None = None,
        sampling: Sampling = 1.0,
        balancer_options: Mapping[str, Any] | None = None,
        **named: Any,
    ) -> None:
        super().__init__(*given, **named)
        this: Any = self
        if this.args.label_smoothing_factor or this.compute_loss_func is not None:
            raise ValueError(
                "label_smoothing_factor and compute_loss_func have no effect here: what they do belongs into "
                "the functions of losses="
            )
        this.model_accepts_loss_kwargs = False  # as loss_is_scaled_for_ga, in versions before that
        self.balancer = balancer_of(this.model, balancer)
        self.balancer.to(this.args.device)
        keep_from_ddp(this.model, self.balancer)
        self._losses = losses
        self._monitor = monitor
        self._sampling = sampling
        self._balancer_options = dict(balancer_options or {})
        self._ended = 0
        self._last: tuple[nn.Module, dict[str, Any]] | None = None
        this.add_callback(_callback(self))
        if isinstance(this.train_dataset, Mapping):
            self._take_tasks()

    # --- losses -----------------------------------------------------------------------------------

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """The balanced loss; in evaluation the sum of the losses (times the prior)."""
        self.balancer.train(model.training)
        outputs, losses = self._forward(model, inputs)
        if model.training:
            if self._monitor is not None:
                self._monitor(losses)
            if looks_again(self.balancer):
                self._last = model, inputs
        loss = self.balancer(losses)
        if not return_outputs:
            return loss
        if isinstance(outputs, Mapping):
            outputs = {name: value for name, value in outputs.items() if name != "losses"}
        return loss, outputs

    def _forward(
        self, model: nn.Module, inputs: dict[str, Any]
    ) -> tuple[Any, Mapping[str, Tensor | None]]:
        this: Any = self
        taken = inspect.signature(this.accelerator.unwrap_model(model).forward).parameters
        if not any(each.kind is each.VAR_KEYWORD for each in taken.values()):
            outputs = model(**{name: value for name, value in inputs.items() if name in taken})
        else:
            kept = {n: v for n, v in inputs.items() if n != TASK or TASK in taken}
            outputs = model(**kept)
        try:
            return outputs, named_losses(self._losses, outputs, inputs)
        except KeyError as error:
            hint = (
                "; columns that forward() does not take and label_names does not name are removed from the "
                "data: TrainingArguments(remove_unused_columns=False) keeps them"
                if this.args.remove_unused_columns
                else ""
            )
            raise ValueError(
                f"the losses ask for {error}; the inputs are {', '.join(inputs)}{hint}"
            ) from error

    # --- data sets of the tasks -------------------------------------------------------------------

    def _take_tasks(self) -> None:
        this: Any = self
        this.train_dataset = TaskData(this.train_dataset)
        names = list(this.train_dataset.sizes)
        if not set(names) <= set(self.balancer.tasks or ()):
            raise ValueError(
                "a batch is of one task, so the balancer has to know all of them, by the names of the data "
                f"sets: Balancer(..., tasks={names})"
            )
        if isinstance(this.eval_dataset, Mapping):
            this.eval_dataset = {
                name: TaskData({name: data}) if name in names else data
                for name, data in this.eval_dataset.items()
            }
        plain = this._get_collator_with_removed_columns(this.data_collator, description="training")

        def collate(examples: list[Any]) -> Any:
            if not isinstance(examples[0], tuple):
                return plain(examples)
            return {**plain([example for _, example in examples]), TASK: examples[0][0]}

        this.data_collator = collate

    def get_train_dataloader(self) -> Any:
        """The Trainer's loader; of batches of one task each where the tasks have data of their own."""
        this: Any = self
        data = this.train_dataset
        if not isinstance(data, TaskData):
            return super().get_train_dataloader()  # type: ignore[misc]
        args = this.args
        batches = TaskBatches(
            data.sizes,
            this._train_batch_size,
            self._sampling,
            seed=args.seed if args.data_seed is None else args.data_seed,
            together=this.accelerator.num_processes,
            # The share of an epoch that is over, a whole number when the next begins.
            epoch=lambda: int(this.state.epoch or 0),
        )
        return this.accelerator.prepare(
            DataLoader(
                data,
                batch_sampler=batches,
                collate_fn=this.data_collator,
                num_workers=args.dataloader_num_workers,
                pin_memory=args.dataloader_pin_memory,
                persistent_workers=args.dataloader_persistent_workers,
            )
        )

    # --- steps and epochs -------------------------------------------------------------------------

    def step_ended(self) -> None:
        """After an optimiser step: lets the method look at the last batch again where it wants to."""
        # The Trainer empties the gradients of its model alone.
        self.balancer.zero_grad()
        if self._last is None:
            return
        (model, inputs), self._last = self._last, None
        this: Any = self
        with this.compute_loss_context_manager():
            self.balancer.after_step(lambda: self._forward(model, inputs)[1])

    def epoch_ended(self) -> None:
        """Tells the balancer that an epoch is over."""
        self.balancer.end_epoch()
        self._ended += 1

    def log(self, logs: dict[str, float], *more: Any, **named: Any) -> None:
        """The Trainer's log, with the balancer's metrics wherever it has a training loss."""
        if "loss" in logs:
            logs |= metrics_of(self.balancer, self._monitor)
        super().log(logs, *more, **named)  # type: ignore[misc]

    # --- weights that are learned -----------------------------------------------------------------

    def create_optimizer(self, *given: Any, **named: Any) -> Any:
        """The Trainer's optimiser, with the weights that the balancer learns."""
        this: Any = self
        mine = this.optimizer is None
        optimizer = super().create_optimizer(*given, **named)  # type: ignore[misc]
        if mine:
            for group in groups_left(self.balancer, [optimizer], self._balancer_options):
                optimizer.add_param_group(group)
        return optimizer

    def get_decay_parameter_names(self, model: nn.Module) -> list[str]:
        """Weight decay would pull learned weights towards their start."""
        own = {id(p) for p in self.balancer.parameters()}
        names = {name for name, p in model.named_parameters() if id(p) in own}
        decayed = super().get_decay_parameter_names(model)  # type: ignore[misc]
        return [name for name in decayed if name not in names]

    # --- checkpoints ------------------------------------------------------------------------------

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        super()._save_optimizer_and_scheduler(output_dir)  # type: ignore[misc]
        this: Any = self
        if this.args.should_save:
            state = {"balancer": self.balancer.state_dict(), "ended": self._ended}
            torch.save(state, Path(output_dir) / FILE)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)  # type: ignore[misc]
        if checkpoint is None:
            return
        file = Path(checkpoint) / FILE
        if not file.exists():
            raise ValueError(
                f"{checkpoint} has no {FILE}: it was saved by a Trainer without a balancer; begin a new run "
                "from its weights instead of resuming"
            )
        this: Any = self
        state = torch.load(file, map_location=this.args.device, weights_only=True)
        self.balancer.load_state_dict(state["balancer"])
        self._ended = state["ended"]
        # A checkpoint of an epoch's last step does not know yet that the epoch is over.
        while self._ended < int(this.state.epoch or 0):
            self.epoch_ended()


def _callback(trainer: TrainerMixin) -> Any:
    base: Any = needs("transformers", "trainer").TrainerCallback

    def on_step_end(self: Any, args: Any, state: Any, control: Any, **more: Any) -> None:
        trainer.step_ended()

    def on_epoch_end(self: Any, args: Any, state: Any, control: Any, **more: Any) -> None:
        trainer.epoch_ended()

    return type("Ends", (base,), {"on_step_end": on_step_end, "on_epoch_end": on_epoch_end})()


def __getattr__(name: str) -> Any:
    if name == "BalancedTrainer":
        needs("accelerate", "trainer")
        base = needs("transformers", "trainer").Trainer
        globals()[name] = built(name, TrainerMixin, base)
        return globals()[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
