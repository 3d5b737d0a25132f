"""GGUF: a language model as one file for llama.cpp and what is built on it.

Names and numbers are those that llama.cpp's own converter gives a Qwen3 model with SentencePiece
text. Knows weights and ids; knows no codec: video codes are tokens like others.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import sentencepiece
from torch import Tensor

from data.atomic import atomic_path, check_writable
from lm.model import Decoder
from lm.pieces import NUM_BYTES, Pieces
from lm.vocabulary import GRAMMAR_VERSION, Vocabulary

if TYPE_CHECKING:
    import gguf

Weights = Literal["f32", "f16", "bf16", "q8_0"]
WEIGHTS: tuple[Weights, ...] = get_args(Weights)


@dataclass(frozen=True)
class GgufFile:
    """A file written for llama.cpp."""

    out: str
    weights: str
    num_tensors: int
    megabytes: float  # of 10^6 bytes


def export_gguf(model: Path, out: Path, weights: Weights = "f32") -> GgufFile:
    """Write a language model as one file that llama.cpp and what is built on it can run.

    The codec stays behind: `kinolex encode` and `kinolex decode` turn pixels into codes and back.

    Example: kinolex lm export-gguf --model runs/plain/model --out runs/model.gguf

    Args:
        model: Folder of a model trained with `--model.sizes.slot_embedding false`.
        out: The .gguf file.
        weights: Numbers that tables and maps are stored as; q8_0 takes about a byte for each.
    """
    from lm.saving import load_parts

    check_writable(out)
    decoder, vocabulary, *_ = load_parts(model)
    return write_gguf(decoder, vocabulary, out, weights)


def write_gguf(
    decoder: Decoder, vocabulary: Vocabulary, path: Path, weights: Weights = "f32"
) -> GgufFile:
    """Write a decoder and its vocabulary.

    Args:
        decoder: In Qwen3's layout; what is known of codes is folded into its tables.
        vocabulary: Its ids, in the same order as the tokens of the file.
        path: The .gguf file.
        weights: f32, f16, bf16 or q8_0, for all but norms. Rows that cannot be cut into the 32
            numbers that share a scale in q8_0 become f16, as in llama.cpp's converter.

    Raises:
        ValueError: other weights, a decoder outside Qwen3's layout, or no package `gguf`.
    """
    gguf = _import_gguf()
    if weights not in WEIGHTS:
        raise ValueError(f"weights={weights!r}: give one of {', '.join(WEIGHTS)}")
    check_layout(decoder)
    kind = gguf.GGMLQuantizationType[weights.upper()]
    count = 0
    with atomic_path(path) as partial:
        writer = gguf.GGUFWriter(partial, "qwen3")
        _write_facts(writer, decoder, vocabulary, weights)
        _write_tokens(writer, vocabulary)
        for name, tensor in tensors(decoder):
            stored = gguf.GGMLQuantizationType.F32 if tensor.ndim == 1 else kind
            if stored.name == "Q8_0" and tensor.shape[-1] % 32:
                stored = gguf.GGMLQuantizationType.F16
            values = gguf.quantize(np.ascontiguousarray(tensor.numpy()), stored)
            writer.add_tensor(name, values, raw_dtype=stored)
            count += 1
        try:
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()
        except OSError as error:
            if error.errno is not None:
                raise
            # NumPy tells only how little of an array it could write
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
        finally:
            writer.close()
    return GgufFile(str(path), weights, count, round(path.stat().st_size / 1e6, 3))


def check_layout(decoder: Decoder) -> None:
    """Raise ValueError if there is something in the decoder that Qwen3 has no place for."""
    if decoder.config.num_slots:
        raise ValueError(
            "the model tells codes apart by their place in the block, for which Qwen3's layout has "
            "no room: train it with --model.sizes.slot_embedding false"
        )
    config = decoder.config
    if config.positions == "seconds":
        raise ValueError(
            "the model's positions are in seconds, for which Qwen3's layout has no room: train it "
            "with --model.sizes.positions stream"
        )
    if not config.qk_norm or config.rope_scaling is not None:
        odd = "no qk_norm" if not config.qk_norm else f"rope_scaling={config.rope_scaling}"
        raise ValueError(
            f"a model with {odd} is no Qwen3: write it with `kinolex lm export`, and that folder "
            "with llama.cpp's own converter"
        )


def tensors(decoder: Decoder) -> Iterator[tuple[str, Tensor]]:
    """Names that GGUF gives a Qwen3 model's weights, and these in float32 on the CPU."""
    config, state = decoder.config, decoder.state_dict()

    def plain(tensor: Tensor) -> Tensor:
        return tensor.detach().float().cpu()

    yield "token_embd.weight", plain(decoder.input_table())
    if not config.tied:
        yield "output.weight", plain(decoder.output_table())
    yield "output_norm.weight", plain(state["norm.weight"])
    heads = [config.heads * config.head_dim, *[config.kv_heads * config.head_dim] * 2]
    for layer in range(config.layers):
        ours, theirs = f"blocks.{layer}.", f"blk.{layer}."
        qkv = state[ours + "attention.qkv.weight"].split(heads)
        for letter, part in zip("qkv", qkv, strict=True):
            yield f"{theirs}attn_{letter}.weight", plain(part)
        gate, up = state[ours + "feed_forward.gate_up.weight"].chunk(2)
        yield f"{theirs}ffn_gate.weight", plain(gate)
        yield f"{theirs}ffn_up.weight", plain(up)
        for name, own_name in _SAME.items():
            yield theirs + name, plain(state[ours + own_name])


