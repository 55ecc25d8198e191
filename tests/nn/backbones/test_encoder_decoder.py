"""The translation network: published sizes, masks, decoding."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch
from counting import macs, on_meta, parameters
from torch import Tensor, nn

from equipoise.nn import TrunkAndHeads, architecture
from equipoise.nn.backbones import (
    Decoder,
    beam_search,
    encoder_decoder,
    transformer_encoder,
    translate,
)

SMALL: dict[str, Any] = {"width": 12, "feedforward": 20, "heads": 3}
SHORT: dict[str, Any] = {**SMALL, "layers": 2}


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def shared(**options: Any) -> nn.Sequential:
    return encoder_decoder(11, **{**SMALL, "layers": (2, 2), **options}).build().eval()


def texts() -> tuple[Tensor, Tensor]:
    return torch.randint(1, 11, (3, 6)), torch.randint(1, 11, (3, 5))


def by_formula(vocabulary: int, width: int, hidden: int, layers: int) -> int:
    attention, norm = 4 * (width**2 + width), 2 * width
    perceptron = 2 * width * hidden + width + hidden
    encoder = attention + perceptron + 2 * norm
    decoder = 2 * attention + perceptron + 3 * norm
    return 3 * vocabulary * width + layers * (encoder + decoder) + 2 * norm


@pytest.mark.parametrize(("layers", "millions"), [(3, 120), (6, 142), (9, 165), (12, 187)])
def test_sizes_are_those_that_xin_et_al_publish(layers: int, millions: int) -> None:
    count = parameters(on_meta(encoder_decoder(64_000, layers=(layers, layers)).build))
    assert count == by_formula(64_000, 512, 2048, layers)
    assert round(count / 1e6) == millions


def test_multiply_accumulates_by_formula() -> None:
    """Products with weights; attention to 7 source and 5 target tokens; logits."""
    d, f, s, t = 12, 20, 7, 5
    encoder = s * (4 * d * d + 2 * d * f) + 2 * s * s * d
    decoder = t * (6 * d * d + 2 * d * f) + s * 2 * d * d + 2 * t * t * d + 2 * t * s * d
    network = on_meta(encoder_decoder(11, **SMALL, layers=(2, 2)).build)
    source, prefix = (torch.ones(1, n, dtype=torch.long, device="meta") for n in (s, t))
    assert macs(network, (source, prefix)) == 2 * encoder + 2 * decoder + t * d * 11


def test_tied_tables_are_counted_once() -> None:
    counts = {tied: parameters(shared(tied=tied)) for tied in ("none", "output", "all")}
    assert counts["none"] - counts["output"] == counts["output"] - counts["all"] == 11 * 12
    network = shared(tied="all")
    assert network[0].embedding.tokens.weight is network[-1].output.weight
    trunk = encoder_decoder(11, **SMALL, tied="all")
    assert not set(trunk.build().parameters()) & set(trunk.build().parameters())


def test_no_position_sees_what_comes_after_it() -> None:
    network = shared()
    source, prefix = texts()
    out = network((source, prefix))
    for changed in range(5):
        other = prefix.clone()
        other[:, changed] = other[:, changed] % 10 + 1
        again = network((source, other))
        assert torch.allclose(again[:, :changed], out[:, :changed], atol=1e-6)
        assert not torch.allclose(again[:, changed], out[:, changed], atol=1e-4)


def test_padding_of_the_source_changes_nothing() -> None:
    network = shared()
    source, prefix = texts()
    source[1, 4:], source[2, 1:] = 0, 0
    out = network((source, prefix))
    longer = torch.cat([source, torch.zeros(3, 4, dtype=torch.long)], 1)
    assert torch.allclose(network((longer, prefix)), out, atol=1e-6)
    assert torch.allclose(network((source[2:, :1], prefix[2:]))[0], out[2], atol=1e-6)
    with torch.no_grad():
        network[0].embedding.tokens.weight[0] += 3.0
    assert torch.allclose(network((source, prefix)), out, atol=1e-6)


def test_padding_behind_the_prefix_changes_nothing_before_it() -> None:
    network = shared()
    source, prefix = texts()
    longer = torch.cat([prefix, torch.zeros(3, 3, dtype=torch.long)], 1)
    out = network((source, prefix))
    assert torch.allclose(network((source, longer))[:, :5], out, atol=1e-6)


def test_an_empty_source_stays_finite() -> None:
    _, prefix = texts()
    assert shared()((torch.zeros(3, 6, dtype=torch.long), prefix)).isfinite().all()


def test_the_order_of_source_and_prefix_matters() -> None:
    network = shared()
    source, prefix = texts()
    out = network((source, prefix))
    assert not torch.allclose(network((source.flip(1), prefix))[:, 0], out[:, 0], atol=1e-4)
    swapped = prefix[:, [1, 0, 2, 3, 4]]
    assert not torch.allclose(network((source, swapped))[:, -1], out[:, -1], atol=1e-4)


def test_steps_give_the_logits_of_the_whole_prefix() -> None:
    network = shared()
    source, prefix = texts()
    source[1, 4:] = 0
    whole = network((source, prefix))
    decoder = network[-1]
    state = decoder.begin(network[:-1]((source, prefix[:, :0])))
    for position in range(5):
        logits, state = decoder.step(prefix[:, position], state)
        assert torch.allclose(logits, whole[:, position], atol=1e-5)


def test_channels_are_those_of_the_stages() -> None:
    for project, last in ((True, 9), (False, 12)):
        trunk = encoder_decoder(11, 9, **SMALL, layers=(2, 1), project=project)
        value: Any = texts()
        for stage, channels in zip(trunk.stages(), trunk.channels, strict=True):
            value = stage((value[0], value[1].clamp_max(8)) if len(value) == 2 else value)
            assert (value if isinstance(value, Tensor) else value[0]).shape[-1] == channels
        assert trunk.features == last
    assert transformer_encoder(11, **SHORT).channels == (12, 12, 12)


def own() -> nn.Module:
    trunk = transformer_encoder(11, **SHORT)
    heads = {task: Decoder(vocabulary, **SHORT) for task, vocabulary in (("de", 7), ("fr", 9))}
    return architecture("hard_sharing", trunk, heads).eval()


def test_languages_can_have_decoders_of_their_own() -> None:
    network = own()
    source, prefix = texts()
    out = network((source, prefix.clamp_max(6)), tasks=["fr"])
    assert set(out) == {"fr"} and out["fr"].shape == (3, 5, 9)
    out["fr"].square().sum().backward()
    assert all(p.grad is not None for p in network.trunk.parameters())
    assert all(p.grad is None for p in network.heads["de"].parameters())


class Whole(nn.Module):
    """A network of which nothing but its outputs is known."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, inputs: Any, share: Any = None, tasks: Any = None) -> dict[str, Tensor]:
        return self.inner(inputs, tasks=tasks)


