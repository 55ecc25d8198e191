"""Models of the library ``transformers``: from sizes, or from a folder of weights, never from the network."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from equipoise.nn.needs import needs


def maker(
    model: Any,
    config: Any,
    given: Mapping[str, Any] | Any,
    weights: str | os.PathLike[str] | None,
    pooler: bool,
) -> tuple[Any, Callable[[], Any]]:
    """The configuration of a model, and what makes a fresh one.

    Args:
        model: class of the library.
        config: class of its configuration.
        given: a configuration, or its keys.
        weights: a folder, which goes before ``given``.
        pooler: whether the model has the trained layer for the first token.

    Raises:
        ValueError: the sizes do not fit each other, or the folder does not hold such a model.
    """
    if weights is not None:
        folder = Path(weights)
        known = _of_folder(config, folder)
    else:
        known = config(**given) if isinstance(given, Mapping) else copy.deepcopy(given)
    if known.hidden_size % known.num_attention_heads:
        raise ValueError(
            f"the width {known.hidden_size} is no multiple of {known.num_attention_heads} heads"
        )
    # The masks of the stages are those of torch's own attention.
    known._attn_implementation = "sdpa"

    def make() -> Any:
        if weights is None:
            return model(copy.deepcopy(known), add_pooling_layer=pooler)
        return _loaded(model, folder, pooler)

    return known, make


def _of_folder(config: Any, folder: Path) -> Any:
    if not (folder / "config.json").is_file():
        raise ValueError(
            f"weights={str(folder)!r}: there is no config.json in such a folder; nothing is downloaded: save "
            "a model there with save_pretrained"
        )
    try:
        found, _ = config.get_config_dict(folder, local_files_only=True)
    except OSError as error:
        raise ValueError(f"{folder / 'config.json'} cannot be read ({error})") from None
    if (kind := found.get("model_type", config.model_type)) != config.model_type:
        raise ValueError(
            f"{folder / 'config.json'} is of a {kind!r} model, and a {config.model_type!r} is needed"
        )
    return config.from_dict(found)


def _loaded(model: Any, folder: Path, pooler: bool) -> Any:
    damaged = needs("safetensors", "text").SafetensorError
    try:
        found, told = model.from_pretrained(
            folder,
            local_files_only=True,
            add_pooling_layer=pooler,
            attn_implementation="sdpa",
            output_loading_info=True,
        )
    except (OSError, RuntimeError, ValueError, damaged) as error:
        what = " ".join(str(error).split())
        raise ValueError(f"the weights in {folder} cannot be read ({what})") from None
    missing = sorted(told["missing_keys"])
    if missing:
        hint = "; read='first' does without a pooler" if "pooler" in missing[0] else ""
        raise ValueError(
            f"the weights in {folder} miss {missing[0]}, and {len(missing)} entries in all{hint}"
        )
    return found.to(torch.float32)
