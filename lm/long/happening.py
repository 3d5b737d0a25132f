"""When something happens in a video of any length, and all that happens in it.

A model that was taught times is asked about every part; of several parts in which it finds what is
looked for, the one that is likeliest to be described by those words counts. Knows parts and prompts
about times. Knows no pixels.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from data.clip import Event
from lm.document import Item, Nothing, Text, Time
from lm.locating import check_event, check_taught, list_events, locate
from lm.long.answer import LongAnswer, TimedText
from lm.long.asking import Long, chosen_parts
from lm.long.parts import Part
from lm.long.query import together
from lm.long.reader import ModelReader
from lm.prompting import watching
from lm.scoring import score_texts
from lm.sequence import write_item
from lm.watching import Seen

if TYPE_CHECKING:
    from lm.video_reader import VideoReader

BY_PARTS = ("chunks", "overlap", "keyframes", "recall")


def locate_long(model: VideoReader, video: Seen, event: str, long: str = "chunks") -> LongAnswer:
    """When an event happens in a video of any length.

    Each part is asked when it happens there, and how likely the event's words are as what happens
    at that time; the likeliest part is believed.

    Args:
        model: What reads and answers.
        video: Read part by part, as it comes.
        event: What to look for, such as "the red circle moves left".
        long: A strategy of `BY_PARTS`, see `lm.long.asking`.

    Returns:
        The event, with `seconds` of where it was found (start and end alike for a moment) and
        `margin`, by how many nats that part is likelier than the next.

    Raises:
        ValueError: an empty event, another strategy, or a model that was not taught times.
    """
    asked_for = check_event(event)
    tokens = readings = 0
    found: list[tuple[float, float, float]] = []  # likelihood, start and end
    for parts in together(_parts(model, video, long)):
        shown = [part.tokens for part in parts]
        times = locate(model, shown, [event] * len(shown))
        asked = [watching(model.vocabulary, seen, asked_for, mark="<at>") for seen in shown]
        told = [
            watching(model.vocabulary, seen, time, mark="<event>")
            for seen, time in zip(shown, times, strict=True)
        ]
        scores, lengths = score_texts(model.decoder, model.grammar, told, [event])
        for part, time, score in zip(parts, times, scores[:, 0].tolist(), strict=True):
            start, end = _in_video(part, time.start), _in_video(part, time.end)
            found.append((score, start, end))
        tokens += sum(map(len, asked + told)) + len(told) * int(lengths[0])
        tokens += sum(_size(model, time) for time in times)
        readings += 2 * len(parts)
    if not found:
        raise ValueError("the video has no part to look at: give one of a frame or more")
    (best, start, end), *others = sorted(found, key=lambda each: -each[0])
    margin = best - others[0][0] if others else None
    return LongAnswer(event, margin, tokens, readings, (start, max(start, end)))


def events_long(model: VideoReader, video: Seen, long: str = "chunks") -> LongAnswer:
    """All that happens in a video of any length, part by part: `parts`, with their seconds.

    A moment begins and ends at the same second. What goes on across the border of two parts is
    listed in both.

    Raises:
        ValueError: as `locate_long`.
    """
    tokens = readings = 0
    listed: list[TimedText] = []
    for parts in together(_parts(model, video, long)):
        shown = [part.tokens for part in parts]
        for part, seen, events in zip(parts, shown, list_events(model, shown), strict=True):
            tokens += len(watching(model.vocabulary, seen, mark=None)) + _length(model, events)
            for event in events:
                start, end = _in_video(part, event.start), _in_video(part, event.end)
                listed.append(TimedText(start, max(start, end), event.text))
        readings += len(parts)
    text = "\n".join(map(str, listed))
    return LongAnswer(text, None, tokens, readings, parts=tuple(listed))


def _parts(model: VideoReader, video: Seen, long: str) -> Iterable[Part]:
    check_taught(model)
    name = re.match("[^=/]*", long.strip())
    if name is None or name.group() not in BY_PARTS:
        raise ValueError(f"long={long!r}: times are found by parts, with {', '.join(BY_PARTS)}")
    way = Long.parse(long)
    if way.how is not None:
        raise ValueError(f"long={long!r}: leave out /{way.how}: the likeliest part is believed")
    footage = way.footage(video, model)
    return (part for part, _ in chosen_parts(ModelReader(model), footage, way))


def _in_video(part: Part, seconds: float | None) -> float:
    """A second of a part as one of the video; none is no later than any."""
    return -math.inf if seconds is None else round(min(part.start + seconds, part.end), 3)


def _size(model: VideoReader, item: Item) -> int:
    return len(write_item(item, model.vocabulary).ids)


def _length(model: VideoReader, events: Iterable[Event]) -> int:
    """Tokens of a list of events, its end among them."""
    items: list[Item] = [Nothing()]
    for event in events:
        items += [Time(event.start, event.end), Text("event", event.text)]
    return sum(_size(model, item) for item in items)
