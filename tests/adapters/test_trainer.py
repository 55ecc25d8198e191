"""The Trainer of transformers trains as the plain loop does, logs, and resumes bit for bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from two_tasks import TASKS, Net, batches, losses_of, net, plain_loop, rows, same

from equipoise import Balancer, Monitor

transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")
from equipoise.adapters.task_data import TaskBatches, TaskData  # noqa: E402
from equipoise.adapters.transformers import BalancedTrainer, TrainerMixin  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")
METHODS = ["uw_so", "dwa", "famo", "cagrad", "uw"]


class Rows(torch.utils.data.Dataset[dict[str, Tensor]]):
    def __init__(self, count: int = 24, seed: int = 1, only: str | None = None) -> None:
        self.rows = rows(count, seed)
        self.only = only

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        row = self.rows[index]
        return row if self.only is None else {"x": row["x"], "target": row[self.only]}


class InOrder(BalancedTrainer):  # type: ignore[misc]
    """Takes the examples as they come, so that a plain loop can do the same."""

    def _get_train_sampler(self, *given: Any) -> Any:
        return torch.utils.data.SequentialSampler(self.train_dataset)


def arguments(folder: Path, **options: Any) -> Any:
    defaults = {
        "per_device_train_batch_size": 4,
        "num_train_epochs": 3,
        "learning_rate": 0.05,
        "optim": "adamw_torch",  # the default is fused, and rounds otherwise
        "lr_scheduler_type": "constant",
        "max_grad_norm": 0.0,
        "remove_unused_columns": False,
        "report_to": "none",
        "save_strategy": "no",
        "logging_steps": 1,
        "use_cpu": True,
        "disable_tqdm": True,
        "label_names": TASKS,
    }
    return transformers.TrainingArguments(str(folder), **{**defaults, **options})


def trainer_of(
    balancer: Balancer, folder: Path, inside: bool = False, monitor: Any = None, **options: Any
) -> Any:
    model = net()
    if inside:
        model.balancer = balancer
    return InOrder(
        model,
        arguments(folder, **options),
        train_dataset=Rows(),
        eval_dataset=Rows(),
        balancer=None if inside else balancer,
        losses=losses_of,
        monitor=monitor,
    )


def plainly(method: str, accumulate: int = 1) -> tuple[Net, Balancer, list[dict[str, float]]]:
    model, balancer = net(), Balancer(method, TASKS)
    groups = [{"params": list(model.parameters())}, *balancer.param_groups()]
    optimizer = torch.optim.AdamW(groups, lr=0.05, weight_decay=0.0)
    told = plain_loop(model, balancer, optimizer, [batches()] * 3, accumulate)
    return model, balancer, told


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("inside", [True, False], ids=["inside", "beside"])
def test_training_equals_the_plain_loop(method: str, inside: bool, tmp_path: Path) -> None:
    balancer = Balancer(method, TASKS)
    trainer = trainer_of(balancer, tmp_path, inside)
    trainer.train()
    model, other, told = plainly(method)
    if inside:
        del trainer.model.balancer
    assert same(trainer.model, model)
    assert same(balancer, other)
    logged = [line for line in trainer.state.log_history if "loss" in line]
    assert [line["balance/weight/one"] for line in logged] == [
        each["balance/weight/one"] for each in told
    ]


@pytest.mark.parametrize("method", ["cagrad", "famo", "uw_so"])
def test_gradient_accumulation_equals_that_of_the_plain_loop(method: str, tmp_path: Path) -> None:
    trainer = trainer_of(Balancer(method, TASKS), tmp_path, gradient_accumulation_steps=2)
    trainer.train()
    assert same(trainer.model, plainly(method, accumulate=2)[0])


@pytest.mark.parametrize("method", ["cagrad", "famo"])
def test_bfloat16_of_the_trainer_goes_on(method: str, tmp_path: Path) -> None:
    trainer = trainer_of(Balancer(method, TASKS), tmp_path, bf16=True)
    trainer.train()
    assert not same(trainer.model, plainly(method)[0])
    assert all(p.isfinite().all() for p in trainer.model.parameters())


@pytest.mark.parametrize(
    "step", [4, 6, 8], ids=["in an epoch", "at its last step", "in the second"]
)
@pytest.mark.parametrize("inside", [True, False], ids=["inside", "beside"])
@pytest.mark.parametrize("method", ["dwa", "famo", "uw"])
def test_resuming_is_bit_identical(method: str, inside: bool, step: int, tmp_path: Path) -> None:
    saving = {"save_strategy": "steps", "save_steps": step}
    whole = trainer_of(Balancer(method, TASKS), tmp_path, inside, **saving)
    whole.train()
    torch.manual_seed(99)
    again = trainer_of(Balancer(method, TASKS), tmp_path, inside, **saving)
    again.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{step}"))
    assert same(again.model, whole.model)
    assert same(again.balancer, whole.balancer)


def test_a_checkpoint_without_a_balancer_is_refused(tmp_path: Path) -> None:
    saving = {"save_strategy": "steps", "save_steps": 4}
    trainer_of(Balancer("dwa", TASKS), tmp_path, **saving).train()
    (tmp_path / "checkpoint-4" / "balancer.pt").unlink()
    with pytest.raises(ValueError, match="was saved by a Trainer without a balancer"):
        trainer_of(Balancer("dwa", TASKS), tmp_path).train(
            resume_from_checkpoint=str(tmp_path / "checkpoint-4")
        )


def test_evaluation_is_the_plain_sum_and_changes_no_state(tmp_path: Path) -> None:
    balancer = Balancer("dwa", TASKS)
    trainer = trainer_of(balancer, tmp_path, eval_strategy="epoch", per_device_eval_batch_size=24)
    trainer.train()
    model, other, _ = plainly("dwa")
    assert same(balancer, other)
    (whole,) = batches(size=24)
    with torch.no_grad():
        want = float(sum(losses_of(model(whole["x"]), whole).values()))
    assert trainer.state.log_history[-2]["eval_loss"] == pytest.approx(want)


def test_what_a_monitor_saw_is_logged(tmp_path: Path) -> None:
    balancer = Balancer("ew", TASKS)
    trainer = trainer_of(balancer, tmp_path, monitor=Monitor(balancer, every=2))
    trainer.train()
    text = json.dumps(trainer.state.log_history)
    assert "monitor/cos_mean" in text and "balance/loss/two" in text


def test_weights_that_are_learned_are_not_decayed(tmp_path: Path) -> None:
    for inside in (True, False):
        trainer = trainer_of(Balancer("uw", TASKS), tmp_path, inside, weight_decay=0.3)
        trainer.create_optimizer()
        learned = set(map(id, trainer.balancer.parameters()))
        for group in trainer.optimizer.param_groups:
            if learned & set(map(id, group["params"])):
                assert group["weight_decay"] == 0.0
        given = [p for group in trainer.optimizer.param_groups for p in group["params"]]
        assert learned <= set(map(id, given)) and len(set(map(id, given))) == len(given)


class Routed(nn.Module):
    """A network that takes the task, and says the loss."""

    def __init__(self) -> None:
        super().__init__()
        self.net = net()

    def forward(self, x: Tensor, target: Tensor, task: str) -> dict[str, Tensor]:
        prediction = self.net(x)[task]
        return {"loss": (prediction - target).square().mean(), "prediction": prediction}


def several(folder: Path, method: str = "uw_so", **options: Any) -> Any:
    data = {"one": Rows(16, 1, "one"), "two": Rows(8, 2, "two")}
    sampling = options.pop("sampling", 1.0)
    return BalancedTrainer(
        Routed(),
        arguments(folder, label_names=["target"], **options),
        train_dataset=data,
        eval_dataset=data,
        balancer=Balancer(method, TASKS),
        sampling=sampling,
    )


@pytest.mark.parametrize("sampling", [1.0, 5.0, "round_robin"])
def test_tasks_with_data_of_their_own_equal_the_plain_loop(sampling: Any, tmp_path: Path) -> None:
    trainer = several(tmp_path, sampling=sampling, seed=3, eval_strategy="epoch")
    trainer.train()
    model, balancer = Routed(), Balancer("uw_so", TASKS)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05, weight_decay=0.0)
    data = TaskData({"one": Rows(16, 1, "one"), "two": Rows(8, 2, "two")})
    for epoch in range(3):
        order = TaskBatches(data.sizes, 4, sampling, seed=3, epoch=lambda epoch=epoch: epoch)
        for batch in order:
            (task,) = {data[index][0] for index in batch}
            examples = [data[index][1] for index in batch]
            x, target = (torch.stack([each[n] for each in examples]) for n in ("x", "target"))
            balancer({task: model(x, target, task)["loss"]}).backward()
            optimizer.step()
            optimizer.zero_grad()
    assert same(trainer.model, model)
    assert {"eval_one_loss", "eval_two_loss"} <= set().union(*trainer.state.log_history)


@pytest.mark.parametrize("step", [4, 6, 8])
def test_tasks_with_data_of_their_own_resume_bit_for_bit(step: int, tmp_path: Path) -> None:
    saving = {"save_strategy": "steps", "save_steps": step}
    whole = several(tmp_path, "dwa", **saving)
    whole.train()
    again = several(tmp_path, "dwa", **saving)
    again.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{step}"))
    assert same(again.model, whole.model)
    assert same(again.balancer, whole.balancer)


def test_a_loss_for_each_task_is_asked_of_its_own_batches(tmp_path: Path) -> None:
    asked: list[str] = []

    def loss(task: str) -> Any:
        def of(outputs: Any, inputs: Any) -> Tensor:
            asked.append(task)
            assert inputs["task"] == task
            return (outputs[task] - inputs["target"]).abs().mean()

        return of

    trainer = BalancedTrainer(
        net(),
        arguments(tmp_path, num_train_epochs=1),
        train_dataset={"one": Rows(16, 1, "one"), "two": Rows(8, 2, "two")},
        balancer=Balancer("ew", TASKS),
        losses={task: loss(task) for task in TASKS},
        sampling="round_robin",
    )
    trainer.train()
    assert asked == ["one", "two"] * 3


def test_what_is_missing_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Net has no balancer: give one"):
        BalancedTrainer(net(), arguments(tmp_path), train_dataset=Rows())
    with pytest.raises(ValueError, match=r"has to know all of them.*tasks=\['one'\]"):
        BalancedTrainer(
            net(), arguments(tmp_path), train_dataset={"one": Rows()}, balancer=Balancer("ew")
        )
    with pytest.raises(ValueError, match="label_smoothing_factor and compute_loss_func"):
        BalancedTrainer(
            net(), arguments(tmp_path), balancer=Balancer("ew"), compute_loss_func=losses_of
        )
    trainer = InOrder(
        net(),
        arguments(tmp_path, remove_unused_columns=True, label_names=None),
        train_dataset=Rows(),
        balancer=Balancer("ew", TASKS),
        losses=losses_of,
    )
    with pytest.raises(ValueError, match="remove_unused_columns=False"):
        trainer.train()


def test_the_mixin_goes_before_any_trainer() -> None:
    assert issubclass(BalancedTrainer, TrainerMixin)
    assert issubclass(BalancedTrainer, transformers.Trainer)
