"""Our codecs as coders of a study: their tokens at several rates, their bits nominal and packed.

It knows codecs and token files, not how a study compares them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from data.clip import Clip
from data.source import Source
from tokenizer.codec import Codec
from tokenizer.evaluate import Progress
from tokenizer.files import save_tokens
from tokenizer.rate import FULL, Rate, bits_per_code
from tokenizer.studies.curve import Curve
from tokenizer.studies.measuring import Coded, measure
from tokenizer.tokens import VideoTokens

CodedBits = Callable[[VideoTokens], float]  # bits of a clip's codes after entropy coding


class CodecCoder:
    """One codec at several rates, or several codecs (specialists) whose points make one curve.

    Args:
        codecs: In eval mode; each is tried at every rate.
        rates: Tokens a frame, besides the full rate.
        shares: Shares of each clip's own full rate.
        coded_bits: What entropy coding makes of a clip's codes; without it there are no `coded`
            bits.
    """

    def __init__(
        self,
        codecs: Sequence[Codec],
        rates: Sequence[float] = (),
        shares: Sequence[float] = (),
        coded_bits: CodedBits | None = None,
    ) -> None:
        if not codecs:
            raise ValueError("no codec: a curve wants at least one")
        self.codecs, self.coded_bits = list(codecs), coded_bits
        asked = [FULL, *(Rate(r) for r in rates), *(Rate(share=share) for share in shares)]
        self._tries = [(codec, rate) for codec in codecs for rate in asked]

    @property
    def points(self) -> list[str]:
        several = len(self.codecs) > 1
        return [
            f"{codec.codec_id}, {_named(rate)}" if several else _named(rate)
            for codec, rate in self._tries
        ]

    @property
    def protocol(self) -> dict[str, Any]:
        ids = [codec.codec_id for codec in self.codecs]
        return {"codec": ids, "entropy_coding": self.coded_bits is not None}

    def code(self, clip: Clip, point: int) -> Coded:
        codec, rate = self._tries[point]
        began = time.perf_counter()
        tokens = codec.encode(clip, rate=rate)
        between = time.perf_counter()
        frames = codec.decode(tokens).frames
        ended = time.perf_counter()
        width = bits_per_code(tokens.codebook_size)
        with TemporaryDirectory() as folder:
            file = Path(folder) / "clip.kvt"
            save_tokens(tokens, file)
            size = file.stat().st_size
        bits = {
            "nominal": tokens.num_tokens * tokens.bits_per_token,
            "packed": sum(8.0 * -(-len(codes) * width // 8) for codes in tokens.codes),
            "file": 8.0 * size,
        }
        if self.coded_bits is not None:
            bits["coded"] = float(self.coded_bits(tokens))
        return Coded(frames, bits, tokens.num_tokens, between - began, ended - between)


def codec_curve(
    codec: Codec,
    source: Source,
    name: str,
    rates: Sequence[float] = (),
    shares: Sequence[float] = (),
    coded_bits: CodedBits | None = None,
    progress: Progress | None = None,
) -> Curve:
    """A codec's curve over all clips of a source: the full rate, then the others asked for.

    Arguments are those of `CodecCoder`.

    Raises:
        ValueError: A rate that a clip's size cannot have.
    """
    coder = CodecCoder([codec], rates, shares, coded_bits)
    return measure(coder, source, name, f"codec {codec.codec_id}", progress=progress)


def _named(rate: Rate) -> str:
    if rate.tokens_per_frame is not None:
        return f"{rate} tokens a frame"
    return "full rate" if rate.share is None else f"{rate} of the full rate"
