"""A model as a directory: model.json, model.safetensors, the vocabulary and its codec.

Reads back only what it wrote, and says in one line why anything else is refused.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from dataclasses import fields
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save

from data.atomic import write_atomically
from lm.model import Decoder, DecoderConfig
from lm.vocabulary import GRAMMAR_VERSION, Vocabulary
from tokenizer.codec import Codec

FORMAT, VERSION = "kinolex-model", 1


def save_parts(
    path: Path,
    decoder: Decoder,
    vocabulary: Vocabulary,
    codec: Codec,
    taught: Collection[str] = (),
) -> None:
    """Write a model directory; model.json goes last and marks it whole."""
    codec.save(path / "codec")
    vocabulary.save(path)
    weights = {
        name: value.detach().cpu().contiguous() for name, value in decoder.state_dict().items()
    }
    content = save(weights)
    write_atomically(path / "model.safetensors", content)
    record = {
        "format": FORMAT,
        "version": VERSION,
        "grammar": GRAMMAR_VERSION,
        "codec_id": codec.codec_id,
        "weights_sha256": hashlib.sha256(content).hexdigest(),
        "parameters": decoder.num_parameters,
        "decoder": decoder.config.to_json(),
        "taught": sorted(taught),
    }
    write_atomically(path / "model.json", (json.dumps(record, indent=2) + "\n").encode())


def load_parts(path: Path) -> tuple[Decoder, Vocabulary, Codec, tuple[str, ...]]:
    """Read a model directory.

    Raises:
        FileNotFoundError: there is no such directory.
        ValueError: it is of another kind or version, or damaged.
    """
    record = _record(path)
    vocabulary = Vocabulary.load(path)
    codec = Codec.load(path / "codec")
    weights = path / "model.safetensors"
    taught = record.get("taught", [])
    try:
        if "num_summary" in record["decoder"]:
            raise ValueError(
                f"{path}: its codes of summaries enter one by one, here they are added up: train "
                "again or use the version that wrote it"
            )
        config = DecoderConfig(**record["decoder"])
        for field in fields(config):
            if field.type == "int" and not isinstance(getattr(config, field.name), int):
                raise TypeError(f"{field.name} is no whole number")
        if not isinstance(taught, list):
            raise TypeError("taught is no list")
        decoder = Decoder(config)
        decoder.load_state_dict(load_file(weights))
        with open(weights, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except (KeyError, TypeError, OSError, RuntimeError, SafetensorError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path}: damaged model ({reason}): save or copy it again") from error
    if digest != record.get("weights_sha256", digest):  # older models have none
        raise ValueError(
            f"{weights} does not match the checksum in model.json: it is damaged or of another "
            "model, copy the directory again"
        )
    if decoder.config.num_ids != len(vocabulary):
        raise ValueError(
            f"{path}: a model of {decoder.config.num_ids} ids with a vocabulary of "
            f"{len(vocabulary)}: files of two models were mixed, copy the directory again"
        )
    return decoder, vocabulary, codec, tuple(taught)


def _record(path: Path) -> dict[str, Any]:
    file = path / "model.json"
    if not file.is_file():
        if (path / "codec.json").is_file():
            raise ValueError(
                f"{path}: a codec, not a language model: give the directory that "
                "`kinolex lm fit` wrote"
            )
        if path.exists():
            raise ValueError(
                f"{path}: not a model directory (no model.json): give the one that "
                "`kinolex lm fit` wrote"
            )
        raise FileNotFoundError(f"{path}: no such directory: give that of a saved model")
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        kind, version = record["format"], int(record["version"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{file}: not a model's description: copy the directory again") from error
    if kind != FORMAT:
        raise ValueError(f"{file}: describes a {kind}, not a {FORMAT}: give a model directory")
    if version > VERSION:
        raise ValueError(f"{file}: version {version} is newer than {VERSION}: upgrade kinolex")
    if record.get("grammar") != GRAMMAR_VERSION:
        raise ValueError(
            f"{file}: stream grammar {record.get('grammar')}, this Kinolex reads "
            f"{GRAMMAR_VERSION}: train again or use the version that wrote it"
        )
    return record
