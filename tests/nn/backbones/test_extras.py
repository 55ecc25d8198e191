"""What backbones need beside torch, and what they say where it is missing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest

from equipoise.nn.backbones import bert, mpnn, vit
from equipoise.nn.needs import needs
from equipoise.problems import files

ALONE = """
import sys

for name in ("numpy", "scipy", "sklearn", "transformers", "safetensors", "torch_geometric", "rdkit", "PIL"):
    sys.modules[name] = None

import torch
from equipoise.nn import backbones

torch.save(backbones.ResNet(18, 4).state_dict(), sys.argv[1])
image = torch.randn(2, 3, 32, 32)
backbones.segnet(2).build()(image)
trunk = backbones.resnet(18, 4, dilated=True, weights=sys.argv[1])
backbones.aspp_head(trunk.features, 2, width=4)(trunk.build()(image))
backbones.lenet(28).build()(torch.randn(2, 1, 28, 28))
backbones.mlp(3).build()(torch.randn(2, 3))
text = torch.ones(2, 3, dtype=torch.long)
backbones.encoder_decoder(9, width=8, feedforward=8, heads=2).build()((text, text))
"""


def test_all_but_three_work_with_torch_alone(tmp_path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", ALONE, str(tmp_path / "weights.pth")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("build", "library", "extra"),
    [
        (bert, "transformers", "text"),
        (vit, "transformers", "text"),
        (mpnn, "torch_geometric", "molecules"),
    ],
)
def test_a_missing_library_is_named_with_its_extra(
    build: Callable[[], object], library: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == library]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ImportError, match=rf'needs {library}; .*"equipoise\[{extra}\]"'):
        build()


def test_problems_have_the_same_helper() -> None:
    assert files.needs is needs
