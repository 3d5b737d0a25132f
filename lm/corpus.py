"""`Corpus`: token shards as the language model reads them, their texts spelled once.

Reads what encoding jobs wrote: codes with captions, questions and labels. Knows no batches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from lm.document import Time
from lm.formats import VideoFormat
from lm.kept_pieces import KeptPieces
from lm.sequence import Span, text_span, video_span, write_item
from lm.vocabulary import Vocabulary
from tokenizer.encoding import TokenRecord, read_record
from tokenizer.ordering import BlockLayout
from tokenizer.tokens import VideoTokens

CACHED_CLIPS = 8192  # spelled records kept in memory, 10 to 30 KB each; spelling one takes .5 ms


class Records(Protocol):
    """Anything that gives (codes, info) by number, such as `data.shards.TokenShards`."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> tuple[np.ndarray, dict[str, Any]]: ...


def label_of(labels: dict[str, str]) -> str:
    """The label that recognition is trained on: `action` if there is one, else the first."""
    return labels.get("action") or next(iter(labels.values()), "")


@dataclass(frozen=True)
class Spelled:
    """A record as spans of ids."""

    tokens: VideoTokens
    video: Span
    captions: tuple[Span, ...]
    questions: tuple[tuple[Span, Span], ...]  # question, answer
    label: Span | None
    events: tuple[tuple[Span, Span], ...] = ()  # what happens, when
    stills: tuple[Span, ...] = ()  # frames of the video as images, in order of time

    @property
    def has_texts(self) -> bool:
        return bool(self.captions or self.questions or self.label or self.events)


class Corpus:
    """Records of token shards, by number.

    Args:
        records: The shards.
        vocabulary: The id space to spell them in.
    """

    def __init__(self, records: Records, vocabulary: Vocabulary) -> None:
        self.records = records
        self.vocabulary = vocabulary
        self._cache: dict[int, Spelled] = {}

    def __len__(self) -> int:
        return len(self.records)

    def record(self, index: int) -> TokenRecord:
        return read_record(*self.records[index])

    def spelled(self, index: int) -> Spelled:
        """Record `index` as spans, from memory if it was seen before."""
        found = self._cache.get(index)
        if found is None:
            found = spell(self.record(index), self.vocabulary)
            if len(self._cache) < CACHED_CLIPS:
                self._cache[index] = found
        return found

    def at_rate(self, index: int, tokens_per_block: int) -> Span:
        """The video of record `index` cut to its coarse part."""
        return video_span(self.spelled(index).tokens.keep(tokens_per_block), self.vocabulary)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cache": {}}


def spell(record: TokenRecord, vocabulary: Vocabulary) -> Spelled:
    """Write a record's items as ids."""

    def text(role: str, value: str) -> Span:
        return text_span(role, vocabulary.encode_text(value), vocabulary)

    label = label_of(record.labels)
    return Spelled(
        tokens=record.tokens,
        video=video_span(record.tokens, vocabulary),
        captions=tuple(text("caption", caption) for caption in record.captions),
        questions=tuple(
            (text("question", q.question), text("answer", q.answer)) for q in record.questions
        ),
        label=text("label", label) if label else None,
        events=tuple(
            (text("event", event.text), write_item(Time(event.start, event.end), vocabulary))
            for event in record.events
        ),
        stills=tuple(video_span(still, vocabulary) for still in record.stills),
    )


def make_vocabulary(
    records: Records,
    layout: BlockLayout | None = None,
    *,
    num_pieces: int = 512,
    rates: Sequence[int] = (),
    max_records: int = 200_000,
    pieces: KeptPieces | None = None,
) -> Vocabulary:
    """A vocabulary for token shards: pieces from their texts, presets from their formats.

    Args:
        records: The shards; all of one codec.
        layout: Where that codec's tokens stand in a block; None: codes are written as they come.
        num_pieces: Most text pieces beyond bytes and characters.
        rates: Lower rates, in tokens a block, that get one-token headers too.
        max_records: Most records to look at, evenly spread.
        pieces: Of a pretrained model, in place of pieces trained on the shards' texts.
    """
    texts: dict[str, None] = {}
    formats: list[VideoFormat] = []
    stills: dict[VideoFormat, None] = {}
    stride = max(1, -(-len(records) // max_records))
    first: VideoTokens | None = None
    for i in range(0, len(records), stride):
        record = read_record(*records[i])
        first = first or record.tokens
        if record.tokens.codec_id != first.codec_id:
            raise ValueError(
                f"record {i} has tokens of codec {record.tokens.codec_id!r}, record 0 of "
                f"{first.codec_id!r}: encode all clips with one codec"
            )
        pairs = [text for q in record.questions for text in (q.question, q.answer)]
        pairs += [event.text for event in record.events]
        texts.update(dict.fromkeys([*record.captions, *pairs, label_of(record.labels)]))
        formats.append(VideoFormat.of(record.tokens)[0])
        stills |= dict.fromkeys(VideoFormat.of(still)[0] for still in record.stills)
    if first is None:
        raise ValueError("the token shards hold no records: encode some clips first")
    return Vocabulary.make(
        texts,
        formats,
        stills=tuple(stills),
        codec_id=first.codec_id,
        codebook_size=first.codebook_size,
        block_frames=first.block_frames,
        layout=layout,
        num_pieces=num_pieces,
        rates=rates,
        pieces=pieces,
    )
