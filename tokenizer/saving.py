"""A codec as a directory: codec.json (what it is), codec.safetensors (weights), README.md (card).

Reads back only what it wrote, and says in one line why anything else is refused.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save

from data.atomic import write_atomically
from tokenizer.backbone import Backbone, ConvBackbone
from tokenizer.codec import Codec
from tokenizer.factored import FactoredBackbone
from tokenizer.label_head import LabelHead
from tokenizer.quantizer import QUANTIZERS
from tokenizer.transformer import TransformerBackbone

FORMAT, VERSION = "kinolex-codec", 1
_DAMAGE = (  # what building a network from wrong values may raise
    LookupError,
    TypeError,
    AttributeError,
    ValueError,
    OSError,
    RuntimeError,
    SafetensorError,
)
BACKBONES: dict[str, type[Backbone]] = {
    "ConvBackbone": ConvBackbone,
    "FactoredBackbone": FactoredBackbone,
    "TransformerBackbone": TransformerBackbone,
}


def save_codec(codec: Codec, path: Path) -> None:
    """Write `codec` into the directory `path`, each file whole or not at all."""
    weights = {k: v.detach().cpu().contiguous() for k, v in codec.state_dict().items()}
    record = {
        "format": FORMAT,
        "version": VERSION,
        "codec_id": codec.codec_id,
        **codec.config(),
        "trained_size": codec.trained_size,
    }
    write_atomically(path / "codec.safetensors", save(weights))
    write_atomically(path / "README.md", card(codec).encode())
    description = json.dumps(record, indent=2) + "\n"
    write_atomically(path / "codec.json", description.encode())  # last: marks it whole


def load_codec(path: Path) -> Codec:
    """Read the codec in the directory `path`, in eval mode."""
    record = read_record(path)
    try:
        backbone, quantizer = record["backbone"], record["quantizer"]
        quantizer = QUANTIZERS[quantizer["class"]](**quantizer["arguments"])
        network = BACKBONES[backbone["class"]](**backbone["arguments"])
        head = None
        if "labels" in record:
            told = record["labels"], record.get("phrases", ())
            head = LabelHead(network.summary, quantizer.dim, *told, regional=network.regional)
        size = record["trained_size"]
        codec = Codec(
            backbone=network,
            quantizer=quantizer,
            block_frames=record["block_frames"],
            order=record["order"],
            trained_size=None if size is None else (size[0], size[1]),
            label_head=head,
            codes_of=record.get("codes_of"),
        )
        codec.load_state_dict(load_file(path / "codec.safetensors"))
        named = record["codec_id"]
    except _DAMAGE as error:
        told = " ".join(str(error).split()) or type(error).__name__  # torch tells line by line
        short = told if len(told) <= 300 else told[:300] + " ..."
        raise ValueError(f"{path}: damaged codec ({short}): save or copy it again") from error
    if codec.codec_id != named:
        raise ValueError(
            f"{path}: the weights are those of {codec.codec_id}, codec.json names {named}: files "
            "of two codecs were mixed, copy the directory again"
        )
    return codec.eval()


def read_record(path: Path) -> dict[str, Any]:
    """The content of codec.json, checked for kind and version."""
    file = path / "codec.json"
    if not file.is_file():
        if (path / "codec" / "codec.json").is_file():
            hint = f"its codec is {path / 'codec'}"
        elif path.exists():
            hint = "give a directory that `kinolex tokenizer fit` wrote"
        else:
            raise FileNotFoundError(f"{path}: no such directory: give that of a saved codec")
        raise ValueError(f"{path}: not a codec directory (no codec.json): {hint}")
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        kind, version = record["format"], int(record["version"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{file}: not a codec's description: copy the directory again") from error
    if kind != FORMAT:
        raise ValueError(f"{file}: describes a {kind}, not a {FORMAT}: give a codec directory")
    if version < 1:
        raise ValueError(f"{file}: there is no version {version}: copy the directory again")
    if version > VERSION:
        raise ValueError(f"{file}: version {version} is newer than {VERSION}: upgrade kinolex")
    return record


def card(codec: Codec) -> str:
    """The README.md beside a saved codec: what it is, its use and its limits."""
    number = sum(p.numel() for p in codec.parameters())
    backbone, size = codec.backbone, codec.trained_size
    trained = "an unknown size" if size is None else f"{size[0]}x{size[1]} pixels"
    return f"""# Codec {codec.codec_id}

A Kinolex video codec: {number:,} parameters, one latent per {backbone.time_stride} frames x
{backbone.space_stride} x {backbone.space_stride} pixels, {type(codec.quantizer).__name__} with
{codec.codebook_size:,} codes, blocks of {codec.block_frames} frames, {codec.order} order.

Use: `kinolex encode clip.mp4 --model DIR --out clip.kvt`, or
`tokenizer.codec.Codec.load("DIR").encode(clip)`.

Limits: trained on clips of {trained}; other sizes work, sizes far from it look poorer. It is a
lossy codec: what its training clips lacked, it blurs or invents.
"""
