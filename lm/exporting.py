"""A model as a folder in Hugging Face's layout: a Qwen3 that transformers and vLLM load unchanged.

Ids stay what they are here, so prompts and answers go as ids; the tokenizer in the folder spells
text alone. Knows weights and names. Knows no stream grammar, and no codec goes along.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from data.atomic import check_writable, write_atomically
from lm.model import Decoder, DecoderConfig
from lm.pieces import NUM_BYTES, SPACE, Pieces
from lm.tasks import Model
from lm.vocabulary import Vocabulary


@dataclass(frozen=True)
class ExportedModel:
    """What an export wrote."""

    out: str
    architecture: str
    parameters: int
    num_ids: int
    first_text_id: int
    first_code_id: int

    def __str__(self) -> str:
        return (
            f"{self.out}: {self.architecture}, {self.parameters:,} parameters, {self.num_ids:,} "
            f"ids (text from {self.first_text_id}, video codes from {self.first_code_id})"
        )


def export(model: Path, out: Path) -> ExportedModel:
    """Write a language model as a folder that transformers and vLLM load as a Qwen3.

    Example: kinolex lm export --model runs/plain/model --out runs/qwen3

    Args:
        model: Folder of a model, trained with `--model.sizes.slot_embedding false`.
        out: Folder to write.
    """
    check_writable(out)
    loaded = Model.load(model)
    return export_model(loaded.decoder, loaded.vocabulary, out)


def export_model(decoder: Decoder, vocabulary: Vocabulary, out: Path) -> ExportedModel:
    """Write `config.json`, `generation_config.json`, `model.safetensors` and the tokenizer.

    Raises:
        ValueError: the model is outside Qwen3's layout.
    """
    config = decoder.config
    if config.num_slots:
        raise ValueError(
            "the model tells codes apart by their place in a block, which Qwen3 cannot: train it "
            "with --model.sizes.slot_embedding false"
        )
    ends = {
        "bos_token_id": vocabulary.special("<begin>"),
        "eos_token_id": vocabulary.special("<end>"),
        "pad_token_id": vocabulary.special("<pad>"),
    }
    if config.positions == "seconds":
        raise ValueError(
            "the model's positions are in seconds, which Qwen3 cannot follow: train it with "
            "--model.sizes.positions stream"
        )
    weights = qwen3_weights(decoder)
    out.mkdir(parents=True, exist_ok=True)
    files: dict[str, Any] = {
        "generation_config.json": {**ends, "do_sample": True},
        "config.json": {**qwen3_config(config), **ends},
    }
    if isinstance(vocabulary.pieces, Pieces):
        files["tokenizer.json"] = tokenizer_json(vocabulary, vocabulary.pieces)
        files["tokenizer_config.json"] = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": config.context,
            "clean_up_tokenization_spaces": False,
        }
    try:
        write_atomically(out / "model.safetensors", save(weights, {"format": "pt"}))
        for name, content in files.items():
            text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
            write_atomically(out / name, text.encode())
    except OSError:
        with suppress(OSError):  # where nothing could be written no folder is left either
            out.rmdir()
        raise
    return ExportedModel(
        out=str(out),
        architecture=files["config.json"]["architectures"][0],
        parameters=sum(weight.numel() for weight in weights.values()),
        num_ids=len(vocabulary),
        first_text_id=vocabulary.text_start,
        first_code_id=vocabulary.video_start,
    )


def qwen3_config(config: DecoderConfig) -> dict[str, Any]:
    """Sizes in the words of transformers' `Qwen3Config`, of releases before and after 5."""
    scaling: dict[str, Any] = {"rope_type": "default"}
    if config.rope_scaling is not None:
        scaling = {"rope_type": "llama3", **dict(zip(LLAMA3, config.rope_scaling, strict=True))}
        scaling[LLAMA3[-1]] = int(scaling[LLAMA3[-1]])
    return {
        "architectures": ["Qwen3ForCausalLM" if config.qk_norm else "LlamaForCausalLM"],
        "model_type": "qwen3" if config.qk_norm else "llama",
        "vocab_size": config.num_ids,
        "hidden_size": config.width,
        "intermediate_size": config.hidden,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_dim,
        "hidden_act": "silu",
        "max_position_embeddings": config.context,
        "rms_norm_eps": config.norm_eps,
        "rope_theta": config.rope_theta,
        "rope_parameters": {"rope_theta": config.rope_theta, **scaling},
        **({"rope_scaling": scaling} if config.rope_scaling else {}),
        "attention_bias": False,
        "attention_dropout": 0.0,
        "use_sliding_window": False,
        "tie_word_embeddings": config.tied,
        "torch_dtype": "float32",
    }


@torch.no_grad()
def qwen3_weights(decoder: Decoder) -> dict[str, Tensor]:
    """Weights by Qwen3's names: features folded into the tables, fused projections split."""
    config = decoder.config
    weights = {"model.embed_tokens.weight": decoder.input_table()}
    heads = [config.heads * config.head_dim] + [config.kv_heads * config.head_dim] * 2
    state = decoder.state_dict()
    for layer in range(config.layers):
        ours, theirs = f"blocks.{layer}.", f"model.layers.{layer}."
        for name, their_name in BLOCK_NAMES.items():
            if ours + name in state:
                weights[theirs + their_name] = state[ours + name]
        qkv = state[ours + "attention.qkv.weight"].split(heads)
        for letter, weight in zip("qkv", qkv, strict=True):
            weights[f"{theirs}self_attn.{letter}_proj.weight"] = weight
        gate, up = state[ours + "feed_forward.gate_up.weight"].chunk(2)
        weights[theirs + "mlp.gate_proj.weight"] = gate
        weights[theirs + "mlp.up_proj.weight"] = up
    weights["model.norm.weight"] = state["norm.weight"]
    if not config.tied:
        weights["lm_head.weight"] = decoder.output_table()
    return {name: weight.detach().float().cpu().clone() for name, weight in weights.items()}


LLAMA3 = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
BLOCK_NAMES = {  # of a block's weights that are the same tensor on both sides
    "attention_norm.weight": "input_layernorm.weight",
    "attention.out.weight": "self_attn.o_proj.weight",
    "attention.query_norm": "self_attn.q_norm.weight",
    "attention.key_norm": "self_attn.k_norm.weight",
    "feed_forward_norm.weight": "post_attention_layernorm.weight",
    "feed_forward.down.weight": "mlp.down_proj.weight",
}


def tokenizer_json(vocabulary: Vocabulary, pieces: Pieces) -> dict[str, Any]:
    """A `tokenizer.json` that spells any text with exactly the ids that we give it.

    Specials, headers and codes stand in its table, so that ids have names, but no text becomes
    one of them: no merge leads there, and their names hold U+2581, which text spells as bytes.
    """
    start = vocabulary.text_start
    table = {
        vocabulary.name(i)
        if start <= i < vocabulary.video_start
        else f"{SPACE}{'code ' if i >= start else ''}{vocabulary.name(i)}": i
        for i in range(len(vocabulary))
    }
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}]},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": True,
            "ignore_merges": False,
            "vocab": table,
            "merges": _merges(pieces),
        },
    }


def _merges(pieces: Pieces) -> list[tuple[str, str]]:
    """Pairs to join, the first first: SentencePiece joins whatever makes the earliest piece."""
    texts = [pieces.piece(i) for i in range(NUM_BYTES, len(pieces))]
    known = set(texts)
    return [
        (text[:cut], text[cut:])
        for text in texts
        for cut in range(1, len(text))
        if text[:cut] in known and text[cut:] in known
    ]
