"""What is said about the clips of a folder: the rows of metadata.jsonl or metadata.csv.

It checks rows and names the file and line of what is wrong. It never opens a video.
"""

from __future__ import annotations

import csv
import difflib
import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from data.clip import Clip, Event, Question

METADATA_FILES = ("metadata.jsonl", "metadata.csv")
_KEYS = ("file_name", "text", "questions", "labels", "events", "start", "end", "truth")
_QUESTION_KEYS = ("question", "answer", "kind", "choices")
_EVENT_KEYS = ("text", "start", "end")


@dataclass(frozen=True)
class Row:
    """One clip of a folder: a file, or the part of it between two times, and what is said of it."""

    file_name: str  # relative to the folder of the metadata
    captions: tuple[str, ...] = ()
    questions: tuple[Question, ...] = ()
    labels: dict[str, str] = field(default_factory=dict)
    start: float | None = None  # seconds of the file
    end: float | None = None  # seconds of the file
    truth: dict[str, Any] | None = None
    events: tuple[Event, ...] = ()  # times are seconds of the file
    place: str = ""  # file and line it was read from, for messages


def find_metadata(folder: Path) -> Path | None:
    """The metadata file of a folder, if it has one.

    Raises:
        ValueError: It has two.
    """
    found = [folder / name for name in METADATA_FILES if (folder / name).exists()]
    if len(found) > 1:
        raise ValueError(f"{folder} has {' and '.join(METADATA_FILES)}: remove one of them")
    return found[0] if found else None


def read_metadata(path: Path) -> list[Row]:
    """The checked rows of a metadata file, in its order.

    Raises:
        ValueError: A wrong row, named by file and line: bad JSON, an unknown or missing key, a
            value of the wrong kind, a file that does not exist or one listed twice.
    """
    rows: list[Row] = []
    seen: dict[tuple[str, float | None, float | None], str] = {}
    for line, values in _read_csv(path) if path.suffix == ".csv" else _read_jsonl(path):
        place = f"{path}:{line}"
        row = _parse(values, place)
        if not (path.parent / row.file_name).exists():
            raise ValueError(f"{place}: no file '{row.file_name}' in {path.parent}; add or drop it")
        key = (row.file_name, row.start, row.end)
        if key in seen:
            raise ValueError(
                f"{place}: '{row.file_name}' is already in {seen[key]}; drop one, "
                "or give different start and end"
            )
        seen[key] = place
        rows.append(row)
    if not rows:
        raise ValueError(f"{path} lists no clips; add rows or delete the file")
    return rows


def metadata_row(clip: Clip, file_name: str) -> str:
    """The line of metadata.jsonl, without its end, that says of the file what the clip says."""
    row: dict[str, Any] = {"file_name": file_name}
    if clip.captions:
        row["text"] = clip.captions[0] if len(clip.captions) == 1 else list(clip.captions)
    if clip.questions:
        row["questions"] = [asdict(question) for question in clip.questions]
    if clip.labels:
        row["labels"] = clip.labels
    if clip.events:
        row["events"] = [asdict(event) for event in clip.events]
    if clip.truth is not None:
        row["truth"] = clip.truth
    return json.dumps(row, ensure_ascii=False, allow_nan=False)


def parse_questions(value: Any, place: str) -> tuple[Question, ...]:
    """Questions from a list of dicts, as metadata and dataset columns hold them."""
    if not isinstance(value, list):
        raise ValueError(f"{place}: questions={value!r}; give a list of {{question, answer}}")
    found = []
    for item in value:
        if not isinstance(item, dict) or not {"question", "answer"} <= item.keys():
            raise ValueError(f"{place}: question {item!r}; give it a question and an answer")
        _check_keys(item, _QUESTION_KEYS, place)
        listed = item.get("choices") or ()
        if not isinstance(listed, list | tuple):
            raise ValueError(f"{place}: choices={listed!r}; give a list of answers")
        choices = tuple(str(choice) for choice in listed)
        answer = str(item["answer"])
        if choices and answer not in choices:
            raise ValueError(
                f"{place}: answer '{answer}' is not in choices {list(choices)}; add it"
            )
        found.append(
            Question(str(item["question"]), answer, str(item.get("kind") or "open"), choices)
        )
    return tuple(found)


