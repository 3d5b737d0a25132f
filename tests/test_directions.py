"""Times, talks, infilling and free documents on a tiny model of random weights."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from data.clip import Clip, Event
from data.writing import write_video
from kinolex import main
from lm.choosing import SEED_STEP
from lm.document import Nothing, Task, Text, Time, Video
from lm.drawing import Draw, Sampling
from lm.grammar import Grammar
from lm.guidance import combine
from lm.infilling import read_stills, spread_times
from lm.locating import describe, list_events, locate
from lm.model import Decoder
from lm.prompting import ask_of, opened
from lm.sampling import SEEDS, later_seed
from lm.tasks import Model
from lm.watching import Clock
from tokenizer.command_line import visible
from tokenizer.metrics import squared_error

TAUGHT = ("events", "fill", "talk")


@pytest.fixture(scope="module")
def taught(model: Model) -> Model:
    """The tiny model with room for several turns: with random weights it is long-winded."""
    decoder = Decoder(replace(model.decoder.config, context=400), model.decoder.code_features)
    decoder.load_state_dict(model.decoder.state_dict())
    return Model(decoder, model.vocabulary, model.codec, TAUGHT)


@pytest.fixture
def stills(clips: list[Clip]) -> Clip:
    return clips[0].at(torch.tensor([0, 3]))


def test_what_was_taught_is_saved(taught: Model, tmp_path: Path) -> None:
    taught.save(tmp_path / "m")
    assert Model.load(tmp_path / "m").taught == set(TAUGHT)


def test_what_was_not_taught_is_refused_with_the_remedy(
    model: Model, clips: list[Clip], stills: Clip
) -> None:
    for ask in (
        lambda: model.locate(clips[0], "it stops"),
        lambda: model.describe(clips[0], 0.0),
        lambda: model.events(clips[0]),
    ):
        with pytest.raises(ValueError, match="--data.mixture.events"):
            ask()
    with pytest.raises(ValueError, match="--data.mixture.fill"):
        model.infill(stills)
    for ask in (lambda: model.chat(clips[0], clips[1]), model.write):
        with pytest.raises(ValueError, match="--data.mixture.talk"):
            ask()


def test_times_come_alike_alone_and_together(taught: Model, clips: list[Clip]) -> None:
    events = ["it stops", "the ball falls", "a much longer event that nobody has ever seen"] * 2
    together = locate(taught, clips, events)
    assert together == [taught.locate(c, e) for c, e in zip(clips, events, strict=True)]
    assert all(time.start >= 0 and (time.end is None or time.end > time.start) for time in together)
    times = [Time(0.0, min(1.0, 0.25 * (i + 1))) for i in range(len(clips))]
    said = describe(taught, clips, times)
    assert said == [taught.describe(c, t.start, t.end) for c, t in zip(clips, times, strict=True)]


def test_lists_of_events_are_events(taught: Model, clips: list[Clip]) -> None:
    for listed, clip in zip(list_events(taught, clips[:2]), clips[:2], strict=True):
        assert listed == taught.events(clip)
        assert all(isinstance(event, Event) and event.text.strip() for event in listed)


def test_bad_questions_about_time_are_refused(taught: Model, clips: list[Clip]) -> None:
    with pytest.raises(ValueError, match="event is empty"):
        taught.locate(clips[0], "  ")
    with pytest.raises(ValueError, match="give one after the start"):
        taught.describe(clips[0], 1.0, 0.5)


def test_a_talk_is_one_stream(taught: Model, clips: list[Clip]) -> None:
    talk = taught.chat(clips[0])
    first = talk.ask("what colour is it?")
    talk.show(clips[1], tokens_per_frame=1)
    kept = list(talk.items)
    second = talk.ask("and this one?")
    assert [type(item) for item in talk.items] == [Video, Text, Text, Video, Text, Text]
    ids = opened(taught.vocabulary, [Task("talk"), *kept, talk.items[-2]], "<answer>")
    state = Grammar(taught.vocabulary).start()
    for token in ids:
        state.push(token)
    assert (first, second) == (talk.items[2].text, talk.items[5].text)  # pyright: ignore
    before = list(talk.items)
    with pytest.raises(ValueError, match="more than the context of 400: ask in fewer") as caught:
        talk.ask("what colour is it? " * 60)
    items = [Task("talk"), *talk.items, ask_of("what colour is it? " * 60)]
    taken = len(opened(taught.vocabulary, items, "<answer>"))
    assert f"takes {taken} tokens, with the shortest answer {taken - 399} more" in str(caught.value)
    for remedy in ("fewer words", "begin anew", "fewer tokens a frame"):
        assert remedy in str(caught.value)
    with pytest.raises(ValueError, match="question is empty"):
        talk.ask(" ")
    with pytest.raises(
        ValueError,
        match=r"with this video .* [1-9]\d* more than the context of 400: show it at fewer tokens",
    ):
        for _ in range(60):
            talk.show(clips[0])
            before = list(talk.items)
    assert talk.items == before
    talk.forget()
    with pytest.raises(ValueError, match="no video was shown"):
        talk.ask("what colour is it?")


def test_a_video_that_may_be_shown_may_be_asked_about(
    taught: Model, clips: list[Clip], monkeypatch: pytest.MonkeyPatch
) -> None:
    video = [Task("talk"), Video(taught.encode(clips[0]))]
    taken, config = len(opened(taught.vocabulary, video, "<question>")), taught.decoder.config
    shown = []
    for context in range(taken, taken + 8):
        monkeypatch.setattr(taught.decoder, "config", replace(config, context=context))
        try:
            talk = taught.chat(clips[0])
        except ValueError:
            shown.append(False)
        else:
            assert isinstance(talk.ask("?"), str)
            shown.append(True)
    assert shown == sorted(shown) and True in shown and False in shown


def test_a_talk_of_one_turn_is_a_question(model: Model, clips: list[Clip]) -> None:
    """Where nothing else was taught, a talk begins as questions were trained."""
    talk = model.chat(clips[0])
    assert talk.ask("what colour is it?") == model.ask(clips[0], "what colour is it?")


def test_free_documents_are_texts_and_clips(taught: Model, clips: list[Clip]) -> None:
    said = [
        part for seed in range(12) for part in taught.write(seed=seed, sampling=HOT, max_new=40)
    ]
    assert {type(part) for part in said} >= {str}
    start = [Text("caption", "a red ball"), Video(taught.encode(clips[0]))]
    again = taught.write(start, seed=3, sampling=HOT, max_new=40)
    assert [type(part) for part in again] == [
        type(part) for part in taught.write(start, seed=3, sampling=HOT, max_new=40)
    ]


HOT = Sampling(text=Draw(1.0), video=Draw(1.0))


def test_infilled_videos_follow_their_seed_and_heed_their_stills(
    taught: Model, stills: Clip
) -> None:
    cold = Sampling(video=Draw(1.0), guidance=2.0, context_guidance=3.0, rescale=0.5)
    film = taught.infill(stills, "a red ball", 4, cold)
    assert film.frames.shape == (4, 3, 16, 24) and film.captions == ("a red ball",)
    assert torch.equal(film.frames, taught.infill(stills, "a red ball", 4, cold).frames)
    others = [taught.infill(stills.at(torch.tensor([0])), "a red ball", 4, cold)]
    others.append(taught.infill(stills, None, 4, cold))
    assert any(not torch.equal(film.frames, other.frames) for other in others)
    late = Clip(stills.frames, stills.timestamps + 1)
    with pytest.raises(ValueError, match="last frame is at 0.75 s"):
        taught.infill(late)


def test_stills_are_read_from_images(taught: Model, stills: Clip, tmp_path: Path) -> None:
    paths = []
    for i in range(2):
        paths.append(tmp_path / f"{i}.png")
        write_video(stills.at(torch.tensor([i])), paths[-1])
    read = read_stills(taught, paths)
    assert torch.equal(read.frames, stills.frames) and read.timestamps.tolist() == [0, 0.75]
    assert read_stills(taught, paths, [0.25, 0.5]).timestamps.tolist() == [0.25, 0.5]
    assert spread_times(taught, 1).tolist() == [0]
    for times in ([0.0], [0.5, 0.25], [-1.0, 0.0]):
        with pytest.raises(ValueError, match="time"):
            read_stills(taught, paths, times)
    taught.save(tmp_path / "m")
    words = [str(path) for path in paths] + ["--times", "0", "0.5", "--model", str(tmp_path / "m")]
    assert main(["infill", *words, "--out", str(tmp_path / "film.gif")]) == 0
    assert (tmp_path / "film.gif").stat().st_size > 0


def test_guidance_of_two_and_three_branches() -> None:
    luck = torch.Generator().manual_seed(0)
    full, null, bare = torch.randn(3, 2, 5, generator=luck)
    two = torch.tensor([[2.0], [1.0]])
    found = combine([full, null], two, 1.0, 0.0)
    torch.testing.assert_close(found[0], null[0] + 2 * (full[0] - null[0]))
    torch.testing.assert_close(found[1], full[1])
    three = combine([full, null, bare], two, 1.5, 0.0)
    by_hand = bare[0] + 1.5 * (null[0] - bare[0]) + 2.0 * (full[0] - null[0])
    torch.testing.assert_close(three[0], by_hand)
    plain = combine([full, null, bare], torch.ones(2, 1), 1.0, 0.0)
    torch.testing.assert_close(plain, full)  # factors of 1 leave the prompt alone
    calm = combine([full, null], torch.tensor([[5.0], [5.0]]), 1.0, 1.0)
    torch.testing.assert_close(calm.std(-1), full.std(-1))
    assert combine([full, null], torch.tensor([[5.0], [5.0]]), 1.0, 0.0).std() > 2 * calm.std()


def test_negative_prompts_lead_away(taught: Model) -> None:
    plain = taught.generate("a red ball", seed=1, guidance=4.0)
    nothing = taught.generate("a red ball", seed=1, guidance=4.0, negative="blue")
    assert not torch.equal(plain.frames, nothing.frames)
    same = taught.generate("a red ball", seed=1, guidance=4.0, negative="a red ball")
    unguided = taught.generate("a red ball", seed=1, guidance=1.0)
    assert torch.equal(same.frames, unguided.frames)  # away from itself leads nowhere
    assert Nothing() == Nothing()


def test_a_stretch_lies_in_the_video(taught: Model, clips: list[Clip]) -> None:
    last = float(clips[0].timestamps[-1]) + 0.25  # when its last frame ends
    assert isinstance(taught.describe(clips[0], 0.0, last), str)
    with pytest.raises(ValueError, match="end=9: the video lasts from 0 to 1 s"):
        taught.describe(clips[0], 0.0, 9.0)


def test_a_video_is_no_still(taught: Model, clips: list[Clip], tmp_path: Path) -> None:
    write_video(clips[0], tmp_path / "clip.gif")
    with pytest.raises(ValueError, match=r"clip.gif has 4 frames: give images"):
        read_stills(taught, [tmp_path / "clip.gif"])


def test_chat_takes_lines(
    taught: Model,
    clips: list[Clip],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import io

    taught.save(tmp_path / "m")
    write_video(clips[0], tmp_path / "clip.gif")
    lines = ["what colour is it?", "/show none.mp4", "/nonsense", "and how?", "", "never asked"]
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(lines)))
    assert main(["chat", str(tmp_path / "clip.gif"), "--model", str(tmp_path / "m")]) == 0
    shown = capsys.readouterr()
    talk = Model.load(tmp_path / "m").chat(tmp_path / "clip.gif")
    answers = [talk.ask("what colour is it?"), talk.ask("and how?")]
    assert shown.out == "".join(f"{visible(answer)}\n" for answer in answers)
    assert "none.mp4" in shown.err and "/show FILE and /forget" in shown.err

    few = Model.load(tmp_path / "m").chat()
    few.show(tmp_path / "clip.gif", 1.0)
    words = ["chat", str(tmp_path / "clip.gif"), "--model", str(tmp_path / "m")]
    monkeypatch.setattr("sys.stdin", io.StringIO("what colour is it?\nand how?\n"))
    assert main([*words, "--tokens-per-frame", "1", "--json"]) == 0
    turns = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    asked = ["what colour is it?", "and how?"]
    assert turns == [{"question": line, "answer": few.ask(line)} for line in asked]

    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    monkeypatch.setattr("sys.stdin", io.StringIO("what colour is it?\nand how?\n"))
    monkeypatch.setattr("sys.stdout", Closed())
    monkeypatch.setattr("sys.stderr", io.StringIO())  # which is closed, not to be told of it
    assert main(words) == 0  # nobody listens any more, which is no error


@pytest.mark.parametrize("fps", [8.0, 4.0, 2.0])
def test_times_are_seconds_of_the_video(taught: Model, fps: float) -> None:
    """However long the four frames last that the model sees in its own second."""
    frames = torch.randint(0, 256, (4, 3, 16, 24), dtype=torch.uint8)
    clip = Clip.from_frames(frames, fps)
    clock = Clock.of(taught.framing, clip)
    assert clock.in_video(0) == 0 and clock.in_video(99) == pytest.approx(4 / fps, abs=1e-3)
    for second in (0.0, 1 / fps, 2.5 / fps, 4 / fps):
        assert clock.in_video(clock.as_seen(second)) == pytest.approx(second, abs=2e-3)
    shown = taught.framing.times(clip)[0]
    assert clock.as_seen(4 / fps) == pytest.approx(len(shown) * 0.25)  # at the model's 4 a second


def test_times_of_a_slower_clip_are_its_own(
    taught: Model, clips: list[Clip], monkeypatch: pytest.MonkeyPatch
) -> None:
    known = taught.framing.main.fps
    assert known is not None
    quick = Clip.from_frames(clips[0].frames, float(known))
    slow = Clip.from_frames(clips[0].frames, float(known) / 2)
    monkeypatch.setattr("lm.locating.complete", lambda *_, **__: [Time(0.25, 0.5)])
    assert taught.locate(quick, "it stops") == Time(0.25, 0.5)
    with pytest.warns(UserWarning, match="its whole"):
        assert taught.locate(slow, "it stops") == Time(0.5, 1.0)
    with pytest.raises(ValueError, match=r"start=50: the video lasts from 0 to"):
        taught.describe(quick, 50)
    with pytest.raises(ValueError, match="start=nan"):
        taught.describe(quick, float("nan"))


def test_bad_seeds_temperatures_and_labels(taught: Model, clips: list[Clip]) -> None:
    film = taught.generate("a red ball", seed=3)
    seeds: list[Any] = [np.int64(3), 1.5]
    assert torch.equal(taught.generate("a red ball", seed=seeds[0]).frames, film.frames)
    with pytest.raises(ValueError, match="seed=1.5: give a whole number"):
        taught.generate("a red ball", seed=seeds[1])
    with pytest.raises(ValueError, match="temperature=1e-40: give 0"):
        taught.generate("a red ball", temperature=1e-40)
    with pytest.raises(ValueError, match="negative prompt is empty"):
        taught.generate("a red ball", negative="")
    with pytest.raises(ValueError, match="takes .* tokens .* more than fit"):
        taught.generate("a red ball", negative="a red ball " * 200)
    with pytest.raises(ValueError, match="'red' is one text"):
        taught.recognize(clips[0], "red")
    with pytest.raises(ValueError, match="1 seeds for 2 prompts"):
        taught.generate_batch(["a", "b"], seeds=[1])
    with pytest.raises(ValueError, match="n=0"):
        taught.captions(clips[0], 0)


def test_the_last_seed_goes_on(taught: Model) -> None:
    assert later_seed(SEEDS.stop - 1, 1) == SEEDS.start and later_seed(3, 4) == 7
    with pytest.warns(UserWarning, match="longer than"):
        film = taught.generate("a red ball", 1.5, SEEDS.stop - 1)
    short = taught.generate("a red ball", 0.5, SEEDS.stop - 1)
    assert torch.equal(film.frames[: len(short)], short.frames)


def test_a_rate_may_be_named(taught: Model, clips: list[Clip]) -> None:
    """Whoever names the rate of the tokens has what tokens cut to it have."""
    clip, few = clips[0], taught.encode(clips[0], 1)
    assert few.num_tokens < taught.encode(clip).num_tokens
    assert taught.locate(clip, "it stops", 1) == taught.locate(few, "it stops")
    assert taught.describe(clip, 0.0, None, 1) == taught.describe(few, 0.0)
    assert taught.events(clip, 1) == taught.events(few)


@pytest.mark.filterwarnings("ignore:tokens_per_frame=1 is a rate")
def test_videos_go_on_at_a_rate_and_side_by_side(taught: Model, clips: list[Clip]) -> None:
    begun = [clips[0].at(torch.arange(2)), clips[1].at(torch.arange(2)), clips[2]]
    seconds = 2 / float(taught.framing.main.fps or 1)
    for rate in (None, 1):
        alone = [
            taught.continue_video(clip, seconds, None, seed, tokens_per_frame=rate)
            for seed, clip in enumerate(begun)
        ]
        beside = taught.continue_batch(begun, seconds, [None] * 3, tokens_per_frame=rate)
        for one, other in zip(alone, beside, strict=True):
            assert torch.equal(one.frames, other.frames)
            assert torch.equal(one.timestamps, other.timestamps)


@pytest.mark.filterwarnings("ignore:tokens_per_frame=1 is a rate")
def test_filling_in_at_a_rate_and_side_by_side(taught: Model, clips: list[Clip]) -> None:
    known = [clip.at(torch.tensor([0, 3])) for clip in clips[:2]]
    beside = taught.infill_batch(known, ["red", None], [3, 4], tokens_per_frame=1)
    alone = [
        taught.infill(known[0], "red", 3, tokens_per_frame=1),
        taught.infill(known[1], None, 4, tokens_per_frame=1),
    ]
    for one, other in zip(alone, beside, strict=True):
        assert torch.equal(one.frames, other.frames)


def test_of_candidates_the_nearest_to_the_stills_is_kept(taught: Model, clips: list[Clip]) -> None:
    ends = torch.tensor([0, 3])
    known = [clip.at(ends) for clip in clips[:2]]
    kept = taught.infill_batch(known, [None, None], [3, 4], candidates=5)
    for seed, still, best in zip((3, 4), known, kept, strict=True):
        drawn = [taught.infill(still, None, later_seed(seed, SEED_STEP * k)) for k in range(5)]
        errors = [squared_error(film.frames[ends], still.frames).mean() for film in drawn]
        assert len(set(map(float, errors))) > 1
        assert torch.equal(best.frames, drawn[int(torch.stack(errors).argmin())].frames)
    with pytest.raises(ValueError, match="candidates=0: make at least one"):
        taught.infill(known[0], candidates=0)
