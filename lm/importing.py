"""Starting from a pretrained text model in Hugging Face's layout: Llama and Qwen3 families.

The text model's rows move to the ids of the text pieces; marks, headers and video codes get fresh
rows of the same size. What cannot be computed exactly is refused. Knows no trainer.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from lm.exporting import BLOCK_NAMES, LLAMA3
from lm.model import EMBEDDING_STD, INPUTS, Decoder, Sizes
from lm.vocabulary import Vocabulary


def pretrained_sizes(folder: Path, sizes: Sizes) -> Sizes:
    """Sizes of a pretrained model; `context`, `slot_embedding` and `ahead` stay as in `sizes`.

    Raises:
        FileNotFoundError: the folder holds no config.json.
        ValueError: the model is of a kind that cannot be computed exactly here.
    """
    config = _read_json(folder / "config.json")
    kind = config.get("model_type")
    _check(config, folder)
    try:
        width, heads = config["hidden_size"], config["num_attention_heads"]
        rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
        if sizes.context > config["max_position_embeddings"]:
            raise ValueError(
                f"context={sizes.context}: {folder} was made for "
                f"{config['max_position_embeddings']} positions, give no more with "
                "--model.sizes.context"
            )
        return replace(
            sizes,
            width=width,
            layers=config["num_hidden_layers"],
            heads=heads,
            kv_heads=config.get("num_key_value_heads") or heads,
            head_dim=config.get("head_dim") or (128 if kind == "qwen3" else width // heads),
            hidden=config["intermediate_size"],
            rope_theta=float(rope.get("rope_theta") or config.get("rope_theta") or 10_000.0),
            tied=bool(config.get("tie_word_embeddings", False)),
            qk_norm=kind == "qwen3",
            norm_eps=float(config.get("rms_norm_eps", 1e-6)),
            rope_scaling=[float(rope[name]) for name in LLAMA3] if _scaled(rope) else None,
        )
    except KeyError as error:
        raise ValueError(f"{folder / 'config.json'} lacks {error}: copy it again") from error


def _scaled(rope: dict[str, Any]) -> bool:
    return rope.get("rope_type", rope.get("type", "default")) == "llama3"


def _check(config: dict[str, Any], folder: Path) -> None:
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    turned = rope.get("rope_type", rope.get("type", "default"))
    wrong = {
        "model_type": config.get("model_type") not in ("llama", "qwen3"),
        "hidden_act": config.get("hidden_act", "silu") != "silu",
        "attention_bias": bool(config.get("attention_bias")),
        "mlp_bias": bool(config.get("mlp_bias")),
        "use_sliding_window": bool(config.get("use_sliding_window")),
        "quantization_config": bool(config.get("quantization_config")),
        "partial_rotary_factor": rope.get("partial_rotary_factor", 1.0) != 1.0,
    }
    for name, is_wrong in wrong.items():
        if is_wrong:
            raise ValueError(
                f"{folder}: {name}={config.get(name, rope.get(name))} is not supported: give a "
                "plain Llama or Qwen3 model with init_from"
            )
    if turned not in ("default", "llama3"):
        raise ValueError(
            f"{folder}: rope_type={turned} is not supported (default and llama3 are): give "
            "another model with init_from"
        )


@torch.no_grad()
def fill(decoder: Decoder, vocabulary: Vocabulary, folder: Path) -> None:
    """Put a pretrained model's weights into a decoder of its sizes.

    Raises:
        FileNotFoundError: the folder holds no safetensors.
        ValueError: weights are missing, or of other shapes than config.json says.
    """
    weights, config = _Weights(folder), decoder.config
    ours = dict(decoder.named_parameters())
    rows = slice(vocabulary.text_start, vocabulary.video_start)

    def put(target: Tensor, *names: str) -> None:
        parts = [weights.read(name) for name in names]
        if names[0] in _TABLES:
            parts = [part[: len(vocabulary.pieces)] for part in parts]  # some are padded
        value = torch.cat(parts)
        if value.shape != target.shape:
            raise ValueError(
                f"{folder}: {names[0]} gives {tuple(value.shape)}, {tuple(target.shape)} are "
                "wanted: weights, config.json and tokenizer are not of one model"
            )
        target.copy_(value)

    put(ours["table.weight"][rows], _TABLES[0])  # for its spread, which fresh rows share
    scale = float(ours["table.weight"][rows].std()) / EMBEDDING_STD
    for name in INPUTS:
        if name in ours:
            ours[name].mul_(scale)
    put(ours["table.weight"][rows], _TABLES[0])
    if decoder.head is not None:
        put(decoder.head.weight[rows], _TABLES[1])
    put(ours["norm.weight"], "model.norm.weight")
    for layer in range(config.layers):
        block, theirs = f"blocks.{layer}.", f"model.layers.{layer}."
        for name, their_name in BLOCK_NAMES.items():
            if block + name in ours:
                put(ours[block + name], theirs + their_name)
        qkv = [f"{theirs}self_attn.{letter}_proj.weight" for letter in "qkv"]
        put(ours[block + "attention.qkv.weight"], *qkv)
        gate_up = [f"{theirs}mlp.{part}_proj.weight" for part in ("gate", "up")]
        put(ours[block + "feed_forward.gate_up.weight"], *gate_up)


_TABLES = ("model.embed_tokens.weight", "lm_head.weight")


class _Weights:
    """Tensors of a folder by name, each read when it is wanted."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files: dict[str, Path] | None = None  # None: all are in one file
        index = folder / "model.safetensors.index.json"
        if index.is_file():
            names = _read_json(index)["weight_map"].items()
            self.files = {name: folder / Path(file).name for name, file in names}
        elif not (folder / "model.safetensors").is_file():
            raise FileNotFoundError(
                f"{folder} holds no model.safetensors: save the model as safetensors"
            )

    def read(self, name: str) -> Tensor:
        try:
            file = self.folder / "model.safetensors" if self.files is None else self.files[name]
            with safe_open(file, "pt") as tensors:
                return tensors.get_tensor(name).float()
        except (KeyError, SafetensorError) as error:
            raise ValueError(
                f"{self.folder}: {name} cannot be read ({error}): copy the folder again"
            ) from error


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: give a folder in Hugging Face's layout")
    try:
        return json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} is no JSON: copy it again") from error
