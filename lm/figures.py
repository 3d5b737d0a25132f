"""`Figure`: one measured number with what it must be read beside, and tables of them.

Every score stands beside chance, the majority answer and the codec's ceiling, with its count. It
does not know how a figure was measured; whoever measures states that in the protocol.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.table import Table

from data.atomic import write_atomically


@dataclass(frozen=True)
class Figure:
    """A measured value. Accuracies and shares lie in [0, 1]; other units stand in `unit`."""

    name: str  # snake_case, the key in results.json
    value: float
    n: int  # how many clips, answers or samples it is taken over
    chance: float | None = None  # a guess uniform over the possible answers
    majority: float | None = None  # always the commonest answer of the training split
    ceiling: float | None = None  # the same score on the codec's reconstructions, where it bounds
    low: float | None = None  # 95 % bootstrap interval over clips
    high: float | None = None
    unit: str = ""  # "" for shares, else "dB", "bits", ...

    @property
    def title(self) -> str:
        words = self.name.replace("_", " ").replace("/", ": ")
        return f"{words} ({self.unit})" if self.unit else words

    def text(self, key: str) -> str:
        """The field `key` as it is printed; '' where it does not apply."""
        number = getattr(self, key)
        if number is None:
            return ""
        shown = f"{number:.2f}" if self.unit else f"{number:.3f}"
        if key == "value" and self.low is not None and self.high is not None:
            digits = 2 if self.unit else 3
            shown += f" [{self.low:.{digits}f}, {self.high:.{digits}f}]"
        return shown


@dataclass(frozen=True)
class Evaluation:
    """What a model scored, and by which protocol."""

    figures: list[Figure]
    protocol: dict[str, Any] = field(default_factory=dict)

    def __rich__(self) -> Any:
        return figure_table(self.figures, ", ".join(f"{k}={v}" for k, v in self.protocol.items()))

    def value(self, name: str) -> float:
        """The value of the figure `name`."""
        return next(figure.value for figure in self.figures if figure.name == name)


def figure_table(figures: Sequence[Figure], title: str = "") -> Table:
    """The figures as a table for the terminal."""
    table = Table(title=title or None, title_justify="left")
    table.add_column("figure")
    for column in ("value [95 %]", "chance", "majority", "ceiling", "n"):
        table.add_column(column, justify="right")
    for figure in figures:
        cells = [figure.text(key) for key in ("value", "chance", "majority", "ceiling")]
        table.add_row(figure.title, *cells, str(figure.n))
    return table


def write_results(path: Path, figures: Sequence[Figure], protocol: dict[str, Any]) -> None:
    """`{name: {value, chance, majority, ceiling, n, ...}, "protocol": {...}}`, whole or not.

    Where the file cannot be written, all of it goes to standard output: it took long to measure.
    """
    content: dict[str, Any] = {}
    for figure in figures:
        fields = asdict(figure)
        content[fields.pop("name")] = fields
    content["protocol"] = protocol
    text = json.dumps(content, indent=2) + "\n"
    try:
        write_atomically(path, text.encode())
    except OSError:
        print(text, end="", flush=True)
        raise
