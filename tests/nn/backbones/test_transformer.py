"""BERT and ViT: published counts, the library's own outputs, masks, folders of weights."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from counting import macs, on_meta, parameters
from torch import Tensor, nn

from equipoise.nn import architecture
from equipoise.nn.backbones import bert, vit

transformers = pytest.importorskip("transformers")
SMALL: dict[str, Any] = {"width": 12, "layers": 2, "heads": 3, "vocabulary": 20, "positions": 9}
IMAGES: dict[str, Any] = {"size": 8, "patch": 4, "width": 12, "layers": 2, "heads": 3}


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def refuse(*_: Any) -> None:
        raise AssertionError("something asks for the network")

    monkeypatch.setattr("socket.socket.connect", refuse)
    torch.manual_seed(0)
    yield


def text() -> tuple[Tensor, Tensor]:
    ids = torch.randint(1, 20, (3, 7))
    mask = torch.ones(3, 7, dtype=torch.long)
    mask[1, 4:] = 0
    mask[2, 1:] = 0
    return ids, mask


def test_bert_base_and_vit_base_have_their_published_sizes() -> None:
    network = on_meta(bert().build)
    assert parameters(network) == 109_482_240
    image = on_meta(vit().build)
    assert parameters(image) == 85_798_656
    assert parameters(image) + 768 * 1000 + 1000 == 86_567_656
    # torchvision publishes 17.564 for ViT-B/16 with its classifier.
    found = macs(image, torch.empty(1, 3, 224, 224, device="meta")) + 768 * 1000
    assert found / 1e9 == pytest.approx(17.564, abs=1e-3)


def test_bert_multiply_accumulates_by_formula() -> None:
    """Per layer: four width-square and two width-by-4-width products a token, and attention both ways."""
    tokens, width = 16, 768
    ids = torch.zeros(1, tokens, dtype=torch.long, device="meta")
    layer = tokens * 12 * width**2 + 2 * tokens**2 * width
    assert macs(on_meta(bert(layers=3).build), (ids, ids)) == 3 * layer + width**2


@pytest.mark.parametrize("read", ["tokens", "pooler"])
def test_stages_give_what_the_library_gives(read: Any) -> None:
    trunk = bert(**SMALL, read=read)
    ids, mask = text()
    whole = transformers.BertModel(
        transformers.BertConfig(
            vocab_size=20,
            hidden_size=12,
            num_hidden_layers=2,
            num_attention_heads=3,
            intermediate_size=48,
            max_position_embeddings=9,
        )
    ).eval()
    network = trunk.build().eval()
    with torch.no_grad():
        theirs = [p for n, p in whole.named_parameters() if read == "pooler" or "pooler" not in n]
        for a, b in zip(network.parameters(), theirs, strict=True):
            a.copy_(b)
        out = whole(input_ids=ids, attention_mask=mask)
        got = network((ids, mask))
    if read == "pooler":
        assert torch.allclose(got, out.pooler_output, atol=1e-6)
    else:
        there = mask.bool()
        assert torch.allclose(got[there], out.last_hidden_state[there], atol=1e-6)


def test_vit_stages_give_what_the_library_gives() -> None:
    config = transformers.ViTConfig(
        image_size=8,
        patch_size=4,
        hidden_size=12,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=48,
    )
    whole = transformers.ViTModel(config, add_pooling_layer=False).eval()
    network = vit(**IMAGES, read="tokens").build().eval()
    x = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        for a, b in zip(network.parameters(), whole.parameters(), strict=True):
            a.copy_(b)
        assert torch.allclose(network(x), whole(pixel_values=x).last_hidden_state, atol=1e-6)


@pytest.mark.parametrize("read", ["tokens", "first", "mean", "pooler"])
def test_padding_changes_nothing(read: Any) -> None:
    network = bert(**SMALL, read=read).build().eval()
    ids, mask = text()
    out = network((ids, mask))
    other = torch.where(mask.bool(), ids, (ids + 5) % 20)
    longer = torch.cat([other, torch.full((3, 2), 7)], 1)
    again = network((longer, torch.cat([mask, torch.zeros(3, 2, dtype=torch.long)], 1)))
    assert out.shape == ((3, 7, 12) if read == "tokens" else (3, 12))
    if read == "tokens":
        there = mask.bool()
        assert torch.allclose(out[there], again[:, :7][there], atol=1e-6)
    else:
        assert torch.allclose(out, again, atol=1e-6)
        lonely = network((ids[2:, :1], mask[2:, :1]))
        assert torch.allclose(out[2:], lonely, atol=1e-6)


def test_a_row_without_tokens_stays_finite() -> None:
    network = bert(**SMALL, read="mean").build()
    ids, mask = text()
    assert network((ids, torch.zeros_like(mask))).isfinite().all()


def test_types_of_tokens_are_read_where_they_are_given() -> None:
    network = bert(**SMALL).build().eval()
    ids, mask = text()
    plain = network((ids, mask))
    assert torch.equal(network((ids, mask, torch.zeros_like(ids))), plain)
    assert not torch.allclose(network((ids, mask, torch.ones_like(ids))), plain)


def test_stages_hand_on_hidden_states_and_mask_with_the_channels_of_the_trunk() -> None:
    trunk = bert(**SMALL)
    value: Any = text()
    stages = trunk.stages()
    assert trunk.channels == (12, 12, 12)
    for stage in stages[:-1]:
        value = stage(value)
        assert value[0].shape == (3, 7, 12)
        assert torch.equal(value[1], text()[1].bool())
    assert stages[-1](value).shape == (3, 12)


@pytest.mark.parametrize("read", ["first", "mean", "tokens"])
def test_vit_stages_hand_on_tokens(read: Any) -> None:
    trunk = vit(**IMAGES, read=read)
    x = torch.randn(2, 3, 8, 8)
    stages = trunk.stages()
    assert len(stages) == len(trunk.channels) == 3
    assert stages[0](x).shape == (2, 5, 12)
    assert trunk.build()(x).shape == ((2, 5, 12) if read == "tokens" else (2, 12))


def test_a_config_goes_before_sizes_and_is_left_as_it_is() -> None:
    config = transformers.BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=2)
    before = config.to_dict()
    assert bert(config=config).channels == (8, 8)
    keys = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    assert bert(config=keys).channels == (8, 8)
    assert config.to_dict() == before


def test_a_seed_tells_the_parameters_and_each_network_has_its_own() -> None:
    trunk = bert(**SMALL)
    made = []
    for _ in range(2):
        torch.manual_seed(5)
        made.append(trunk.build())
    first, second = (list(network.parameters()) for network in made)
    assert all(torch.equal(a, b) and a is not b for a, b in zip(first, second, strict=True))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    config = transformers.BertConfig(
        vocab_size=20,
        hidden_size=12,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=16,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    transformers.BertModel(config).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_weights_come_from_a_folder(folder: Path) -> None:
    whole = transformers.BertModel.from_pretrained(folder, local_files_only=True).eval()
    trunk = bert(weights=folder)
    assert trunk.channels == (12, 12, 12)
    ids, mask = text()
    with torch.no_grad():
        wanted = whole(input_ids=ids, attention_mask=mask).pooler_output
        for _ in range(2):
            assert torch.allclose(trunk.build().eval()((ids, mask)), wanted, atol=1e-6)
    whole.half().save_pretrained(folder)
    assert {p.dtype for p in trunk.build().parameters()} == {torch.float32}


def test_a_folder_without_a_model_is_refused_by_name(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"no config\.json in such a folder; nothing is downloaded"
    ):
        bert(weights="bert-base-multilingual-cased")
    with pytest.raises(ValueError, match=r"is of a 'bert' model, and a 'vit' is needed"):
        vit(weights=folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"the weights in .*model cannot be read"):
        bert(weights=folder).build()
    (folder / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config\.json"):
        bert(weights=folder)


def test_damaged_or_missing_weights_are_refused_by_name(folder: Path) -> None:
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:200])
    with pytest.raises(ValueError, match=r"the weights in .*model cannot be read"):
        bert(weights=folder).build()
    weights.write_bytes(whole)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))
    with pytest.raises(ValueError, match=r"miss encoder\.layer\.2"):
        bert(weights=folder).build()
    (folder / "config.json").write_text(json.dumps({**config, "intermediate_size": 17}))
    with pytest.raises(ValueError, match=r"the weights in .*model"):
        bert(weights=folder).build()


def test_weights_without_a_pooler_say_how_to_do_without(folder: Path) -> None:
    whole = transformers.BertModel.from_pretrained(folder, add_pooling_layer=False)
    whole.save_pretrained(folder)
    with pytest.raises(ValueError, match=r"miss pooler.*read='first' does without"):
        bert(weights=folder).build()
    assert bert(weights=folder, read="first").build()(text()).shape == (3, 12)


def test_wrong_options_are_refused() -> None:
    with pytest.raises(ValueError, match="the width 10 is no multiple of 3 heads"):
        bert(width=10, heads=3)
    with pytest.raises(ValueError, match="there is no read='last'"):
        bert(**SMALL, read="last").build()


def test_networks_over_it_learn() -> None:
    trunk = bert(**SMALL)
    network = architecture("hard_sharing", trunk, {"a": nn.Linear(12, 2), "b": nn.Linear(12, 2)})
    out = network(text())
    sum(x.square().sum() for x in out.values()).backward()
    assert all(p.grad is not None for p in network.parameters())
