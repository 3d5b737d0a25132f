"""Charts: every point is on the page where it belongs, whatever the numbers."""

from __future__ import annotations

import math
import re
from pathlib import Path
from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from lm.figures import Figure
from lm.report import Card, Film, Gallery, write_report
from tokenizer.charts import Chart, Line, draw, legend
from tokenizer.page import page, table

NUMBERS = st.floats(-1e6, 1e6)
POINTS = st.lists(st.tuples(NUMBERS, NUMBERS), max_size=6)


def places(svg: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r"translate\(([^ ]+) ([^)]+)\)", svg)]


@given(st.lists(POINTS, max_size=10), st.booleans(), st.booleans())
def test_every_point_is_drawn_within_the_box(lines: list, log_x: bool, log_y: bool) -> None:
    named = [Line(f"<{number}>", points) for number, points in enumerate(lines)]
    html = draw(Chart("a < b", "x & y", named, log_x=log_x, log_y=log_y, marks=True))
    shown = [
        (x, y)
        for points in lines
        for x, y in points
        if (x > 0 or not log_x) and (y > 0 or not log_y)
    ]
    assert html.startswith("<strong>a &lt; b</strong>")
    if len(shown) < 2:
        assert "<svg" not in html and "fewer than two points" in html
        return
    root = ElementTree.fromstring(html[html.index("<svg") :])
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    assert len(places(html)) == len(shown)
    assert all(0 <= x <= width and 0 <= y <= height for x, y in places(html))


def test_more_is_further_right_and_higher_up() -> None:
    points = [(1.0, 3.0), (10.0, 5.0), (100.0, 4.0)]
    chart = Chart("t", "x", [Line("a", list(reversed(points)))], log_x=True, marks=True)
    (x1, y1), (x2, y2), (x3, y3) = places(draw(chart))
    assert math.isclose(x2 - x1, x3 - x2, abs_tol=0.11) and x1 < x2  # even steps of a logarithm
    assert y2 < y3 < y1
    assert all(f">{tick}</text>" in draw(chart) for tick in ("1", "10", "100"))


def test_lines_keep_their_colours_and_are_told_apart() -> None:
    names = [f"curve {number}" for number in range(17)]
    told = legend(names)
    assert all(name in told for name in names)
    assert len(set(re.findall(r"<path [^>]*>", told))) == 17
    empty = Chart("t", "x", [Line("a", []), Line("b", [(1, 2), (2, 3)])])
    assert "--line1" in draw(empty) and "--line0" not in draw(empty)


def test_a_page_is_whole_and_safe() -> None:
    html = page("a < b", "c & d", [table(("x", "y"), [["<script>", "1"]])])
    assert html.count("<table>") == html.count("</table>") == 1
    assert "<script>" not in html and "a &lt; b" in html and "c &amp; d" in html


def test_a_report_holds_figures_films_and_curves(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write_report(
        path,
        title="a < b",
        summary="what it is",
        figures=[Figure("caption/colour", 0.25, 8, chance=0.125)],
        protocol="how",
        curves=[Chart("loss", "steps", [Line("loss", [(0, 2.0), (1, 1.0)])])],
        galleries=[Gallery("films", "of words", [Card([Film(b"GIF", "c")], [("it", "is", True)])])],
    )
    html = path.read_text()
    assert (
        "<td>caption: colour</td><td>0.250</td><td>0.125</td><td></td><td></td><td>8</td>" in html
    )
    assert html.count("<polyline") == 1 and "data:image/gif;base64,R0lG" in html
    assert "<dd class=good>is</dd>" in html and html.startswith("<!doctype html>")
