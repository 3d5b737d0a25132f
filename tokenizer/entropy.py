"""How a block's codes become bytes: packed at their bit width, or range coded under a prior.

A prior says, given the codes so far, how often each code is to be expected next, in whole numbers;
coding does the same sums on both sides and nothing is rounded, so that bytes written on one
machine decode on any other. It does not know files, nor where a prior learned what it expects.
"""

from __future__ import annotations

from typing import Any, Protocol, cast

import constriction
import numpy as np

from tokenizer.ordering import BlockLayout

stream: Any = cast(Any, constriction).stream  # a compiled module without types

TOTAL = 1 << 24  # what the frequencies of all codes sum to: constriction's precision
MAX_CODEBOOK = 1 << 20  # above, too little of TOTAL is left over one for each code


class Expectation(Protocol):
    """What a prior expects at one place of a stream; told every code, in order."""

    def start_block(self, count: int) -> np.ndarray:
        """A block of `count` tokens begins: int64 (count,), the order in which it wants them."""
        ...

    def frequencies(self) -> np.ndarray:
        """Of each code as the next one: int64 (codebook_size,), all >= 1, their sum TOTAL.

        The same array object may come again, never with other values.
        """
        ...

    def see(self, code: int) -> None:
        """The next code was this."""
        ...


class Prior(Protocol):
    """Knowledge of which codes are likely.

    Frequencies must be the same on every machine: a prior that computes them in floating point
    must round them coarsely enough first.
    """

    @property
    def kind(self) -> str:
        """The coding it makes: static, adaptive, model."""
        ...

    @property
    def name(self) -> str:
        """The kind and a version or hash of all that the frequencies depend on."""
        ...

    @property
    def codec_id(self) -> str | None:
        """The codec whose codes it knows; None for any."""
        ...

    @property
    def codebook_size(self) -> int: ...

    @property
    def layout(self) -> BlockLayout:
        """Where tokens of a block stand."""
        ...

    @property
    def carries_over(self) -> bool:
        """Whether what it expects of a block depends on the blocks before it."""
        ...

    def start(self, height: int, width: int) -> Expectation:
        """What to expect at the start of a group of blocks of pictures of this many pixels."""
        ...


def pack(codes: np.ndarray, bits: int) -> bytes:
    """Codes at `bits` bits each, most significant first, filled with zero bits to a whole byte."""
    places = np.arange(bits - 1, -1, -1, dtype=np.uint64)
    spread = codes.astype(np.uint64)[:, None] >> places & np.uint64(1)
    return np.packbits(spread.astype(np.uint8).ravel()).tobytes()


def unpack(payload: bytes, bits: int, count: int) -> np.ndarray:
    """The inverse of `pack`: int64 (count,)."""
    if len(payload) != -(-bits * count // 8):
        raise ValueError(f"{len(payload)} bytes cannot hold {count} codes of {bits} bits")
    spread = np.unpackbits(np.frombuffer(payload, dtype=np.uint8))
    if spread[bits * count :].any():
        raise ValueError("bits are set after the last code")
    places = np.arange(bits - 1, -1, -1, dtype=np.int64)
    matrix = spread[: bits * count].reshape(count, bits).astype(np.int64)
    return (matrix << places).sum(1)


def share_out(weights: np.ndarray) -> np.ndarray:
    """Frequencies in proportion to weights, in whole numbers throughout.

    Args:
        weights: int64 (n,), n < MAX_CODEBOOK, none negative, their sum from 1 to 2**38.

    Returns:
        int64 (n,), each at least 1, their sum TOTAL.
    """
    ends = weights.cumsum()
    ends = ends * (TOTAL - len(weights)) // ends[-1]
    return np.diff(ends, prepend=0) + 1


def encode_codes(codes: np.ndarray, expectation: Expectation) -> bytes:
    """A block's codes int64 (count,), range coded; `expectation` is told them."""
    encoder = stream.queue.RangeEncoder()
    order = expectation.start_block(len(codes))
    table, model = None, None
    for code in codes[order].tolist():
        frequencies = expectation.frequencies()
        if frequencies is not table:
            table, model = frequencies, _exact_model(frequencies)
        if model is not None:
            encoder.encode(code, model)
        expectation.see(code)
    return b"" if encoder.is_empty() else _shortest_end(encoder)


def decode_codes(payload: bytes, count: int, expectation: Expectation) -> np.ndarray:
    """The inverse of `encode_codes`, from an expectation told the same before: int64 (count,).

    Raises:
        ValueError: The bytes cannot have been coded so. Not every wrong byte is noticed.
    """
    words = np.frombuffer(payload + bytes(-len(payload) % 4), dtype=">u4").astype(np.uint32)
    decoder = stream.queue.RangeDecoder(words)
    order = expectation.start_block(count)
    table, model = None, None
    codes = np.zeros(count, dtype=np.int64)
    for place in order.tolist():
        frequencies = expectation.frequencies()
        if frequencies is not table:
            table, model = frequencies, _exact_model(frequencies)
        if model is not None:
            try:
                codes[place] = decoder.decode(model)
            except AssertionError:
                raise ValueError("bytes that no codes become under this prior") from None
        expectation.see(int(codes[place]))
    return codes


def tell(codes: np.ndarray, expectation: Expectation) -> None:
    """Tell an expectation the codes of a block that was coded without it."""
    order = expectation.start_block(len(codes))
    for code in codes[order].tolist():
        expectation.see(code)


def _exact_model(frequencies: np.ndarray) -> Any | None:
    """A model of exactly these frequencies; None where there is but one code.

    constriction takes floating point weights, gives each code 1 of TOTAL and shares the rest out
    by weight. Weights of frequency - 1 sum to just that rest, so its scale is exactly 1 and every
    partial sum a whole number that float64 holds: no machine rounds anything.
    """
    if len(frequencies) < 2:
        return None
    weights = (frequencies - 1).astype(np.float64)
    return stream.model.Categorical(weights, lazy=True, perfect=False)


def _shortest_end(encoder: Any) -> bytes:
    """What was coded, ended by as few bytes as tell it apart when zeros follow.

    constriction ends for any bytes to follow, with one or two words of 4 bytes; ours know their
    length and its decoder reads zeros past the end.
    """
    position, (lower, width) = encoder.pos()  # words before the last range, and that in 2**-64
    words = encoder.get_compressed()[:position].astype(">u4").tobytes()
    carried = lower + 2**32 - 1 >> 64  # into those words, when it ended them
    start = (int.from_bytes(words, "big") - carried << 64) + lower
    for length in range(len(words), len(words) + 8):
        unit = 1 << 8 * (len(words) + 8 - length)
        point = -(-start // unit)  # in bytes of this length, the first in the range or after it
        if point * unit - start < width:
            return point.to_bytes(length, "big").rstrip(b"\0")
    raise AssertionError("a range holds a number of whole words")
