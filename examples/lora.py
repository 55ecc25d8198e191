"""LoRA fine-tuning of a transformer on two losses: a label for every word, and one for the text.

Both tasks share one set of low-rank adapters; the transformer is frozen. So the adapters are all that tasks
share, and where task gradients are taken. The model is built from a config and trained for a moment
on made-up text, in place of ``from_pretrained``. Adapters of each task's own, with nothing to balance, are
``equipoise.nn.Adapters``.

Needs ``pip install transformers``. python examples/lora.py --methods ew,uw,upgrad
"""

from __future__ import annotations

import argparse
import copy
import math
import time

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import BertConfig, BertForMaskedLM, BertModel

from equipoise import Balancer

TASKS = ("words", "text")
KINDS, TOPICS, FORMS, LENGTH = 4, 3, 2, 20
WORDS = KINDS * TOPICS * FORMS
MASK = WORDS


class LowRank(nn.Module):
    r"""A frozen linear layer with a change of low rank: W + (alpha / r) B A, where B starts at zero."""

    def __init__(self, layer: nn.Linear, rank: int, alpha: float) -> None:
        super().__init__()
        self.layer = layer.requires_grad_(False)
        self.down = nn.Parameter(
            torch.randn(rank, layer.in_features) / math.sqrt(layer.in_features)
        )
        self.up = nn.Parameter(torch.zeros(layer.out_features, rank))
        self.scale = alpha / rank

    def forward(self, x: Tensor) -> Tensor:
        """The layer's output, changed."""
        return self.layer(x) + self.scale * (x @ self.down.T @ self.up.T)


def adapt(model: nn.Module, rank: int, alpha: float = 8.0) -> None:
    """Freezes a model and puts adapters around its linear layers."""
    model.requires_grad_(False)
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.Linear) and not isinstance(module, LowRank):
                setattr(module, name, LowRank(child, rank, alpha))


class Tagger(nn.Module):
    """An adapted transformer with two heads."""

    def __init__(self, pretrained: BertModel, rank: int) -> None:
        super().__init__()
        self.transformer = copy.deepcopy(pretrained)
        adapt(self.transformer, rank)
        width = pretrained.config.hidden_size
        self.heads = nn.ModuleDict({"words": nn.Linear(width, 2), "text": nn.Linear(width, TOPICS)})

    def forward(self, words: Tensor) -> dict[str, Tensor]:
        """Logits by task: ``[B, T, 2]`` and ``[B, topics]``."""
        states = self.transformer(input_ids=words).last_hidden_state
        return {"words": self.heads["words"](states), "text": self.heads["text"](states.mean(1))}


def made_up(texts: int, seed: int) -> tuple[Tensor, dict[str, Tensor]]:
    """Texts ``[N, T]``: kinds of words mostly follow in a fixed order, and most words are on the topic.

    A text's label is its topic, a word's whether it is on that topic: neither is to be seen in one word.
    """
    g = torch.Generator().manual_seed(seed)
    topic = torch.randint(TOPICS, (texts, 1), generator=g)
    kinds = [torch.randint(KINDS, (texts,), generator=g)]
    for _ in range(LENGTH - 1):
        other = torch.randint(KINDS, (texts,), generator=g)
        follows = torch.rand(texts, generator=g) < 0.5
        kinds.append(torch.where(follows, (kinds[-1] + 1) % KINDS, other))
    kind = torch.stack(kinds, 1)
    stray = torch.randint(TOPICS, kind.shape, generator=g)
    about = torch.where(torch.rand(kind.shape, generator=g) < 0.35, topic, stray)
    form = torch.randint(FORMS, kind.shape, generator=g)
    words = (kind * TOPICS + about) * FORMS + form
    return words, {"words": (about == topic).long(), "text": topic.squeeze(1)}


def pretrained(steps: int, width: int) -> BertModel:
    """A small transformer that has learned to fill in words."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=WORDS + 1,
        hidden_size=width,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=2 * width,
        max_position_embeddings=LENGTH,
        initializer_range=width**-0.5,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    model = BertForMaskedLM(config)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for step in range(steps):
        words, _ = made_up(32, seed=1000 + step)
        hidden = torch.rand(words.shape) < 0.2
        logits = model(input_ids=words.masked_fill(hidden, MASK)).logits
        functional.cross_entropy(logits[hidden], words[hidden]).backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.bert


def losses_of(out: dict[str, Tensor], y: dict[str, Tensor]) -> dict[str, Tensor]:
    """Means over words and over texts."""
    loss = functional.cross_entropy
    return {
        "words": loss(out["words"].flatten(0, 1), y["words"].flatten()),
        "text": loss(out["text"], y["text"]),
    }


def tune(
    method: str, start: BertModel, *, seed: int, steps: int, rank: int
) -> tuple[Tagger, dict[str, float]]:
    """Trains adapters and heads; the accuracy of each task on texts that were not seen."""
    torch.manual_seed(seed)
    model = Tagger(start, rank)
    balancer = Balancer(method, TASKS, seed=seed)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam([{"params": trained}, *balancer.param_groups(lr=0.01)], lr=5e-3)
    for step in range(steps):
        words, y = made_up(32, seed=10_000 * (seed + 1) + step)
        balancer(losses_of(model(words), y)).backward()
        optimizer.step()
        optimizer.zero_grad()
    words, y = made_up(500, seed=1)
    with torch.no_grad():
        out = model(words)
    return model, {t: float((out[t].argmax(-1) == y[t]).double().mean()) for t in TASKS}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Fine-tune adapters on two losses.")
    parser.add_argument(
        "--methods", default="ew,uw,upgrad,imtl_g", help="the first is compared with"
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--pretraining", type=int, default=150, help="steps")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--rank", type=int, default=4)
    given = parser.parse_args(arguments)

    base = pretrained(given.pretraining, given.width)
    plain: list[dict[str, float]] = []
    always = []
    for method in given.methods.split(","):
        start, found = time.perf_counter(), []
        for seed in range(given.seeds):
            model, accuracy = tune(method, base, seed=seed, steps=given.steps, rank=given.rank)
            found.append(accuracy)
        if not plain:
            trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
            print(f"trained: {trained} of {sum(p.numel() for p in model.parameters())} parameters")
        shown = ", ".join(f"{t} {sum(f[t] for f in found) / len(found):.3f}" for t in TASKS)
        plain = plain or found
        wins = {t: sum(a[t] > b[t] for a, b in zip(found, plain, strict=True)) for t in TASKS}
        always += [method] * (min(wins.values()) == given.seeds)
        counts = ", ".join(f"{t} {count}" for t, count in wins.items())
        told = "" if found is plain else f"; better than the first, of {given.seeds}: {counts}"
        print(f"{method:<8} accuracy: {shown}{told}   ({time.perf_counter() - start:.0f} s)")
    print(f"better at both tasks with every seed: {', '.join(always) or 'none'}")


if __name__ == "__main__":
    main()