@pytest.mark.parametrize("beams", [1, 4])
def test_translation_step_by_step_is_that_of_the_whole_network(beams: int) -> None:
    source, _ = texts()
    source[1, 3:] = 0
    together = TrunkAndHeads(
        shared(project=False), {"de": nn.Linear(12, 8), "fr": nn.Linear(12, 8)}
    )
    for network in (own(), together):
        network.train()
        for task in ("de", "fr"):
            options = {"task": task, "start": 1, "end": 2, "length": 6, "beams": beams}
            found = translate(network, source=source, **options)
            assert torch.equal(found, translate(Whole(network), source=source, **options))
            assert network.training
            for row in range(3):
                alone = translate(network, source=source[row : row + 1, :3], **options)
                if row == 1:
                    assert torch.equal(alone[0], found[1, : alone.shape[1]])
                    assert (found[1, alone.shape[1] :] == 2).all()


def toy(logits: Tensor) -> Any:
    """A model whose next token depends on the last two: logits ``[V, V, V]``."""

    def step(tokens: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        return logits[state, tokens], tokens

    return step


def scored(logits: Tensor, start: int, sequence: tuple[int, ...], penalty: float) -> float:
    past, last, total = 0, start, 0.0
    for token in sequence:
        total += logits[past, last].log_softmax(-1)[token].item()
        past, last = last, token
    return total / ((5 + len(sequence)) / 6) ** penalty


@pytest.mark.parametrize("penalty", [0.0, 0.6, 2.0])
def test_a_wide_beam_finds_the_best_of_all_sequences(penalty: float) -> None:
    vocabulary, length, end = 4, 4, 0
    logits = 2 * torch.randn(vocabulary, vocabulary, vocabulary)
    start = torch.tensor([1, 2, 3])
    found = beam_search(
        toy(logits), torch.zeros(3, dtype=torch.long), start, end, length, 300, penalty
    )
    every = {
        (*body, *([end] if len(body) < length else []))
        for size in range(length + 1)
        for body in product(range(1, vocabulary), repeat=size)
    } | {(*body, end) for body in product(range(1, vocabulary), repeat=length - 1)}
    for row, first in enumerate(start.tolist()):
        best = max(every, key=lambda s: scored(logits, first, s, penalty))
        got = found[row].tolist()
        assert got[: len(best)] == list(best)
        assert all(token == end for token in got[len(best) :])


def test_a_single_beam_takes_the_most_probable_token_at_each_step() -> None:
    logits = torch.randn(5, 5, 5)
    logits[:, :, 0] -= 2.0
    found = beam_search(
        toy(logits), torch.zeros(4, dtype=torch.long), torch.arange(1, 5), 0, 9, beams=1
    )
    for first, row in zip(range(1, 5), found.tolist(), strict=True):
        past, last = 0, first
        for token in row:
            assert token == (logits[past, last].argmax().item() if last != 0 else 0)
            past, last = last, token


def test_it_learns_to_reverse_and_to_copy() -> None:
    """One source, two tasks that the first token of the prefix tells apart."""
    trunk = encoder_decoder(8, width=24, feedforward=48, heads=3, layers=(1, 1), dropout=0.0)
    network = TrunkAndHeads(trunk.build(), {"copy": nn.Identity(), "reverse": nn.Identity()})
    optimizer = torch.optim.Adam(network.parameters(), lr=8e-3)
    starts = {"copy": 1, "reverse": 2}

    def sources(count: int) -> Tensor:
        return torch.randint(4, 8, (count, 3))

    for _ in range(150):
        loss = torch.zeros(())
        for task, start in starts.items():
            source = sources(32)
            wanted = source if task == "copy" else source.flip(1)
            prefix = torch.cat([torch.full((32, 1), start), wanted], 1)
            goal = torch.cat([wanted, torch.full((32, 1), 3)], 1)
            out = network((source, prefix), tasks=[task])[task]
            loss = loss + nn.functional.cross_entropy(out.flatten(0, 1), goal.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    source = sources(100)
    for task, start in starts.items():
        found = translate(network, task, source, start, 3, 5)[:, :3]
        wanted = source if task == "copy" else source.flip(1)
        assert (found == wanted).all(1).float().mean() > 0.9


def test_a_seed_tells_all_and_dropout_is_off_in_evaluation() -> None:
    made = []
    for _ in range(2):
        torch.manual_seed(4)
        made.append(shared())
    both = texts()
    assert torch.equal(made[0](both), made[1](both))
    made[0].train()
    assert not torch.equal(made[0](both), made[0](both))


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="the width 10 is no multiple of 4 heads"):
        transformer_encoder(11, width=10, heads=4)
    with pytest.raises(ValueError, match="tied='all' needs one vocabulary, and there are 11"):
        encoder_decoder(11, 9, tied="all")
    with pytest.raises(ValueError, match="there is no tied='yes'"):
        encoder_decoder(11, tied="yes")
