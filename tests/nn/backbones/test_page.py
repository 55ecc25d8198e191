"""The numbers on the page of backbones are counted."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from counting import macs, on_meta, parameters

from equipoise.nn import backbones

PAGE = Path(__file__).parents[3] / "docs" / "backbones.rst"
ROW = re.compile(r"   \* - ``(.+\))``\n     - ([\d,]+)\n     - (.+)\n     - (.+)\n")
ROWS = ROW.findall(PAGE.read_text(encoding="utf-8"))
# The library that a backbone needs.
NEEDS = {"bert": "transformers", "vit": "transformers", "mpnn": "torch_geometric"}


def test_the_page_lists_the_backbones_with_a_fixed_size() -> None:
    assert len(ROWS) == 13


@pytest.mark.parametrize(("call", "count", "billions", "at"), ROWS, ids=[row[0] for row in ROWS])
def test_the_page_tells_what_is_counted(call: str, count: str, billions: str, at: str) -> None:
    name = call.partition("(")[0]
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    trunk = eval(call, vars(backbones))
    if at == "–":
        assert parameters(trunk.build()) == int(count.replace(",", ""))
        return
    network = on_meta(trunk.build)
    assert parameters(network) == int(count.replace(",", ""))
    if at.endswith("tokens"):
        ids = torch.ones(1, int(at.split()[0]), dtype=torch.long, device="meta")
        found = macs(network, (ids, ids))
    else:
        height, width = map(int, at.split(" × "))
        channels = 1 if name == "lenet" else 3
        found = macs(network, torch.empty(1, channels, height, width, device="meta"))
    assert f"{found / 1e9:.3f}" == billions
