"""When things happen in long videos, on a tiny model of random weights and on made answers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from data.clip import Clip
from data.writing import write_video
from lm.document import Time
from lm.long.answer import TimedText
from lm.model import Decoder
from lm.tasks import Model
from lm.time_commands import Happening, Located, events, locate


@pytest.fixture(scope="module")
def taught(model: Model) -> Model:
    """The tiny model with room for lists of events."""
    decoder = Decoder(replace(model.decoder.config, context=400), model.decoder.code_features)
    decoder.load_state_dict(model.decoder.state_dict())
    return Model(decoder, model.vocabulary, model.codec, ("events",))


def joined(clips: list[Clip]) -> Clip:
    """Clips one after the other, in even time."""
    frames = torch.cat([clip.frames for clip in clips])
    fps = clips[0].fps
    assert fps is not None
    return Clip(frames, torch.arange(len(frames), dtype=torch.float64) / fps)


def test_a_video_of_one_part_is_located_as_a_clip(taught: Model, clips: list[Clip]) -> None:
    clip = clips[0]
    time, found = taught.locate(clip, "it stops"), taught.locate_long(clip, "it stops")
    assert found.seconds == (time.start, time.start if time.end is None else time.end)
    assert found.text == "it stops" and found.margin is None and found.readings == 2
    listed, told = taught.events(clip), taught.events_long(clip)
    assert [(e.start, e.start if e.end is None else e.end, e.text) for e in listed] == [
        (part.start, part.end, part.text) for part in told.parts
    ]
    assert told.readings == 1 and told.tokens > taught.encode(clip).num_tokens


def test_the_part_that_fits_best_is_believed(
    taught: Model, clips: list[Clip], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seconds are those of the whole video, far beyond the second that any clip in training had."""
    film, length = joined(clips[:3] * 5), len(clips[0])
    at, seconds = 11, length / (clips[0].fps or 1)
    monkeypatch.setattr(
        "lm.long.happening.locate", lambda model, videos, events: [Time(0.25, 0.5)] * len(videos)
    )

    def scored(_: object, __: object, prompts: list[list[int]], ___: object) -> tuple:
        scores = torch.full((len(prompts), 1), -9.0)
        scores[at] = -0.5
        return scores, torch.tensor([3])

    monkeypatch.setattr("lm.long.happening.score_texts", scored)
    found = taught.locate_long(film, "it stops")
    assert found.seconds == (at * seconds + 0.25, at * seconds + 0.5)
    assert found.margin == 8.5 and found.readings == 30


def test_events_of_parts_stand_at_their_seconds(taught: Model, clips: list[Clip]) -> None:
    film, seconds = joined(clips[:2]), len(clips[0]) / (clips[0].fps or 1)
    told = taught.events_long(film).parts
    first, second = (taught.events_long(clip).parts for clip in clips[:2])
    assert told[: len(first)] == first
    assert [part.text for part in told[len(first) :]] == [part.text for part in second]
    moved = [round(part.start + seconds, 3) for part in second]
    assert [part.start for part in told[len(first) :]] == moved


@pytest.mark.parametrize(
    ("long", "message"),
    [
        ("window", "times are found by parts, with chunks"),
        ("hierarchy", "times are found by parts"),
        ("aggregate=2", "times are found by parts"),
        ("chunks/vote", "leave out /vote"),
        ("chunk", "times are found by parts"),
        ("", "times are found by parts"),
        ("keyframes=3", "a whole number of at least 1 may follow chunks"),
    ],
)
def test_strategies_that_know_no_times(
    taught: Model, clips: list[Clip], long: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        taught.locate_long(clips[0], "it stops", long)
    with pytest.raises(ValueError, match=message):
        taught.events_long(clips[0], long)


def test_an_untaught_model_and_an_empty_event(
    model: Model, taught: Model, clips: list[Clip]
) -> None:
    with pytest.raises(ValueError, match="--data.mixture.events"):
        model.locate_long(clips[0], "it stops")
    with pytest.raises(ValueError, match="--data.mixture.events"):
        model.events_long(clips[0])
    with pytest.raises(ValueError, match="event is empty"):
        taught.locate_long(clips[0], " ")


def test_the_commands(taught: Model, clips: list[Clip], tmp_path: Path) -> None:
    saved, video = tmp_path / "m", tmp_path / "clip.gif"
    taught.save(saved)
    write_video(clips[0], video)
    few = taught.encode(video, 1)
    time = taught.locate(few, "it stops")
    assert locate(video, "it stops", saved, 1) == Located(
        str(video), "it stops", time.start, time.end
    )
    listed = [Happening(str(video), e.start, e.end, e.text) for e in taught.events(few)]
    assert events(video, saved, tokens_per_frame=1) == listed
    assert locate(video, "it stops", saved, long="chunks") == taught.locate_long(video, "it stops")
    assert events(video, saved, long="overlap") == taught.events_long(video, "overlap")
    with pytest.raises(ValueError, match="tokens_per_frame=1 with long=chunks"):
        locate(video, "it stops", saved, 1, "chunks")
    with pytest.raises(ValueError, match="start=0 with long=chunks"):
        events(video, saved, start=0.0, long="chunks")


def test_moments_are_one_second() -> None:
    assert str(TimedText(1.5, 1.5, "it stops")) == "1.5 s: it stops"
    assert str(TimedText(1.5, 2.0, "it stops")) == "1.5 to 2 s: it stops"
