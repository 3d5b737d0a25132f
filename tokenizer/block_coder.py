"""A token file's blocks to payloads and back, in the order they stand, by the header's coding.

It knows which coding a block got and when a prior starts anew, not where records stand in a file.
"""

from __future__ import annotations

from zlib import crc32

import numpy as np

from tokenizer.entropy import Expectation, Prior, decode_codes, encode_codes, pack, tell, unpack
from tokenizer.priors import AdaptivePrior
from tokenizer.rate import bits_per_code
from tokenizer.records import PACKED, UNDER_PRIOR, Block, Header


class BlockCoder:
    """Codes blocks in order, starting anywhere that the prior starts anew.

    Args:
        header: Of the file.
        prior: The one that `header.prior` names, or None if it names none.

    Raises:
        ValueError: The prior is of another codec, codebook or layout.
    """

    def __init__(self, header: Header, prior: Prior | None) -> None:
        self._header, self._prior = header, prior
        self._bits = bits_per_code(header.codebook_size)
        self._expectation: Expectation | None = None
        if prior is None:
            return
        if prior.codec_id not in (None, header.codec_id):
            raise ValueError(
                f"the prior {prior.name} is of codec {prior.codec_id}, the tokens are of "
                f"{header.codec_id}: give a prior of that codec's tokens"
            )
        if prior.codebook_size != header.codebook_size:
            raise ValueError(
                f"the prior {prior.name} knows {prior.codebook_size} codes, the tokens have "
                f"{header.codebook_size}: give a prior of their codec's tokens"
            )
        self._slots = prior.layout.slots(header.height, header.width)

    @property
    def carries_over(self) -> bool:
        """Whether blocks of a group can only be decoded after those before them."""
        return self._prior is not None and self._prior.carries_over

    def encode(self, number: int, codes: np.ndarray, times: tuple[float, ...]) -> Block:
        """Block `number` of codes int64 (K,), under the prior if that is shorter than packed."""
        packed = pack(codes, self._bits)
        expectation = self._expect(number, len(codes))
        if expectation is not None:
            coded = encode_codes(codes, expectation)
            if len(coded) + 1 < len(packed):  # 1: the check
                return Block(number, UNDER_PRIOR, len(codes), times, coded, _check(codes))
        return Block(number, PACKED, len(codes), times, packed)

    def decode(self, block: Block) -> np.ndarray:
        """The codes int64 (num_tokens,) of a block; one that carries over comes after its group's.

        Raises:
            ValueError: The payload holds no such codes.
        """
        expectation = self._expect(block.number, block.num_tokens)
        if block.coding == PACKED:
            codes = unpack(block.payload, self._bits, block.num_tokens)
            if codes.max(initial=0) >= self._header.codebook_size:
                size = self._header.codebook_size
                raise ValueError(f"block {block.number} has codes outside [0, {size})")
            if self.carries_over and expectation is not None:
                tell(codes, expectation)
            return codes
        assert expectation is not None, "records are checked against the header"
        codes = decode_codes(block.payload, block.num_tokens, expectation)
        if _check(codes) != block.check:
            raise ValueError(f"block {block.number} decodes to other codes than were written")
        return codes

    def _expect(self, number: int, count: int) -> Expectation | None:
        prior, header = self._prior, self._header
        if prior is None:
            return None
        if not 1 <= count <= self._slots:
            size = f"{header.height}x{header.width}"
            raise ValueError(
                f"block {number} has {count} tokens: the prior knows 1 to {self._slots} at {size}"
            )
        anew = prior.carries_over and number % header.group_blocks == 0
        if self._expectation is None or anew:
            self._expectation = prior.start(header.height, header.width)
        return self._expectation


def prior_of(header: Header, given: Prior | None) -> Prior | None:
    """The prior that a header names: the given one, or one that needs nothing from elsewhere.

    Raises:
        ValueError: It needs another than was given.
    """
    if header.prior is None:
        return None
    if header.coding == "adaptive":
        assert header.layout is not None, "headers are checked"
        given = AdaptivePrior(header.codebook_size, header.layout)
    if given is None:
        what = "the folder of that language model" if header.coding == "model" else "its file"
        raise ValueError(f"coded under the prior {header.prior}: give {what} with --prior")
    if given.name != header.prior:
        raise ValueError(f"coded under the prior {header.prior}, not {given.name}: give that one")
    return given


def _check(codes: np.ndarray) -> int:
    """One byte of a checksum: tells when the prior was not the same on both sides."""
    return crc32(codes.astype("<u4").tobytes()) & 0xFF
