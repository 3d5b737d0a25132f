"""Locating: when something happens in a video, what happens in a stretch of it, and all of it.

Times are seconds of the video itself, also where the model sees all of it in the shorter time it
was trained on. Knows prompts about times. Knows no pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from data.clip import Event
from lm.completing import GREEDY, ROWS, Progress, chunks, complete
from lm.document import Item, Nothing, Text, Time
from lm.drawing import Sampling
from lm.prompting import watching
from lm.sampling import Prompt, continue_streams
from lm.watching import Clock, Seen, as_clip
from tokenizer.tokens import VideoTokens

if TYPE_CHECKING:
    from lm.video_reader import VideoReader

MAX_EVENTS = 512  # tokens of a list of events


def locate(
    model: VideoReader,
    videos: Sequence[Seen],
    events: Sequence[str],
    progress: Progress | None = None,
    tokens_per_frame: float | None = None,
) -> list[Time]:
    """When each event happens in the video at the same place.

    Args:
        model: What reads and answers.
        videos: What to look at.
        events: What to look for, such as "the red circle moves left".
        progress: Called with the number of videos done, chunk by chunk.
        tokens_per_frame: At most so many; None: the rate the model was trained at.

    Raises:
        ValueError: an empty event, or a model that was not taught times.
    """
    tokens, clocks = _read(model, videos, tokens_per_frame)
    prompts = [
        watching(model.vocabulary, video, check_event(event), mark="<at>")
        for video, event in zip(tokens, events, strict=True)
    ]
    found = complete(model, prompts, progress=progress)
    return [_in_video(_time(item), clock) for item, clock in zip(found, clocks, strict=True)]


def describe(
    model: VideoReader,
    videos: Sequence[Seen],
    times: Sequence[Time],
    progress: Progress | None = None,
    tokens_per_frame: float | None = None,
) -> list[str]:
    """What happens in a stretch of the video at the same place.

    Raises:
        ValueError: a stretch that is not in the video, or a model not taught times.
    """
    tokens, clocks = _read(model, videos, tokens_per_frame)
    prompts = [
        watching(model.vocabulary, video, _as_seen(time, clock), mark="<event>")
        for video, time, clock in zip(tokens, times, clocks, strict=True)
    ]
    return [_text(item) for item in complete(model, prompts, progress=progress)]


def list_events(
    model: VideoReader,
    videos: Sequence[Seen],
    progress: Progress | None = None,
    tokens_per_frame: float | None = None,
) -> list[list[Event]]:
    """All that happens in each video, in order of time: its dense captions."""
    tokens, clocks = _read(model, videos, tokens_per_frame)
    prompts = [watching(model.vocabulary, video, mark=None) for video in tokens]
    found: list[list[Event]] = []
    for part in chunks(prompts, ROWS):
        states = continue_streams(
            model.decoder,
            model.grammar,
            [Prompt(ids) for ids in part],
            sampling=Sampling(text=GREEDY),
            follow=_next_mark,
            max_new=MAX_EVENTS,
        )
        found += [_paired(state.items) for state in states]
        if progress is not None:
            progress(len(part))
    return [
        [_moved(event, clock) for event in events]
        for events, clock in zip(found, clocks, strict=True)
    ]


def _read(
    model: VideoReader, videos: Sequence[Seen], tokens_per_frame: float | None
) -> tuple[list[VideoTokens], list[Clock]]:
    check_taught(model)
    shown = [video if isinstance(video, VideoTokens) else as_clip(video) for video in videos]
    tokens = model.encode_batch(shown, tokens_per_frame)
    return tokens, [Clock.of(model.framing, video) for video in shown]


def _in_video(time: Time, clock: Clock) -> Time:
    """A time in seconds of the video; one of which nothing is left there is a moment."""
    start = clock.in_video(time.start)
    end = None if time.end is None else clock.in_video(time.end)
    return Time(start, end if end is not None and end > start else None)


def _moved(event: Event, clock: Clock) -> Event:
    time = _in_video(Time(event.start, event.end), clock)
    return Event(event.text, time.start, time.end)


def _as_seen(time: Time, clock: Clock) -> Time:
    first, last = clock.true[0], clock.true[-1]
    if not first <= time.start <= last:
        raise ValueError(f"start={time.start:g}: the video lasts from {first:g} to {last:g} s")
    start = clock.as_seen(time.start)
    if time.end is None:
        return Time(start)
    if not time.end > time.start:
        raise ValueError(f"end={time.end:g}: give one after the start, {time.start:g}")
    if time.end > last + 0.001:
        raise ValueError(f"end={time.end:g}: the video lasts from {first:g} to {last:g} s")
    return Time(start, max(clock.as_seen(time.end), start + 0.001))


def check_taught(model: VideoReader) -> None:
    """Raise ValueError unless the model learned from clips with events."""
    if "events" not in model.taught:
        raise ValueError(
            "this model was not taught when things happen: train on clips with `events`, with "
            "--data.mixture.events 2"
        )


def _next_mark(items: Sequence[Item]) -> tuple[str, ...]:
    """Marks that may open the next item of a list of events; none after its end."""
    if isinstance(items[-1], Nothing):
        return ()
    return ("<event>",) if isinstance(items[-1], Time) else ("<at>", "<nothing>")


def _paired(items: Sequence[Item]) -> list[Event]:
    """Events of a list; one whose words are blank is left out, they say nothing."""
    told = [item for item in items if isinstance(item, Time | Text)]
    pairs = zip(told[::2], told[1::2], strict=False)
    times = [(_time(time), _text(text)) for time, text in pairs]
    return [Event(text, time.start, time.end) for time, text in times if text.strip()]


def check_event(words: str) -> Text:
    """The event as an item; ValueError for an empty one."""
    if not words.strip():
        raise ValueError("the event is empty: say what to look for")
    return Text("event", words)


def _time(item: Item) -> Time:
    assert isinstance(item, Time)
    return item


def _text(item: Item) -> str:
    assert isinstance(item, Text)
    return item.text
