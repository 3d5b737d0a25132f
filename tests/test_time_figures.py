"""Figures of times and frames: right answers count, wrong ones do not."""

from __future__ import annotations

import pytest
import torch

from data.clip import Clip, Event
from lm.document import Time
from lm.drawing import Sampling
from lm.evaluate import evaluate
from lm.frame_figures import blended, frame_figures, held, moved_on
from lm.tasks import Model
from lm.time_figures import matched, same_time, time_figures


@pytest.mark.parametrize(
    ("time", "truth", "same"),
    [
        (Time(1.0), Event("x", 1.2), True),
        (Time(1.0), Event("x", 1.3), False),
        (Time(1.0, 2.0), Event("x", 1.0), False),
        (Time(0.0, 1.0), Event("x", 0.0, 2.0), True),
        (Time(0.0, 1.0), Event("x", 0.0, 2.1), False),
        (Time(0.0, 1.0), Event("x", 2.0, 3.0), False),
    ],
)
def test_times_are_the_same_when_they_are_near(time: Time, truth: Event, same: bool) -> None:
    assert same_time(time, truth) == same


def test_each_true_event_is_found_once() -> None:
    truths = [Event("a", 0.0, 1.0), Event("b", 1.0)]
    assert matched(truths, truths) == 2
    assert matched([truths[0], truths[0]], truths) == 1
    assert matched([Event("a", 5.0, 6.0), Event("b", 1.1)], truths) == 1
    assert matched([], truths) == 0


def test_an_untaught_model_has_no_such_figures(model: Model, clips: list[Clip]) -> None:
    assert time_figures(model, clips, model.encode_batch(clips)) == []


def test_figures_of_a_taught_model(
    model: Model, clips: list[Clip], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that says the truth scores 1, and no error."""
    taught = Model(model.decoder, model.vocabulary, model.codec, ("events",))
    truths = [event for clip in clips for event in clip.events]
    times = [Time(event.start, event.end) for event in truths]
    monkeypatch.setattr("lm.time_figures.locate", lambda *_: times)
    monkeypatch.setattr("lm.time_figures.describe", lambda *_: [e.text for e in truths])
    monkeypatch.setattr("lm.time_figures.list_events", lambda *_: [list(c.events) for c in clips])
    found = {f.name: f for f in time_figures(taught, clips, model.encode_batch(clips))}
    assert found.pop("locate_start_error").value == 0
    assert {name: figure.value for name, figure in found.items()} == {
        "locate_right": 1,
        "describe_exact": 1,
        "events_recall": 1,
        "events_precision": 1,
    }
    assert found["describe_exact"].majority == 0.5  # "it stops", of each clip


def test_frames_that_need_no_model() -> None:
    luck = torch.Generator().manual_seed(0)
    wide = torch.randint(0, 256, (3, 8, 40), dtype=torch.uint8, generator=luck)
    film = torch.stack([wide[:, :, 2 * t : 2 * t + 20] for t in range(4)])
    going_on = torch.stack([wide[:, :, 2 * t : 2 * t + 20] for t in (4, 5)])
    guess = moved_on(film, 2)
    assert torch.equal(guess[:, :, :, :16], going_on[:, :, :, :16])
    assert torch.equal(held(film, 2), film[3:].repeat(2, 1, 1, 1))
    still = film[:1].repeat(3, 1, 1, 1)
    ends = torch.tensor([0, 2])
    assert torch.equal(blended(still, ends), still) and torch.equal(moved_on(still, 3), still)
    known = torch.tensor([0, 2, 3])
    faded = blended(film, known)
    assert torch.equal(faded[known], film[known])
    between = ((film[0].float() + film[2].float()) / 2).round().byte()
    assert torch.equal(faded[1], between)


def test_frame_figures_stand_beside_baselines(model: Model, clips: list[Clip]) -> None:
    taught = Model(model.decoder, model.vocabulary, model.codec, ("fill",))
    found = {f.name: f for f in frame_figures(taught, clips[:2], 0, Sampling(guidance=1.0))}
    drawn = "", "_unguided", "_codec"
    filled = *drawn, "_blend", "_best_of_4"
    assert set(found) == {
        *(f"continue_psnr{way}" for way in (*drawn, "_last_frame", "_linear_motion")),
        *(f"{name}_psnr{way}" for name in ("infill", "keyframes") for way in filled),
    }
    halves = [(clip.frames[1:2].expand(2, -1, -1, -1), clip.frames[2:]) for clip in clips[:2]]
    errors = [((a.double() - b.double()) / 255).square().mean() for a, b in halves]
    by_hand = -10 * torch.stack(errors).mean().log10()
    assert found["continue_psnr_last_frame"].value == pytest.approx(float(by_hand), abs=1e-3)
    assert all(f.low is not None and f.low <= f.value <= (f.high or 0) for f in found.values())
    assert found["continue_psnr"].value == found["continue_psnr_unguided"].value  # guidance is 1
    with pytest.warns(UserWarning, match="not trained at"):
        few = frame_figures(taught, clips[:2], 0, Sampling(guidance=1.0), tokens_per_frame=1)
    assert {f.name for f in few} == set(found)
    assert {f.name: f.value for f in few}["continue_psnr_codec"] < found[
        "continue_psnr_codec"
    ].value


def test_evaluation_has_them(model: Model, clips: list[Clip]) -> None:
    taught = Model(model.decoder, model.vocabulary, model.codec, ("events", "fill"))
    names = {figure.name for figure in evaluate(taught, clips[:2], num_films=1).figures}
    assert {"locate_right", "events_recall", "continue_psnr", "infill_psnr_codec"} <= names
