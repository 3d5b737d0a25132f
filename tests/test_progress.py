"""Bars: what passes under one is what was given, and only a bar that is seen asks how many."""

from __future__ import annotations

import io
import sys
from itertools import count, islice

import pytest

from tokenizer.progress import shown


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def never() -> int:
    raise AssertionError("asked how many, for nobody to see")


def test_without_a_terminal_nothing_is_counted_or_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(shown(range(3), "clip.mp4", never)) == [0, 1, 2]
    assert list(islice(shown(count(), "-", never), 4)) == [0, 1, 2, 3]
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("total", [3, None])
def test_a_terminal_sees_name_and_number(
    total: int | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    assert list(shown("abc", "[bold]clip.mp4", lambda: total)) == ["a", "b", "c"]
    said = terminal.getvalue()
    assert "[bold]clip.mp4" in said and f"3/{total or '?'}" in said
    assert capsys.readouterr().out == ""
