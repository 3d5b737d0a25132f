"""A diagnosis as one HTML page of tables and plots. It draws what it is given."""

from __future__ import annotations

import html
from collections.abc import Sequence

from tokenizer.charts import Chart, Line, draw, legend
from tokenizer.diagnosis import Diagnosis, Estimate, SourceDiagnosis
from tokenizer.page import page, table


def diagnosis_page(found: Diagnosis) -> str:
    """The whole page."""
    summary = f"Codec {found.codec_id} at rate {found.rate}. Intervals: 95 %, bootstrap over clips."
    parts = [
        _shift(found.sources),
        "<h2>Over blocks and time</h2>",
        legend([source.source for source in found.sources]),
        _plots(found.sources),
        _habits(found.sources),
        _leaks(found.sources),
        *(_content(source) for source in found.sources),
        _dead(found),
        f"<p class=soft>{html.escape(found.protocol)}</p>",
    ]
    return page("What a codec does", summary, parts)


def _shift(sources: Sequence[SourceDiagnosis]) -> str:
    head = ("source", "clips", "frames", "tokens a frame", "PSNR dB", "where it moves", "SSIM")
    head += ("mean colour", "first frame", "gain", "codes used", "perplexity")
    rows = [
        [
            s.source,
            str(s.num_clips),
            str(s.num_frames),
            f"{s.tokens_per_frame:.4g}",
            f"{s.score.psnr:.2f}",
            "" if s.score.psnr_moving is None else f"{s.score.psnr_moving:.2f}",
            "" if s.score.ssim is None else f"{s.score.ssim:.3f}",
            *(f"{score.psnr:.2f}" for score in s.baselines.values()),
            f"{s.gain:+.2f}",
            f"{s.used_codes:.1%}",
            f"{s.perplexity:.1f}",
        ]
        for s in sources
    ]
    told = "The gain is over the better of two baselines that need no codec: one colour, one still."
    return f"<h2>From source to source</h2><p class=soft>{told}</p>" + table(head, rows)


def _plots(sources: Sequence[SourceDiagnosis]) -> str:
    def lines(points: Sequence[Sequence[tuple[float, float]]]) -> list[Line]:
        return [Line(s.source, list(p)) for s, p in zip(sources, points, strict=True)]

    charts = [
        Chart(
            "PSNR by frame of the block (dB)",
            "frame of the block",
            lines([list(enumerate(s.borders.psnr_by_position)) for s in sources]),
            marks=True,
        ),
        Chart(
            "Too bright by (levels of 255)",
            "frame of the clip",
            lines([[(p.frame, p.bias) for p in s.drift.by_frame] for s in sources]),
        ),
        Chart(
            "Perplexity of codes by position",
            "position in the block, coarse to fine",
            lines([[(p.first, p.perplexity) for p in s.by_position] for s in sources]),
        ),
        Chart(
            "Codes used by position (%)",
            "position in the block, coarse to fine",
            lines([[(p.first, 100 * p.used_codes) for p in s.by_position] for s in sources]),
        ),
    ]
    cards = "".join(f"<div class=card>{draw(chart)}</div>" for chart in charts)
    return f"<div class=grid>{cards}</div>"


def _habits(sources: Sequence[SourceDiagnosis]) -> str:
    head = ("source", "error at borders, dB", "change at borders, dB")
    head += ("flicker: original", "decoded", "ratio", "bias", "drift a second")
    rows = [
        [
            s.source,
            _told(s.borders.error_db),
            _told(s.borders.change_db),
            f"{s.flicker.original:.2f}",
            f"{s.flicker.decoded:.2f}",
            _told(s.flicker.ratio),
            f"{s.drift.bias:+.2f}",
            _told(s.drift.slope),
        ]
        for s in sources
    ]
    told = (
        "Borders: frames beside a border of two blocks against those inside, above 0 is worse. "
        "Flicker: root mean square of the change between frames where the original stands still. "
        "Bias and drift: brightness, decoded minus original, in levels of 255."
    )
    return f"<h2>Borders, flicker, brightness</h2><p class=soft>{told}</p>" + table(head, rows)


def _leaks(sources: Sequence[SourceDiagnosis]) -> str:
    rows = [
        [
            s.source,
            leak.way,
            str(leak.trials),
            str(leak.codes_changed),
            f"{leak.pixel_change:g}",
            "LEAKS" if leak.leaks else "none",
        ]
        for s in sources
        for leak in s.leaks
    ]
    head = ("source", "way", "blocks replaced", "earlier codes changed", "earlier pixels", "leak")
    told = "A later block is replaced by noise; nothing before it may change by the last bit."
    return f"<h2>Causality</h2><p class=soft>{told}</p>" + table(head, rows)


def _content(source: SourceDiagnosis) -> str:
    rows = [
        [item.by, item.group, str(item.count), f"{item.psnr:.2f}"] for item in source.by_content
    ]
    told = "Moving and detail: of each block, the share of pixels that move and the mean step "
    told += "between neighbouring pixels. Labels: of each clip."
    head = ("by", "group", "blocks or clips", "PSNR dB")
    title = html.escape(f"By content: {source.source}")
    return f"<h2>{title}</h2><p class=soft>{told}</p>" + table(head, rows)


def _dead(found: Diagnosis) -> str:
    listed = ", ".join(map(str, found.dead_codes)) or "none"
    count = f"{len(found.dead_codes)} of {found.codebook_size} codes occur in no clip"
    return f"<h2>Dead codes</h2><details><summary>{count}</summary><p>{listed}</p></details>"


def _told(estimate: Estimate | None) -> str:
    return "" if estimate is None else str(estimate)