_SAME = {
    "attn_norm.weight": "attention_norm.weight",
    "attn_q_norm.weight": "attention.query_norm",
    "attn_k_norm.weight": "attention.key_norm",
    "attn_output.weight": "attention.out.weight",
    "ffn_norm.weight": "feed_forward_norm.weight",
    "ffn_down.weight": "feed_forward.down.weight",
}


def _write_facts(
    writer: gguf.GGUFWriter, decoder: Decoder, vocabulary: Vocabulary, weights: Weights
) -> None:
    gguf, config = _import_gguf(), decoder.config
    kind = {"f32": "ALL_F32"}.get(weights, f"MOSTLY_{weights.upper()}")
    writer.add_type("model")
    writer.add_name("Kinolex")
    writer.add_file_type(gguf.LlamaFileType[kind])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_vocab_size(config.num_ids)
    writer.add_context_length(config.context)
    writer.add_embedding_length(config.width)
    writer.add_block_count(config.layers)
    writer.add_feed_forward_length(config.hidden)
    writer.add_head_count(config.heads)
    writer.add_head_count_kv(config.kv_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_rope_freq_base(config.rope_theta)
    writer.add_layer_norm_rms_eps(config.norm_eps)
    writer.add_uint32("kinolex.grammar", GRAMMAR_VERSION)
    writer.add_string("kinolex.codec_id", vocabulary.codec_id)
    writer.add_uint32("kinolex.text_start", vocabulary.text_start)
    writer.add_uint32("kinolex.video_start", vocabulary.video_start)


def _write_tokens(writer: gguf.GGUFWriter, vocabulary: Vocabulary) -> None:
    """Texts, scores and types of all ids.

    All but text pieces are control tokens, which llama.cpp finds in no text unless it is told to.
    Yet its merging of pieces looks at the spelling of every token: a line break, which no piece
    has (they are learned line by line), keeps text from ever being merged into one of these.
    """
    gguf = _import_gguf()
    if not isinstance(vocabulary.pieces, Pieces):
        raise ValueError(
            "a model that kept a pretrained model's vocabulary: write it with `kinolex lm export`, "
            "and that folder with llama.cpp's own converter"
        )
    model = sentencepiece.SentencePieceProcessor(  # type: ignore[call-arg]
        model_proto=vocabulary.pieces.proto
    )
    ids = range(1, len(vocabulary.pieces) + 1)  # its 0 is <unk>, which we do not have
    control, byte, normal = gguf.TokenType.CONTROL, gguf.TokenType.BYTE, gguf.TokenType.NORMAL
    before, codes = vocabulary.text_start, vocabulary.codebook_size
    texts = [f"{vocabulary.name(i)}\n" for i in range(before)]
    texts += [model.id_to_piece(i) for i in ids]
    texts += [f"<code {code}>\n" for code in range(codes)]
    scores = [0.0] * before + [model.get_score(i) for i in ids] + [0.0] * codes
    types = [byte if i <= NUM_BYTES else normal for i in ids]
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(texts)
    writer.add_token_scores(scores)
    writer.add_token_types([*[control] * before, *types, *[control] * codes])
    writer.add_bos_token_id(vocabulary.special("<begin>"))
    writer.add_eos_token_id(vocabulary.special("<end>"))
    writer.add_pad_token_id(vocabulary.special("<pad>"))
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(False)
    writer.add_add_space_prefix(False)


def _import_gguf() -> ModuleType:
    try:
        import gguf
    except ModuleNotFoundError as error:
        raise ValueError(f"GGUF needs {error.name}: pip install 'kinolex[gguf]'") from error
    return gguf
