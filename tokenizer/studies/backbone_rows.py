"""A compared backbone's JSON file: its figures, and the settings that they hold for.

It knows the file's layout, not how figures are measured.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data.atomic import write_atomically
from tokenizer.studies.backbone_report import BackboneReport, Quality
from tokenizer.studies.costs import Cost, Shape

FORMAT = "kinolex-backbone-1"


def save_row(
    report: BackboneReport, settings: Mapping[str, Any], known: Mapping[Shape, Sequence[Cost]]
) -> None:
    """Write a row, with the costs of all shapes known under its settings."""
    kept = [
        {"shape": dataclasses.asdict(shape), "costs": [dataclasses.asdict(one) for one in costs]}
        for shape, costs in known.items()
    ]
    told = {"format": FORMAT, **dataclasses.asdict(report), "settings": settings, "known": kept}
    write_atomically(Path(report.file), (json.dumps(told, indent=2) + "\n").encode())


def add_quality(report: BackboneReport) -> None:
    """Put a row's quality into its file, which is there already."""
    told = _read(Path(report.file))
    assert told is not None
    assert report.quality is not None
    told["quality"] = dataclasses.asdict(report.quality)
    write_atomically(Path(report.file), (json.dumps(told, indent=2) + "\n").encode())


def read_costs(file: Path, settings: Mapping[str, Any]) -> dict[Shape, list[Cost]]:
    """What a file has, of these settings, by shape; what could not be measured is left out."""
    told = _read(file)
    if told is None or told["settings"] != json.loads(json.dumps(settings)):
        return {}
    costs = {
        Shape(**one["shape"]): [Cost(**cost) for cost in one["costs"]] for one in told["known"]
    }
    return {k: v for k, v in costs.items() if all(cost.reason is None for cost in v)}


def read_quality(file: Path) -> Quality | None:
    """The quality in a file, whatever it was measured under: its protocol says."""
    told = _read(file)
    return None if told is None or told["quality"] is None else Quality(**told["quality"])


def _read(file: Path) -> dict[str, Any] | None:
    """A file's content; None where there is none.

    Raises:
        ValueError: It is something else.
    """
    if not file.is_file():
        return None
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
        if told["format"] == FORMAT:
            return told
    except (ValueError, KeyError, TypeError):
        pass
    raise ValueError(f"{file} is not a compared backbone's: give another --out, or remove it")
