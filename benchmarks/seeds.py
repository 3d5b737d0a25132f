"""Figures of several runs side by side: mean, lowest and highest over seeds, as Markdown.

    python benchmarks/seeds.py runs/demo-0 runs/demo-1 runs/demo-2

Each folder holds the `results.json` that `kinolex demo` or `kinolex lm evaluate --out` wrote.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import mean
from typing import Any


def rows(results: list[dict[str, Any]]) -> list[str]:
    """A Markdown row for every figure that all runs have."""
    names = [n for n in results[0] if n != "protocol" and all(n in other for other in results)]
    lines = []
    for name in names:
        figures = [result[name] for result in results]
        values = [figure["value"] for figure in figures]
        digits = 2 if figures[0]["unit"] else 3
        cells = [f"{mean(values):.{digits}f}", f"{min(values):.{digits}f}-{max(values):.{digits}f}"]
        for key in ("chance", "majority", "ceiling"):
            known = [figure[key] for figure in figures if figure[key] is not None]
            cells.append(f"{mean(known):.{digits}f}" if known else "")
        title = name.replace("/", ": ").replace("_", " ")
        lines.append(f"| {title} | {' | '.join(cells)} | {figures[0]['n']} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("runs", nargs="+", type=Path, help="folders with results.json, or files")
    files = [run / "results.json" if run.is_dir() else run for run in parser.parse_args().runs]
    results = [json.loads(file.read_text()) for file in files]
    print("| figure | mean | range | chance | majority | ceiling | n each |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    print("\n".join(rows(results)))


if __name__ == "__main__":
    main()
