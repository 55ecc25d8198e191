"""Lightning trains as the plain loop does, logs, and resumes bit for bit."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from two_tasks import TASKS, Batch, Net, batches, losses_of, net, plain_loop, same

from equipoise import Balancer, Monitor

pl = pytest.importorskip("lightning.pytorch")
from equipoise.adapters.lightning import BalancerCallback  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")
METHODS = ["uw_so", "dwa", "famo", "cagrad", "uw"]


class Lit(pl.LightningModule):  # type: ignore[misc,name-defined]
    def __init__(self, balancer: Balancer, inside: bool) -> None:
        super().__init__()
        self.net = net()
        self.held = [balancer]
        if inside:
            self.balancer = balancer

    def losses(self, batch: Any) -> dict[str, torch.Tensor]:
        return losses_of(self.net(batch["x"]), batch)

    def training_step(self, batch: Any) -> torch.Tensor:
        return self.held[0](self.losses(batch))

    def validation_step(self, batch: Any) -> None:
        self.log("validation", self.held[0](self.losses(batch)))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=0.05)


class Remembering:
    """A loader that goes on within an epoch where a checkpoint was; Lightning's own begins it again."""

    def __init__(self) -> None:
        self.at = 0

    def __len__(self) -> int:
        return len(batches())

    def __iter__(self) -> Iterator[Batch]:
        begin, self.at = self.at % len(self), 0
        for number in range(begin, len(self)):
            self.at = number + 1
            yield batches()[number]

    def state_dict(self) -> dict[str, int]:
        return {"at": self.at}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.at = state["at"]


def fit(
    balancer: Balancer,
    folder: Path,
    inside: bool = False,
    epochs: int = 3,
    callbacks: Any = (),
    resume: str | None = None,
    monitor: Monitor | None = None,
    **options: Any,
) -> Lit:
    module = Lit(balancer, inside)
    mine = BalancerCallback(
        None if inside else balancer,
        monitor=monitor,
        losses=lambda module, batch: module.losses(batch),
        **({} if inside else {"lr": 0.05}),
    )
    options = {"logger": False, "enable_checkpointing": bool(callbacks), **options}
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        callbacks=[mine, *callbacks],
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        **options,
    )
    validation = torch.utils.data.DataLoader(batches(), batch_size=None)
    trainer.fit(module, Remembering(), val_dataloaders=validation, ckpt_path=resume)
    return module


def plainly(method: str, accumulate: int = 1, epochs: int = 3) -> tuple[Net, Balancer]:
    model, balancer = net(), Balancer(method, TASKS)
    groups = [{"params": list(model.parameters())}, *balancer.param_groups(lr=0.05)]
    plain_loop(model, balancer, torch.optim.Adam(groups, lr=0.05), [batches()] * epochs, accumulate)
    return model, balancer


@pytest.mark.parametrize("inside", [True, False], ids=["inside", "beside"])
@pytest.mark.parametrize("method", METHODS)
def test_training_equals_the_plain_loop(method: str, inside: bool, tmp_path: Path) -> None:
    balancer = Balancer(method, TASKS)
    module = fit(balancer, tmp_path, inside)
    model, other = plainly(method)
    assert same(module.net, model)
    assert same(balancer, other)


@pytest.mark.parametrize("method", ["cagrad", "famo"])
def test_accumulation_and_bfloat16_go_on(method: str, tmp_path: Path) -> None:
    module = fit(Balancer(method, TASKS), tmp_path, accumulate_grad_batches=2)
    assert same(module.net, plainly(method, accumulate=2)[0])
    module = fit(Balancer(method, TASKS), tmp_path, precision="bf16-mixed")
    assert not same(module.net, plainly(method)[0])
    assert all(p.isfinite().all() for p in module.parameters())


@pytest.mark.parametrize(
    "every", [4, 6, 8], ids=["in an epoch", "at its last step", "in the second"]
)
@pytest.mark.parametrize("inside", [True, False], ids=["inside", "beside"])
@pytest.mark.parametrize("method", ["dwa", "famo", "uw"])
def test_resuming_is_bit_identical(method: str, inside: bool, every: int, tmp_path: Path) -> None:
    keep = pl.callbacks.ModelCheckpoint(
        tmp_path, every_n_train_steps=every, save_top_k=-1, filename="{step}"
    )
    whole = Balancer(method, TASKS)
    first = fit(whole, tmp_path, inside, callbacks=[keep])
    torch.manual_seed(99)
    resumed = Balancer(method, TASKS)
    second = fit(resumed, tmp_path, inside, resume=str(tmp_path / f"step={every}.ckpt"))
    assert same(second.net, first.net)
    assert same(resumed, whole)


def test_the_metrics_of_balancer_and_monitor_reach_the_logger(tmp_path: Path) -> None:
    balancer = Balancer("cagrad", TASKS)
    monitor = Monitor(balancer, every=1)
    logger = pl.loggers.CSVLogger(tmp_path, name="log", version="0")
    fit(balancer, tmp_path, monitor=monitor, logger=logger, log_every_n_steps=3)
    with (tmp_path / "log" / "0" / "metrics.csv").open() as file:
        lines = [line for line in csv.DictReader(file) if line.get("balance/weight/one")]
    assert [int(line["step"]) for line in lines] == [2, 5, 8, 11, 14, 17]
    assert float(lines[-1]["balance/weight/one"]) == pytest.approx(balancer.weights["one"])
    assert lines[-1]["monitor/cos_mean"]


def test_validation_changes_no_state_of_a_balancer_beside_the_module(tmp_path: Path) -> None:
    balancer = Balancer("dwa", TASKS)
    fit(balancer, tmp_path, num_sanity_val_steps=2)
    assert balancer.training
    assert same(balancer, plainly("dwa")[1])


def test_what_is_missing_is_told(tmp_path: Path) -> None:
    loader = torch.utils.data.DataLoader(batches(), batch_size=None)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = pl.Trainer(accelerator="cpu", max_epochs=1, callbacks=[BalancerCallback()], **quiet)
    with pytest.raises(ValueError, match="Lit has no balancer: give one"):
        trainer.fit(Lit(Balancer("ew"), inside=False), loader)
    trainer = pl.Trainer(accelerator="cpu", max_epochs=1, callbacks=[BalancerCallback()], **quiet)
    with pytest.raises(ValueError, match="give the callback losses="):
        trainer.fit(Lit(Balancer("famo", TASKS), inside=True), loader)


def test_learned_weights_beside_a_schedule_are_not_added_in_silence() -> None:
    class Scheduled(Lit):
        def configure_optimizers(self) -> Any:
            optimizer = super().configure_optimizers()
            return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1)]

    balancer = Balancer("uw", TASKS)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    mine = BalancerCallback(balancer)
    trainer = pl.Trainer(accelerator="cpu", max_epochs=1, callbacks=[mine], **quiet)
    with pytest.raises(ValueError, match=r"put \*balancer.param_groups\(\) into the optimiser"):
        trainer.fit(Scheduled(balancer, inside=False), torch.utils.data.DataLoader(batches(), None))
