"""Figures of times: how well a model says when things happen, what happens then, and all of it.

Each stands beside what is earned without looking. Knows clips with events. Knows no pixels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from data.clip import Clip, Event
from lm.document import Time
from lm.figures import Figure
from lm.judging import Tally
from lm.locating import describe, list_events, locate
from tokenizer.tokens import VideoTokens

if TYPE_CHECKING:
    from lm.tasks import Model

CLOSE = 0.25  # seconds within which a time counts as found
OVERLAP = 0.5  # of two stretches, over their union, from which they count as the same


def time_figures(
    model: Model,
    clips: Sequence[Clip],
    tokens: Sequence[VideoTokens],
    progress: Callable[[int], None] | None = None,
) -> list[Figure]:
    """`locate_*`, `describe_exact` and `events_*`; none for a model that was not taught times.

    Args:
        model: The model.
        clips: Clips it was not trained on; those without events are left out.
        tokens: The same clips as the model reads them.
        progress: Told of clips as they are done.
    """
    rows = [(c, t) for c, t in zip(clips, tokens, strict=True) if c.events]
    if "events" not in model.taught or not rows:
        return []
    asked = [(event, shown) for clip, shown in rows for event in clip.events]
    truths = [event for event, _ in asked]
    seen = [shown for _, shown in asked]
    found = locate(model, seen, [event.text for event in truths], progress)
    said = describe(model, seen, [Time(event.start, event.end) for event in truths])
    listed = list_events(model, [shown for _, shown in rows])
    tally = Tally()
    for text, truth in zip(said, truths, strict=True):
        tally.add("describe/exact", text == truth.text)
    for events, (clip, _) in zip(listed, rows, strict=True):
        right = matched(events, clip.events)
        tally.add("events/recall", right, len(clip.events))
        tally.add("events/precision", right, len(events))
    words = Counter(truth.text for truth in truths).most_common(1)[0][1] / len(truths)
    figures = [
        tally.figure(name, majority=words if name == "describe/exact" else None)
        for name in sorted(tally.totals)
    ]
    return [*_located(found, truths), *figures]


def _located(found: Sequence[Time], truths: Sequence[Event]) -> list[Figure]:
    """Error of the start, and how often a time is close, beside always saying the commonest."""
    errors = np.array([abs(f.start - t.start) for f, t in zip(found, truths, strict=True)])
    common = Counter(truth.start for truth in truths).most_common(1)[0][0]
    blind = np.array([abs(common - truth.start) for truth in truths])
    drawn = np.random.default_rng(0).integers(len(errors), size=(1000, len(errors)))
    low, high = np.quantile(errors[drawn].mean(1), (0.025, 0.975))
    tally, guess = Tally(), Tally()
    usual = Counter((truth.start, truth.end) for truth in truths).most_common(1)[0][0]
    for time, truth in zip(found, truths, strict=True):
        tally.add("locate/right", same_time(time, truth))
        guess.add("locate/right", same_time(Time(*usual), truth))
    return [
        Figure(
            "locate_start_error",
            float(errors.mean()),
            len(errors),
            majority=float(blind.mean()),
            low=float(low),
            high=float(high),
            unit="s",
        ),
        tally.figure("locate/right", majority=guess.share("locate/right")),
    ]


def same_time(time: Time, truth: Event) -> bool:
    """Whether a time names the event's: moments to within `CLOSE`, stretches by their overlap."""
    if truth.end is None or time.end is None:
        return truth.end == time.end and abs(time.start - truth.start) <= CLOSE
    shared = min(time.end, truth.end) - max(time.start, truth.start)
    union = max(time.end, truth.end) - min(time.start, truth.start)
    return shared >= OVERLAP * union


def matched(events: Sequence[Event], truths: Sequence[Event]) -> int:
    """How many true events are listed in their own words and at their time, each counted once."""
    left = list(events)
    for truth in truths:
        for event in left:
            if event.text == truth.text and same_time(Time(event.start, event.end), truth):
                left.remove(event)
                break
    return len(events) - len(left)
