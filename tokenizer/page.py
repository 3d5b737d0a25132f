"""The frame of an HTML page that opens anywhere, offline: its style, its title, its parts.

It knows no figure and no model; light and dark follow the reader's system.
"""

from __future__ import annotations

import html
from collections.abc import Sequence

# Lines have the colours of Okabe and Ito (2008), which the colour-blind tell apart, made darker or
# lighter where they would be faint.
STYLE = """
:root { color-scheme: light dark; --ink: #1c1e21; --soft: #666d75; --line: #d9dde2;
  --paper: #fff; --card: #f6f7f9; --line0: #0072b2; --line1: #e08a00; --line2: #009e73;
  --line3: #c85c9a; --line4: #d55e00; --line5: #45a5dd; --line6: #6b4fbb; --line7: #5a6068; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8eaed; --soft: #9aa2ab; --line: #3a3f46;
  --paper: #15171a; --card: #1e2125; --line0: #4aa8e8; --line1: #f0b040; --line2: #2fcb9c;
  --line3: #ea94c4; --line4: #ff8a4a; --line5: #9ad4f5; --line6: #b3a0f5; --line7: #aab1b9; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin-bottom: .2rem; } h2 { font-size: 1.15rem; margin: 2rem 0 .4rem; }
p, li { max-width: 46rem; } .soft { color: var(--soft); font-size: .88rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .28rem .6rem; border-bottom: 1px solid var(--line); }
th { color: var(--soft); font-weight: 500; } th:first-child, td:first-child { text-align: left; }
.wide { overflow-x: auto; }
.grid { display: grid; gap: .8rem; grid-template-columns: repeat(auto-fill, minmax(17rem, 1fr)); }
.card { background: var(--card); border-radius: 8px; padding: .7rem; overflow-wrap: anywhere; }
.films { display: flex; gap: .5rem; } .films figure { margin: 0; flex: 1; }
.films img { width: 100%; image-rendering: pixelated; border-radius: 4px; background: #000; }
figcaption { color: var(--soft); font-size: .78rem; } dl { margin: .4rem 0 0; font-size: .86rem; }
dt { color: var(--soft); } dd { margin: 0 0 .25rem; } .good { color: #1d8a4e; }
.bad { color: #c23b3b; } svg { width: 100%; height: auto; } svg text { fill: var(--soft);
  font: 11px system-ui, sans-serif; } .legend { list-style: none; padding: 0; display: flex;
  flex-wrap: wrap; gap: .2rem 1.2rem; } .legend svg { width: 2.2rem; vertical-align: middle; }
@media (prefers-color-scheme: dark) { .good { color: #5fd08f; } .bad { color: #ff8a80; } }
"""


def page(title: str, summary: str, parts: Sequence[str]) -> str:
    """A whole page of a title, a plain sentence or two, and parts that are HTML already."""
    head = [
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{html.escape(title)}</title>",
        '<meta name=viewport content="width=device-width, initial-scale=1">',
        f"<style>{STYLE}</style><h1>{html.escape(title)}</h1><p>{html.escape(summary)}</p>",
    ]
    return "\n".join([*head, *parts]) + "\n"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of plain texts; the first column reads from the left."""
    top = "".join(f"<th>{html.escape(cell)}</th>" for cell in head)
    lines = ["".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in rows]
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f"<div class=wide><table><tr>{top}</tr>{body}</table></div>"
