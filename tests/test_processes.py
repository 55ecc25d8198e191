"""Several processes that train together are told what is not done for them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from equipoise import Balancer


@pytest.fixture
def pretended_pair(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)


@pytest.mark.usefixtures("pretended_pair")
def test_weights_of_single_processes_are_warned_of() -> None:
    p = torch.nn.Parameter(torch.ones(2))
    with pytest.warns(UserWarning, match="2 processes train together, and each finds its own"):
        Balancer("uw_o")({"a": p[0] * 2, "b": p[1] * 3})


@pytest.mark.usefixtures("pretended_pair")
def test_writing_gradients_that_nobody_averages_is_refused() -> None:
    p = torch.nn.Parameter(torch.ones(2))
    with pytest.raises(RuntimeError, match=r"use balancer\(losses\)\.backward\(\)"):
        Balancer("uw_o").backward({"a": p[0] * 2, "b": p[1] * 3})
