"""Rolling: a long video read block by block, each once, with the last blocks or a memory in mind.

A strategy beside those of strategies.py. Knows readers and blocks. Knows no ids and no network.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice

import torch

from lm.long.answer import Evidence, TimedText
from lm.long.parts import Part, Parts
from lm.long.query import Query
from lm.long.reader import Rolling
from tokenizer.tokens import VideoTokens


@dataclass(frozen=True)
class Room:
    """What a reading that rolls has room for; what is held at once is as long as in training.

    tokens: codes and block marks held at once.
    """

    tokens: int
    first: int  # blocks that are read at once at the start, as one clip, and held at most
    blocks: int  # last blocks that stay as they are
    memory: int  # tokens that all before those become; 0: they are forgotten
    block_tokens: int  # most codes of a block

    @classmethod
    def of_window(cls, blocks: int, block_tokens: int) -> Room:
        """Of the last blocks alone."""
        return cls(blocks * (block_tokens + 1), blocks, blocks, 0, block_tokens)

    @classmethod
    def of_memory(cls, blocks: int, block_tokens: int, memory: int | None = None) -> Room:
        """Of a memory beside as many of the last blocks as still fit into `blocks` of them.

        Where not even one fits its coarsest codes stand beside the memory.

        Args:
            blocks: Of the longest clips in training.
            block_tokens: Codes of each.
            memory: Tokens; None: half of all.

        Raises:
            ValueError: a memory that leaves no room beside it.
        """
        tokens = blocks * (block_tokens + 1)
        memory = min(tokens // 2, tokens - 2) if memory is None else memory
        if memory > tokens - 2:
            raise ValueError(
                f"memory={memory}: the model reads {tokens} tokens of video at once, give at most "
                f"{max(0, tokens - 2)}, or use recall={memory}"
            )
        beside = (tokens - memory) // (block_tokens + 1)
        if beside == 0:
            block_tokens = tokens - memory - 1
        first = min(blocks, tokens // (block_tokens + 1))
        return cls(tokens, first, max(1, beside), memory, block_tokens)


def rolled(query: Query, video: Parts, room: Room) -> Iterator[tuple[Rolling, float, float]]:
    """A reading that goes on, after each block, with start and end in seconds of its last blocks.

    The first time after as many as there is room for, or all.
    """
    parts = video.read()
    held = list(islice(parts, room.first))
    rolling = query.reader.roll(joined_blocks(held), room)
    query.tokens += rolling.tokens
    yield rolling, held[0].start, held[-1].end
    held = held[-room.blocks :]
    for part in parts:
        held = [*held, part][-room.blocks :]
        query.tokens += rolling.read(part.tokens)
        yield rolling, held[0].start, held[-1].end


def joined_blocks(parts: list[Part]) -> VideoTokens:
    """Blocks of one stream as a clip that begins with the first."""
    times = torch.cat([part.tokens.timestamps for part in parts])
    codes = tuple(block for part in parts for block in part.tokens.codes)
    return replace(parts[0].tokens, codes=codes, timestamps=times - times[0])


def rolling_evidence(query: Query, video: Parts, room: Room) -> list[Evidence]:
    """What each step says of the question."""
    return [query.now(*step) for step in rolled(query, video, room)]


def rolling_captions(query: Query, video: Parts, room: Room) -> Iterator[TimedText]:
    """What happens, step by step."""
    for rolling, start, end in rolled(query, video, room):
        yield TimedText(start, end, query.told(rolling.caption()).text)