def parse_events(value: Any, place: str) -> tuple[Event, ...]:
    """Events in order of time, from a list of dicts, as metadata and dataset columns hold them."""
    if not isinstance(value, list):
        raise ValueError(f"{place}: events={value!r}; give a list of {{text, start, end}}")
    found = []
    for item in value:
        if not isinstance(item, dict) or not {"text", "start"} <= item.keys():
            raise ValueError(f"{place}: event {item!r}; give it a text and a start in seconds")
        _check_keys(item, _EVENT_KEYS, place)
        start, end = _seconds(item, "start", place), _seconds(item, "end", place)
        if start is None:
            raise ValueError(f"{place}: event {item!r}; give it a start in seconds")
        try:
            found.append(Event(str(item["text"]), start, end))
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from None
    return tuple(sorted(found, key=lambda event: event.start))


def parse_captions(value: Any, place: str) -> tuple[str, ...]:
    """Captions from a string or a list of them; blank ones are none."""
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"{place}: text={value!r}; give a string or a list of strings")
    return tuple(text.strip() for text in texts if text.strip())


def parse_labels(value: Any, place: str) -> dict[str, str]:
    """Labels from a dict of plain values."""
    plain = isinstance(value, dict) and all(
        isinstance(entry, str | int | float) for entry in value.values()
    )
    if not plain:
        raise ValueError(f"{place}: labels={value!r}; give a dict such as {{'action': 'jump'}}")
    return {str(key): str(entry) for key, entry in value.items()}


def _parse(values: dict[str, Any], place: str) -> Row:
    _check_keys(values, _KEYS, place)
    given = {key: value for key, value in values.items() if value is not None}
    name = given.get("file_name")
    if not isinstance(name, str) or not name:
        raise ValueError(f"{place}: file_name={name!r}; give the clip's file name")
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise ValueError(f"{place}: file_name='{name}'; give a name inside the folder")
    start, end = _seconds(given, "start", place), _seconds(given, "end", place)
    if end is not None and end <= (start or 0.0):
        raise ValueError(f"{place}: start={start} and end={end}; end must come after start")
    truth = given.get("truth")
    if truth is not None and not isinstance(truth, dict):
        raise ValueError(f"{place}: truth={truth!r}; give a dict")
    return Row(
        file_name=name,
        captions=parse_captions(given.get("text", []), place),
        questions=parse_questions(given.get("questions", []), place),
        labels=parse_labels(given.get("labels", {}), place),
        start=start,
        end=end,
        truth=truth,
        events=parse_events(given.get("events", []), place),
        place=place,
    )


def _seconds(values: dict[str, Any], key: str, place: str) -> float | None:
    value = values.get(key)
    if value is None:
        return None
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        seconds = math.nan
    if isinstance(value, bool) or not 0 <= seconds < math.inf:
        raise ValueError(f"{place}: {key}={value!r}; give seconds of 0 or more")
    return seconds


def _check_keys(values: dict[str, Any], known: tuple[str, ...], place: str) -> None:
    for key in values:
        if key not in known:
            close = difflib.get_close_matches(str(key), known, n=1)
            hint = f"did you mean '{close[0]}'?" if close else "drop it or put it under labels;"
            raise ValueError(f"{place}: unknown key '{key}'; {hint} known: {', '.join(known)}")


def _read_jsonl(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with open(path, "rb") as file:
        for number, content in enumerate(file, start=1):
            line = _text(content, f"{path}:{number}")
            if not line.strip():
                continue
            try:
                values = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise ValueError(f"{path}:{number}: not JSON ({error}); mend the line") from None
            if not isinstance(values, dict):
                raise ValueError(
                    f"{path}:{number}: {line.strip()[:40]!r}; give a JSON object a line"
                )
            yield number, values


def _read_csv(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    content = path.read_bytes()
    lines = [_text(line, f"{path}:{i}") for i, line in enumerate(content.splitlines(True), 1)]
    reader = csv.DictReader(lines)
    for row in reader:
        place = f"{path}:{reader.line_num}"
        if None in row or None in row.values():
            raise ValueError(
                f"{place}: not {len(reader.fieldnames or ())} fields; quote commas within one"
            )
        values: dict[str, Any] = {key: value or None for key, value in row.items()}
        for key in ("questions", "labels", "events", "truth"):
            if values.get(key):
                values[key] = _from_json(values[key], f"{place}: {key}")
        if (values.get("text") or "").startswith("["):
            values["text"] = _from_json(values["text"], f"{place}: text")
        yield reader.line_num, values


def _text(line: bytes, place: str) -> str:
    try:
        return line.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise ValueError(f"{place}: not UTF-8 text ({error.reason}); save it as UTF-8") from None


def _from_json(text: str, place: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{place} is not JSON ({error}); mend the field") from None
