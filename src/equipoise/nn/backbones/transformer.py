"""BERT and ViT, stage by stage, through the library ``transformers`` (extra ``text``)."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

from torch import Tensor, nn

from equipoise.nn.backbones.pretrained import maker
from equipoise.nn.needs import needs
from equipoise.nn.trunk import Trunk

# What the last stage returns: every token, or a vector for each example.
Read = Literal["tokens", "first", "mean", "pooler"]
# What stages hand on: hidden states ``Tensor[B, T, F]``, and which tokens are there, ``Tensor[B, T]``.
Value: TypeAlias = tuple[Tensor, Tensor]


def bert(
    width: int = 768,
    layers: int = 12,
    heads: int = 12,
    feedforward: int | None = None,
    vocabulary: int = 30522,
    positions: int = 512,
    dropout: float = 0.1,
    read: Read = "pooler",
    config: Mapping[str, Any] | Any | None = None,
    weights: str | os.PathLike[str] | None = None,
) -> Trunk:
    """BERT: the embeddings are a stage, and so is each layer.

    The inputs are ``(ids, mask)``, integers ``Tensor[B, T]`` both, or ``(ids, mask, types)`` with the type of
    each token. Stages hand on ``(hidden, mask)``; the last returns the features alone.

    Args:
        width: of hidden states.
        layers: how many.
        heads: of attention.
        feedforward: hidden size of the layers' perceptron; None: four times the width.
        vocabulary: number of tokens.
        positions: longest text.
        dropout: of attention and hidden states.
        read: what the last stage returns: ``"tokens"`` ``[B, T, F]``; ``"first"``, the hidden state of the
            first token ``[B, F]``; ``"pooler"``, the same through a trained layer; ``"mean"`` over tokens.
        config: a ``transformers.BertConfig``, or its keys, instead of the sizes above.
        weights: a folder with ``config.json`` and weights, as ``save_pretrained`` writes it, instead of
            sizes and random numbers. Nothing is downloaded.

    Raises:
        ImportError: ``transformers`` is not installed.
        ValueError: the sizes do not fit each other, or the folder does not hold the weights of a BERT.

    References:
        Devlin et al., *BERT*, NAACL 2019, arXiv:1810.04805.
    """
    library = needs("transformers", "text")
    sizes = {
        "vocab_size": vocabulary,
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": feedforward or 4 * width,
        "max_position_embeddings": positions,
        "hidden_dropout_prob": dropout,
        "attention_probs_dropout_prob": dropout,
    }
    known, make = maker(
        library.BertModel, library.BertConfig, config or sizes, weights, read == "pooler"
    )

    def stages() -> Sequence[nn.Module]:
        model = make()
        made: list[nn.Module] = [TokenEmbeddings(model.embeddings)]
        made += [MaskedLayer(layer) for layer in model.encoder.layer]
        made[-1] = nn.Sequential(made[-1], Reading(read, model.pooler))
        return made

    return Trunk(stages, (known.hidden_size,) * (known.num_hidden_layers + 1))


def vit(
    size: int = 224,
    patch: int = 16,
    width: int = 768,
    layers: int = 12,
    heads: int = 12,
    feedforward: int | None = None,
    inputs: int = 3,
    dropout: float = 0.0,
    read: Literal["tokens", "first", "mean"] = "first",
    config: Mapping[str, Any] | Any | None = None,
    weights: str | os.PathLike[str] | None = None,
) -> Trunk:
    """ViT: the patches' embeddings are a stage, and so is each layer; stages hand on ``Tensor[B, 1 + T, F]``.

    Args:
        size: height and width of the image.
        patch: height and width of a patch.
        width: of hidden states.
        layers: how many.
        heads: of attention.
        feedforward: hidden size of the layers' perceptron; None: four times the width.
        inputs: channels of the image.
        dropout: of attention and hidden states.
        read: what the last stage returns: ``"tokens"`` ``[B, 1 + T, F]``; ``"first"``, the class token's
            hidden state ``[B, F]``; ``"mean"`` over class token and patches.
        config: a ``transformers.ViTConfig``, or its keys, instead of the sizes above.
        weights: a folder with ``config.json`` and weights, as ``save_pretrained`` writes it, instead of
            sizes and random numbers. Nothing is downloaded.

    Raises:
        ImportError: ``transformers`` is not installed.
        ValueError: the sizes do not fit each other, or the folder does not hold the weights of a ViT.

    References:
        Dosovitskiy et al., *An Image is Worth 16x16 Words*, ICLR 2021, arXiv:2010.11929.
    """
    library = needs("transformers", "text")
    sizes = {
        "image_size": size,
        "patch_size": patch,
        "num_channels": inputs,
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": feedforward or 4 * width,
        "hidden_dropout_prob": dropout,
        "attention_probs_dropout_prob": dropout,
    }
    known, make = maker(library.ViTModel, library.ViTConfig, config or sizes, weights, False)

    def stages() -> Sequence[nn.Module]:
        model = make()
        # Version 5 of the library keeps the layers in another place.
        inner = model.layers if hasattr(model, "layers") else model.encoder.layer
        made: list[nn.Module] = [model.embeddings, *(Layer(layer) for layer in inner)]
        made[-1] = nn.Sequential(made[-1], model.layernorm, Reading(read))
        return made

    return Trunk(stages, (known.hidden_size,) * (known.num_hidden_layers + 1))


class TokenEmbeddings(nn.Module):
    """The first stage of a text network.

    Args:
        embeddings: of the library.
    """

    def __init__(self, embeddings: nn.Module) -> None:
        super().__init__()
        self.embeddings = embeddings

    def forward(self, inputs: tuple[Tensor, ...]) -> Value:
        """From ``(ids, mask)`` or ``(ids, mask, types)`` to the value that layers hand on."""
        ids, mask, *types = inputs
        there = mask.bool()
        # A row without any token has nothing to attend to; its own padding keeps it finite.
        there = there | ~there.any(1, keepdim=True)
        return self.embeddings(input_ids=ids, token_type_ids=types[0] if types else None), there


class MaskedLayer(nn.Module):
    """A layer of a text network.

    Args:
        layer: of the library.
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, value: Value) -> Value:
        """The value after the layer; no token attends to one that is not there."""
        hidden, there = value
        return _first(self.layer(hidden, attention_mask=there[:, None, None, :])), there


