"""The encoding job: every clip of a source into token shards, with its words, resumable.

A record's notes hold the tokens' own (see `VideoTokens.to_record`) and the clip's `captions`,
`questions`, `labels`, `events`, `source` and `truth`; `read_record` puts both back together. It
does not know what reads the shards.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from data.clip import Clip, Event, Question
from data.collation import collate
from data.shards import ShardWriter
from data.source import Source
from tokenizer.codec import Codec
from tokenizer.tokens import VideoTokens

Progress = Callable[[int, int], None]  # clips done, clips in all


@dataclass(frozen=True)
class TokenRecord:
    """A record of token shards: a clip's tokens and its words."""

    tokens: VideoTokens
    captions: tuple[str, ...] = ()
    questions: tuple[Question, ...] = ()
    labels: dict[str, str] = field(default_factory=dict)
    source: str = ""
    truth: dict[str, Any] | None = None
    events: tuple[Event, ...] = ()
    stills: tuple[VideoTokens, ...] = ()  # single frames of the clip, in order of time

    @classmethod
    def of(cls, tokens: VideoTokens, clip: Clip, stills: Sequence[VideoTokens] = ()) -> TokenRecord:
        """The record of a clip and its tokens."""
        words = (clip.captions, clip.questions, clip.labels, clip.source, clip.truth, clip.events)
        return cls(tokens, *words, tuple(stills))


@dataclass(frozen=True)
class EncodingReport:
    """What an encoding job wrote."""

    out: str  # folder of shards
    clips: int  # records in the folder
    resumed_at: int  # records that were there before
    tokens: int  # of this run's clips
    tokens_per_frame: float  # mean over this run's clips; 0 if there were none
    bits_per_pixel: float  # nominal, mean over this run's clips
    seconds: float
    skipped: int  # clips the source could not read


def write_record(record: TokenRecord) -> tuple[np.ndarray, dict[str, Any]]:
    """A record as codes and JSON values, for `data.shards.ShardWriter`."""
    codes, info = record.tokens.to_record()
    stills = [still.to_record() for still in record.stills]
    codes = np.concatenate([codes, *(own for own, _ in stills)])
    questions = [
        {"question": q.question, "answer": q.answer, "kind": q.kind, "choices": list(q.choices)}
        for q in record.questions
    ]
    words = {
        "captions": list(record.captions),
        "questions": questions,
        "labels": record.labels,
        "source": record.source,
        "truth": record.truth,
        "events": [asdict(event) for event in record.events],
        "stills": [own for _, own in stills],
    }
    return codes, {**info, **words}


def read_record(codes: np.ndarray, info: dict[str, Any]) -> TokenRecord:
    """The inverse of `write_record`."""
    infos = [info, *info.get("stills", ())]
    ends = np.cumsum([sum(own["tokens_per_block"]) for own in infos])
    parts = np.split(codes, ends[:-1])
    questions = tuple(
        Question(q["question"], q["answer"], q["kind"], tuple(q["choices"]))
        for q in info["questions"]
    )
    return TokenRecord(
        tokens=VideoTokens.from_record(parts[0], info),
        captions=tuple(info["captions"]),
        questions=questions,
        labels=info["labels"],
        source=info["source"],
        truth=info["truth"],
        events=tuple(Event(**event) for event in info.get("events", ())),
        stills=tuple(map(VideoTokens.from_record, parts[1:], infos[1:])),
    )


def encode_source(
    codec: Codec,
    source: Source,
    out: Path | str,
    tokens_per_frame: float | None = None,
    batch_size: int = 64,
    progress: Progress | None = None,
    records_per_shard: int = 1024,
    stills: int = 0,
) -> EncodingReport:
    """Encode all clips of a source into a folder of token shards.

    Run again with the same arguments it goes on where it stopped, unless the clips or what is said
    of them are others by now (where the source has a `fingerprint`).

    Args:
        codec: The codec, in eval mode.
        source: The clips.
        out: Folder of shards, made if it does not exist.
        tokens_per_frame: The rate; None asks for the full one.
        batch_size: Clips of one length and size coded together.
        progress: Told the clips done and the clips in all, after each batch.
        records_per_shard: Clips per shard; at most so many are lost when the job is killed.
        stills: Frames of each clip to encode as images besides, evenly spread, the first and the
            last among them.

    Raises:
        ValueError: A rate out of range, or a folder with shards made otherwise or of other clips.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size}: give at least one clip")
    if stills < 0 or stills == 1:
        raise ValueError(f"stills={stills}: give 0, or 2 (first and last frame) or more")
    began, total = time.perf_counter(), len(source)
    meta = {
        "kind": "video-tokens",
        "codec_id": codec.tokens_id,
        "codebook_size": codec.codebook_size,
        "block_frames": codec.block_frames,
        "layout": codec.layout.to_json(),
        "tokens_per_frame": tokens_per_frame,
        "source": source.name,
        "num_clips": total,
        "stills": stills,
        "fingerprint": getattr(source, "fingerprint", None),
    }
    spent = frames = 0
    pixels = bits = 0.0
    with ShardWriter(out, meta, records_per_shard) as writer:
        first = writer.num_records
        for clips in batches(source, first, batch_size):
            batch = collate(clips)
            tokens = codec.encode_batch(batch.frames, batch.timestamps, tokens_per_frame)
            shown = _stills(codec, batch.frames, batch.timestamps, tokens_per_frame, stills)
            for item, clip, own in zip(tokens, clips, shown, strict=True):
                writer.write(*write_record(TokenRecord.of(item, clip, own)))
                spent, frames = spent + item.num_tokens, frames + item.num_frames
                pixels += item.num_frames * item.height * item.width
                bits += item.num_tokens * item.bits_per_token
            if progress is not None:
                progress(writer.num_records, total)
        records = writer.num_records
    return EncodingReport(
        out=str(out),
        clips=records,
        resumed_at=first,
        tokens=spent,
        tokens_per_frame=spent / max(1, frames),
        bits_per_pixel=bits / max(1.0, pixels),
        seconds=time.perf_counter() - began,
        skipped=len(source.skipped),
    )


def _stills(
    codec: Codec, frames: Tensor, times: Tensor, tokens_per_frame: float | None, count: int
) -> list[list[VideoTokens]]:
    """`count` frames of each clip of a batch, each encoded alone."""
    chosen = torch.linspace(0, frames.shape[1] - 1, count).round().long().unique()
    columns = [
        codec.encode_batch(frames[:, i : i + 1], times[:, i : i + 1], tokens_per_frame)
        for i in chosen.tolist()
    ]
    return [list(row) for row in zip(*columns, strict=True)] if columns else [[] for _ in frames]


def batches(source: Source, first: int, batch_size: int) -> Iterator[Sequence[Clip]]:
    """The clips of a source in order from number `first`, in batches of one length and size."""
    draw: Callable[[list[int]], list[Clip]] | None = getattr(source, "batch", None)
    waiting: list[Clip] = []
    for start in range(first, len(source), batch_size):
        numbers = list(range(start, min(start + batch_size, len(source))))
        clips = draw(numbers) if draw is not None else (source[number] for number in numbers)
        for clip in clips:
            if waiting and (
                len(waiting) == batch_size or waiting[0].frames.shape != clip.frames.shape
            ):
                yield waiting
                waiting = []
            waiting.append(clip)
    if waiting:
        yield waiting
