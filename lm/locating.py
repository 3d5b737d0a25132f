"""Locating: when something happens in a video, what happens in a stretch of it, and all of it.

Times are seconds of the video as the model reads it, counted from its first frame. Knows prompts
about times. Knows no pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from data.clip import Event
from lm.completing import GREEDY, ROWS, Progress, chunks, complete
from lm.document import Item, Nothing, Text, Time
from lm.prompting import watching
from lm.sampling import Prompt, Sampling, continue_streams
from lm.watching import Seen

if TYPE_CHECKING:
    from lm.tasks import Model

MAX_EVENTS = 512  # tokens of a list of events


def locate(
    model: Model, videos: Sequence[Seen], events: Sequence[str], progress: Progress | None = None
) -> list[Time]:
    """When each event happens in the video at the same place.

    Args:
        model: What reads and answers.
        videos: What to look at.
        events: What to look for, such as "the red circle moves left".
        progress: Called with the number of videos done, chunk by chunk.

    Raises:
        ValueError: an empty event, or a model that was not taught times.
    """
    check_taught(model)
    prompts = [
        watching(model.vocabulary, tokens, _event(event), mark="<at>")
        for tokens, event in zip(model.encode_batch(videos), events, strict=True)
    ]
    return [_time(item) for item in complete(model, prompts, progress=progress)]


def describe(
    model: Model, videos: Sequence[Seen], times: Sequence[Time], progress: Progress | None = None
) -> list[str]:
    """What happens in a stretch of the video at the same place."""
    check_taught(model)
    prompts = [
        watching(model.vocabulary, tokens, time, mark="<event>")
        for tokens, time in zip(model.encode_batch(videos), times, strict=True)
    ]
    return [_text(item) for item in complete(model, prompts, progress=progress)]


def list_events(
    model: Model, videos: Sequence[Seen], progress: Progress | None = None
) -> list[list[Event]]:
    """All that happens in each video, in order of time: its dense captions."""
    check_taught(model)
    tokens = model.encode_batch(videos)
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
    return found


def check_taught(model: Model) -> None:
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


def _event(words: str) -> Text:
    if not words.strip():
        raise ValueError("the event is empty: say what to look for")
    return Text("event", words)


def _time(item: Item) -> Time:
    assert isinstance(item, Time)
    return item


def _text(item: Item) -> str:
    assert isinstance(item, Text)
    return item.text
