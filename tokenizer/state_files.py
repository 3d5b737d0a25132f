"""What a stream remembers as a file, so that another process goes on where one stopped.

A safetensors file: the tensors, and the rest as JSON in its metadata. Never pickle: reading a file
runs nothing. It knows states, not networks nor token files.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from data.atomic import write_atomically
from tokenizer.blocks import DecoderState, EncoderState, Probe
from tokenizer.rate import Rate

if TYPE_CHECKING:
    from tokenizer.codec import Codec

FORMAT, VERSION = "kinolex-stream-state", 1
State = EncoderState | DecoderState


def save_state(codec: Codec, state: State, path: Path | str) -> None:
    """Write what a stream of `codec` remembers, whole or not at all.

    Args:
        codec: The codec whose steps made the state.
        state: Of `Codec.encode_step` or `Codec.decode_step`, or of their starts.
        path: File to write, a .safetensors by custom.
    """
    tensors: dict[str, Tensor] = {}

    def past(name: str, remembered: tuple[Tensor, ...] | None) -> int | None:
        for number, tensor in enumerate(remembered or ()):
            tensors[f"{name}.{number}"] = tensor.cpu().clone(memory_format=torch.contiguous_format)
        return None if remembered is None else len(remembered)

    def decoder(name: str, told: DecoderState) -> dict[str, Any]:
        size = {"height": told.height, "width": told.width, "num_blocks": told.num_blocks}
        return {**size, "past": past(name, told.past)}

    def encoder(told: EncoderState) -> dict[str, Any]:
        if told.pending is not None:
            tensors["pending"] = told.pending.cpu().clone(memory_format=torch.contiguous_format)
        probe = told.probe and {
            "counts": told.probe.counts,
            "decoders": [decoder(f"d{i}", each) for i, each in enumerate(told.probe.decoders)],
            "curves": told.probe.curves,
            "credit": told.probe.credit,
        }
        counts = {"num_blocks": told.num_blocks, "num_frames": told.num_frames}
        return {
            "rate": asdict(told.rate),
            **counts,
            "past": past("past", told.past),
            "probe": probe,
        }

    encodes = isinstance(state, EncoderState)
    record = {
        "format": FORMAT,
        "version": VERSION,
        "codec_id": codec.codec_id,
        "kind": "encoder" if encodes else "decoder",
        "state": encoder(state) if encodes else decoder("past", state),
    }
    write_atomically(path, save(tensors, {"kinolex": json.dumps(record)}))


def load_encoder_state(codec: Codec, path: Path | str) -> EncoderState:
    """What an encoding stream remembered; `Codec.encode_step` goes on from it.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is damaged, no such state, of a newer version or of another codec.
    """
    state = _load(codec, Path(path), "encoder")
    assert isinstance(state, EncoderState)
    return state


def load_decoder_state(codec: Codec, path: Path | str) -> DecoderState:
    """What a decoding stream remembered; errors are those of `load_encoder_state`."""
    state = _load(codec, Path(path), "decoder")
    assert isinstance(state, DecoderState)
    return state


def _load(codec: Codec, path: Path, kind: str) -> State:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such state of a stream: check the path")
    try:
        with safe_open(path, "pt") as file:
            record = json.loads((file.metadata() or {})["kinolex"])
            # safe_open has keys() but cannot be iterated over
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if record["format"] != FORMAT:
            raise ValueError("it is of another kind")
        version, told = int(record["version"]), record["codec_id"]
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: not the state of a stream ({error}): save it again") from None
    if version > VERSION:
        raise ValueError(f"{path}: version {version} is newer than {VERSION}: upgrade kinolex")
    if told != codec.codec_id:
        raise ValueError(
            f"{path}: state of a stream of codec {told}, not of {codec.codec_id}: load the codec "
            "that made it"
        )
    if record["kind"] != kind:
        raise ValueError(f"{path}: holds the state of a stream's {record['kind']}, not {kind}")
    device = next(codec.parameters()).device
    try:
        fields = record["state"]
        read = _encoder if kind == "encoder" else _decoder
        return read(fields, {name: tensor.to(device) for name, tensor in tensors.items()})
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: damaged state of a stream ({error}): save it again") from None


def _past(name: str, count: int | None, tensors: dict[str, Tensor]) -> tuple[Tensor, ...] | None:
    return None if count is None else tuple(tensors[f"{name}.{i}"] for i in range(count))


def _decoder(
    fields: dict[str, Any], tensors: dict[str, Tensor], name: str = "past"
) -> DecoderState:
    return DecoderState(**{**fields, "past": _past(name, fields["past"], tensors)})


def _encoder(fields: dict[str, Any], tensors: dict[str, Tensor]) -> EncoderState:
    pending, probe = tensors.get("pending"), fields["probe"]
    if probe is not None:
        decoders = (_decoder(each, tensors, f"d{i}") for i, each in enumerate(probe["decoders"]))
        curves = tuple(map(tuple, probe["curves"]))
        probe = Probe(tuple(probe["counts"]), tuple(decoders), curves, probe["credit"])
    rate = dict(_tuples(fields["rate"]))
    return EncoderState(
        rate=Rate(**rate),
        pending=None if pending is None else pending.cpu(),
        past=_past("past", fields["past"], tensors),
        num_blocks=fields["num_blocks"],
        num_frames=fields["num_frames"],
        probe=probe,
    )


def _tuples(fields: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """JSON has lists where a rate has tuples."""
    for name, value in fields.items():
        yield name, tuple(value) if isinstance(value, list) else value