class Layer(nn.Module):
    """A layer of an image network.

    Args:
        layer: of the library.
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, hidden: Tensor) -> Tensor:
        """From ``Tensor[B, T, F]`` to the same."""
        return _first(self.layer(hidden))


class Reading(nn.Module):
    """What is read from the hidden states of the last layer.

    Args:
        read: see :func:`bert`.
        pooler: the trained layer of ``"pooler"``.
    """

    def __init__(self, read: Read, pooler: nn.Module | None = None) -> None:
        super().__init__()
        if read not in ("tokens", "first", "mean", "pooler"):
            raise ValueError(
                f"there is no read={read!r}; known: 'tokens', 'first', 'mean', 'pooler'"
            )
        self.read = read
        self.pooler = pooler if read == "pooler" else None

    def forward(self, value: Tensor | Value) -> Tensor:
        """From ``Tensor[B, T, F]``, with or without its mask, to ``Tensor[B, F]`` or ``[B, T, F]``."""
        hidden, there = (value, None) if isinstance(value, Tensor) else value
        if self.pooler is not None:
            pooled: Tensor = self.pooler(hidden)
            return pooled
        if self.read == "tokens":
            return hidden
        if self.read == "first":
            return hidden[:, 0]
        if there is None:
            return hidden.mean(1)
        weight = there.unsqueeze(-1).to(hidden.dtype)
        return (hidden * weight).sum(1) / weight.sum(1)


def _first(out: Any) -> Tensor:
    """Version 4 of the library returns tuples from layers, version 5 tensors."""
    hidden: Tensor = out if isinstance(out, Tensor) else out[0]
    return hidden
