"""Our codecs as coders of a study: their tokens at several rates, their bits nominal and packed.

It knows codecs and token files, not how a study compares them.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from data.clip import Clip
from data.source import Source
from tokenizer.codec import Codec
from tokenizer.encoding import batches
from tokenizer.entropy import Prior
from tokenizer.evaluate import Progress
from tokenizer.files import save_tokens
from tokenizer.priors import StaticPrior, count_codes, measured
from tokenizer.rate import FULL, Rate
from tokenizer.studies.curve import Curve
from tokenizer.studies.measuring import Coded, measure


class CodecCoder:
    """One codec at several rates, or several codecs (specialists) whose points make one curve.

    Args:
        codecs: In eval mode; each is tried at every rate, unless it has `own` ones.
        rates: Tokens a frame, besides the full rate.
        shares: Shares of each clip's own full rate.
        priors: Under which each codec's tokens are entropy-coded; without them there are no
            `coded` bits.
        own: For each codec the tokens a frame that it alone is tried at, or None.
    """

    def __init__(
        self,
        codecs: Sequence[Codec],
        rates: Sequence[float] = (),
        shares: Sequence[float] = (),
        priors: Sequence[Prior] | None = None,
        own: Sequence[Sequence[float] | None] | None = None,
    ) -> None:
        if not codecs:
            raise ValueError("no codec: a curve wants at least one")
        self.codecs = list(codecs)
        self.priors = list(priors) if priors is not None else [None] * len(codecs)
        asked = [FULL, *(Rate(r) for r in rates), *(Rate(share=share) for share in shares)]
        self._tries = [
            (codec, prior, rate)
            for codec, prior, alone in zip(
                self.codecs, self.priors, own or [None] * len(self.codecs), strict=True
            )
            for rate in (asked if alone is None else [Rate(r) for r in alone])
        ]

    @property
    def points(self) -> list[str]:
        several = len(self.codecs) > 1
        return [
            f"{codec.codec_id}, {_named(rate)}" if several else _named(rate)
            for codec, _, rate in self._tries
        ]

    @property
    def protocol(self) -> dict[str, Any]:
        ids = [codec.codec_id for codec in self.codecs]
        return {"codec": ids, "prior": [prior and prior.name for prior in self.priors]}

    def code(self, clip: Clip, point: int) -> Coded:
        codec, prior, rate = self._tries[point]
        began = time.perf_counter()
        tokens = codec.encode(clip, rate=rate)
        between = time.perf_counter()
        frames = codec.decode(tokens).frames
        ended = time.perf_counter()
        with TemporaryDirectory() as folder:
            file = save_tokens(tokens, Path(folder) / "clip.kvt", prior)
        kinds = {"nominal": file.nominal, "packed": file.packed, "coded": file.coded}
        bits = {kind: value.total for kind, value in kinds.items() if value is not None}
        bits["file"] = file.whole.total
        codes = torch.cat(tokens.codes)
        seconds = between - began, ended - between
        return Coded(frames, bits, tokens.num_tokens, *seconds, codes, codec.codebook_size)


def codec_curve(
    codec: Codec,
    source: Source,
    name: str,
    rates: Sequence[float] = (),
    shares: Sequence[float] = (),
    prior: Prior | None = None,
    progress: Progress | None = None,
) -> Curve:
    """A codec's curve over all clips of a source: the full rate, then the others asked for.

    Arguments are those of `CodecCoder`, `prior` the codec's.

    Raises:
        ValueError: A rate that a clip's size cannot have.
    """
    coder = CodecCoder([codec], rates, shares, None if prior is None else [prior])
    return measure(coder, source, name, f"codec {codec.codec_id}", progress=progress)


def prior_of_source(codec: Codec, source: Source, progress: Progress | None = None) -> StaticPrior:
    """The static prior that a codec's tokens of all clips of a source give, at the full rate.

    A lower rate's codes are the first of these, and tables go by place: it serves every rate.
    """

    def records():
        done = 0
        for clips in batches(source, 0, 16):
            frames = torch.stack([clip.frames for clip in clips])
            for tokens in codec.encode_batch(frames):
                yield tokens.to_record()
            done += len(clips)
            if progress is not None:
                progress(done, len(source))

    counts = count_codes(records(), codec.codebook_size, codec.layout)
    return measured(counts, codec.codec_id, codec.layout)


def _named(rate: Rate) -> str:
    if rate.tokens_per_frame is not None:
        return f"{rate} tokens a frame"
    return "full rate" if rate.share is None else f"{rate} of the full rate"
