"""Diagnosis of a codec: what a mean PSNR hides, on any number of sources.

Clips stream through block by block; nothing is held of them but sums. It knows codecs and sources;
what each probe looks for stands in `probes`, what a leak is in `leaks`.
"""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from torch import Tensor

from data.atomic import write_atomically
from data.labels import MOST_CLASSES
from data.source import Source, parts_of
from tokenizer.blocks import SizeWarning, check_streams
from tokenizer.codec import Codec
from tokenizer.diagnosis import Diagnosis, LeakCheck, SourceDiagnosis
from tokenizer.evaluate import Progress, warn_of_sizes
from tokenizer.leaks import check_leaks
from tokenizer.metrics import CodeUsage, moving
from tokenizer.probes import (
    BorderProbe,
    ContentProbe,
    DriftProbe,
    FlickerProbe,
    PositionProbe,
    Shown,
)
from tokenizer.rate import FULL, Rate
from tokenizer.rate_control import RateStream
from tokenizer.streaming import code_parts
from tokenizer.tally import MeanColour, Tally

METRICS = (
    "psnr|rgb|0..255|pooled-mse;ssim|gauss11|rgb;moving|grey>8;borders,flicker,drift|"
    "bootstrap-clips-2000|seed0;kinolex-diagnosis-v1"
)


def diagnose(
    codec: Codec,
    sources: Sequence[Source],
    rate: Rate = FULL,
    num_clips: int | None = None,
    progress: Progress | None = None,
) -> Diagnosis:
    """Everything that is looked for, on each source.

    Args:
        codec: The codec, in eval mode.
        sources: Where clips come from; each is reported by itself.
        rate: Any that a stream can have.
        num_clips: At most so many clips of each source, the first ones; None for all.
        progress: Told the clips done, parts of one included as far as known, and the clips in all.

    Raises:
        ValueError: No source, no clip, or a rate that a stream or some clip cannot have.
    """
    if not sources:
        raise ValueError(
            "no sources: name at least one, three or more show how a codec carries over"
        )
    if num_clips is not None and num_clips < 1:
        raise ValueError(f"num_clips={num_clips}: a diagnosis wants at least one clip")
    check_streams(rate, 1)
    began = time.perf_counter()
    counts = [len(s) if num_clips is None else min(num_clips, len(s)) for s in sources]
    usage, found = CodeUsage(codec.codebook_size), []
    for number, (source, count) in enumerate(zip(sources, counts, strict=True)):
        look = _Look(codec, source, rate)
        for index in range(count):
            look.add(index)
            if progress is not None:
                progress(sum(counts[:number]) + index + 1, sum(counts))
        usage.counts += look.positions.all.counts
        found.append(look.result(count))
    return Diagnosis(
        codec_id=codec.codec_id,
        protocol=METRICS,
        rate=str(rate),
        sources=found,
        codebook_size=codec.codebook_size,
        dead_codes=(usage.counts == 0).nonzero().flatten().tolist(),
        seconds=time.perf_counter() - began,
    )


class _Look:
    """One source being looked at."""

    def __init__(self, codec: Codec, source: Source, rate: Rate) -> None:
        self.codec, self.source, self.rate = codec, source, rate
        self.positions = PositionProbe(codec.codebook_size)
        self.borders, self.flicker = BorderProbe(codec.block_frames), FlickerProbe()
        self.drift, self.content = DriftProbe(), ContentProbe()
        self.tally, self.mean, self.first = Tally(), MeanColour(), Tally()
        self.sizes: dict[tuple[int, int], None] = {}
        self.leaks: list[LeakCheck] = []

    def add(self, index: int) -> None:
        """Show clip `index` to all probes."""
        probes = (self.positions, self.borders, self.flicker, self.drift, self.content)
        tallies = (self.tally, self.mean, self.first)
        start: Tensor | None = None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SizeWarning)  # one for all clips follows
            for shown in self._blocks(index):
                start = shown.frames[:1] if start is None else start
                self.tally.add(shown.frames, shown.decoded, shown.moving)
                self.mean.see(shown.frames)
                still = start.expand_as(shown.frames)
                self.first.add(shown.frames, still, shown.moving, similarity=False)
                for probe in probes:
                    probe.add(shown)
        for part in (*probes, *tallies):
            part.end_clip()

    def _blocks(self, index: int) -> Iterator[Shown]:
        """The blocks of a clip, coded and decoded one after the other."""
        codec, chosen, decoder = self.codec, None, None
        before: tuple[Tensor, Tensor] | None = None
        parts = parts_of(self.source, index, codec.block_frames)
        for part, codes in code_parts(codec, parts):
            size = part.height, part.width
            self.sizes[size] = None
            chosen = chosen or RateStream(codec, self.rate, *size)
            kept = chosen.add(part.frames, codes)
            assert kept is not None, "rates of the whole clip are refused"
            pixels, decoder = codec.decode_step([kept], decoder or codec.start_decoding(*size))
            if not self.leaks:
                self.leaks = check_leaks(codec, part.frames)
            frames, decoded = part.frames.float(), pixels[0, : len(part)].float()
            mask = moving(frames, None if before is None else before[0])
            yield Shown(frames, decoded, before, mask, part.timestamps, kept, part.labels)
            before = frames[-1], decoded[-1]

    def result(self, num_clips: int) -> SourceDiagnosis:
        usage, score = self.positions.all, self.tally.score()
        warn_of_sizes(self.codec, self.sizes)
        tokens, frames = int(usage.counts.sum()), int(self.tally.frames)
        return SourceDiagnosis(
            source=self.source.name,
            num_clips=num_clips,
            num_frames=frames,
            sizes=[f"{height}x{width}" for height, width in self.sizes][:8],
            skipped=len(self.source.skipped),
            tokens=tokens,
            tokens_per_frame=tokens / max(1, frames),
            score=score,
            baselines={
                "mean colour": self.mean.score(),
                "first frame": self.first.score(similarity=False),
            },
            used_codes=usage.used,
            perplexity=usage.perplexity,
            entropy_bits=usage.entropy,
            by_position=self.positions.result(),
            borders=self.borders.result(),
            flicker=self.flicker.result(),
            drift=self.drift.result(),
            leaks=self.leaks,
            by_content=self.content.result(MOST_CLASSES),
        )


def write_diagnosis(found: Diagnosis, out: Path) -> Diagnosis:
    """Write diagnosis.json and report.html into the folder `out`; the diagnosis that names it."""
    from tokenizer.diagnosis_page import diagnosis_page

    named = replace(found, out=str(out))
    text = json.dumps(asdict(named), indent=2, ensure_ascii=False) + "\n"
    write_atomically(out / "diagnosis.json", text.encode())
    write_atomically(out / "report.html", diagnosis_page(named).encode())
    return named
