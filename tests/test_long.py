"""Long video by laws: readers that know the truth, made parts, and a tiny model."""

import json
import math
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

import kinolex
from data.clip import Clip
from data.sampling import TargetFps
from data.scenes.hiding import QUIET, RARE, hide_event
from data.scenes.oracle import Oracle
from data.writing import write_film, write_video
from lm.long.answer import Evidence, TimedText, conclude, is_polar, joined, way_to_combine
from lm.long.asking import Long, answer_long
from lm.long.memory import Memory, unlike
from lm.long.parts import BATCH, Footage, Part, Timed, Wanted, at_rate, in_units, overlapping
from lm.long.query import Query
from lm.long.reader import Scored, Told
from lm.long.rolling import Room
from lm.long.strategies import hierarchy, keyframes, told_within
from lm.tasks import Model
from tokenizer.tokens import VideoTokens

CHOICES = ("falls", "rises", "spins")
LENGTH = 3  # tokens of a made part
EVENT = 7  # what a made part of the event holds


class Listed:
    """A video as what each of its parts, of one second, holds."""

    def __init__(self, contents: Sequence[int]) -> None:
        self.contents = contents
        self.coded: list[int] = []

    def read(self, wanted: Wanted | None = None) -> Iterator[Part]:
        for number, content in enumerate(self.contents):
            if wanted is None or wanted(number):
                self.coded.append(number)
                codes = torch.full((LENGTH,), content)
                times = torch.tensor([0.0, 0.5], dtype=torch.float64)
                tokens = VideoTokens((codes,), times, 8, 8, 2, 99, "made")
                yield Part(number, tokens, float(number), number + 1.0)


class Held:
    """A made reading that goes on and sees the last block it read, and, if told so, all before."""

    def __init__(self, first: VideoTokens, remembers: bool = False) -> None:
        self.remembers, self.seen, self.tokens = remembers, list[int](), 0
        for codes in first.codes:
            self._take(codes)

    def _take(self, codes: Tensor) -> int:
        self.seen.append(int(codes[0]))
        self.tokens += len(codes)
        return len(codes)

    def read(self, block: VideoTokens) -> int:
        return self._take(block.codes[0])

    def score(self, question: str, choices: Sequence[str]) -> Scored:
        sees = EVENT in (self.seen if self.remembers else self.seen[-2:])
        scores = {c: -0.01 if sees and c in ("spins", "yes") else -9.0 for c in choices}
        return Scored(scores, len(choices))

    def answer(self, question: str) -> Told:
        return Told("spins" if self.seen[-1] == EVENT else "rests", 1, -0.5)

    def caption(self) -> Told:
        return Told(f"holds {self.seen[-1]}", 1)


class Knowing:
    """A reader that sees what a made part holds: the event spins, nothing else does any choice."""

    def __init__(self, luck: torch.Generator | None = None) -> None:
        self.luck = luck  # given: it guesses, at random

    def score(
        self, question: str, videos: Sequence[VideoTokens], choices: Sequence[str], past: str = ""
    ) -> list[Scored]:
        return [Scored(self._scores(v, choices, past), LENGTH + len(choices)) for v in videos]

    def _scores(self, video: VideoTokens, choices: Sequence[str], past: str) -> dict[str, float]:
        if self.luck is not None:
            shares = torch.rand(len(choices) + 1, generator=self.luck).pow(4).add(1e-6)
            return dict(zip(choices, (shares / shares.sum()).log().tolist(), strict=False))
        seen = int(video.codes[0][0]) == EVENT or f"holds {EVENT}" in past
        return {c: -0.01 if seen and c in ("spins", "yes") else -9.0 for c in choices}

    def answer(self, question: str, videos: Sequence[VideoTokens], past: str = "") -> list[Told]:
        return [Told("spins" if int(v.codes[0][0]) == EVENT else "rests", LENGTH) for v in videos]

    def caption(self, videos: Sequence[VideoTokens]) -> list[Told]:
        return [Told(f"holds {int(v.codes[0][0])}", LENGTH + 2) for v in videos]

    def roll(self, first: VideoTokens, room: Room) -> Held:
        return Held(first)

    def features(self, tokens: VideoTokens) -> Tensor:
        return torch.nn.functional.one_hot(tokens.codes[0], 99).float().flatten()

    def count(self, text: str) -> int:
        return len(text.split())


def quiet_with_event(scenes: int = 9, at: int = 5) -> tuple[list[int], tuple[float, float]]:
    contents, span = [], (0.0, 0.0)
    for scene in range(scenes):
        if scene == at:
            span = (float(len(contents)), len(contents) + 2.0)
            contents += [EVENT] * 2
        contents += [20 + scene] * (4 + scene)
    return contents, span


# Reading frames as they come


@pytest.mark.parametrize("fps", [2.0, 8.0, 12.5, 40.0])
def test_frames_kept_as_they_come_are_those_kept_of_the_whole(fps: float) -> None:
    luck = torch.Generator().manual_seed(int(fps))
    for length in (1, 2, 7, 60):
        gaps = torch.rand(length, dtype=torch.float64, generator=luck) * 0.2 + 0.01
        times = (gaps.cumsum(0) - gaps[0]).tolist()
        frames = [(torch.tensor([i]), time) for i, time in enumerate(times)]
        kept = [int(frame) for frame, _ in at_rate(frames, fps)]
        whole = TargetFps(fps).select(torch.tensor(times, dtype=torch.float64))
        assert kept == whole.tolist(), length


@pytest.mark.parametrize(("length", "step"), [(4, 4), (4, 2), (3, 1), (2, 5), (1, 1)])
@pytest.mark.parametrize("total", [1, 3, 4, 8, 11, 16])
def test_stretches_start_every_step_and_no_frame_is_left_out(
    length: int, step: int, total: int
) -> None:
    frames = [(torch.tensor([i]), float(i)) for i in range(total)]
    found = [([int(f) for f, _ in held], end) for held, end in overlapping(frames, length, step)]
    for number, (held, end) in enumerate(found):
        assert held == list(range(number * step, min(total, number * step + length)))
        assert end == held[-1] + 1 or (total == 1 and end == 0)
    seen = {i for held, _ in found for i in held}
    assert seen == {i for i in range(total) if i % step < length or step < length}
    if step == length:
        assert sum(len(held) for held, _ in found) == total


def test_units_are_means_at_the_time_of_their_first_frame() -> None:
    frames = [(torch.full((3, 1, 1), v, dtype=torch.uint8), t) for v, t in ((1, 0.0), (4, 0.5))]
    (one,) = in_units(frames, 2, "mean")
    assert one[0].flatten().tolist() == [2, 2, 2] and one[1] == 0.0
    (one,) = in_units(frames, 3, "first")
    assert one[0].flatten().tolist() == [1, 1, 1]


def noise(length: int, seed: int = 0) -> Clip:
    luck = torch.Generator().manual_seed(seed)
    frames = torch.randint(0, 256, (length, 3, 16, 24), dtype=torch.uint8, generator=luck)
    return Clip.from_frames(frames, 4, source="noise")


def footage(model: Model, video: Clip | Path | VideoTokens, frames: int = 4) -> Footage:
    return Footage(video, model.codec, model.framing, frames)


def test_parts_are_clips_of_their_own(model: Model, tmp_path: Path) -> None:
    clip = noise(4 * BATCH + 7)
    parts = list(footage(model, clip).read())
    assert [part.number for part in parts] == list(range(BATCH + 2))
    for part in parts:
        first = 4 * part.number
        own = Clip.from_frames(clip.frames[first : first + 4], 4)
        expected = model.encode(own)
        assert all(map(torch.equal, part.tokens.codes, expected.codes))
        assert torch.equal(part.tokens.timestamps, expected.timestamps)
        assert (part.start, part.end) == (first / 4, (first + len(own)) / 4)
    some = list(footage(model, clip).read({1, 5}.__contains__))
    assert [part.number for part in some] == [1, 5]
    assert torch.equal(some[1].tokens.codes[0], parts[5].tokens.codes[0])
    write_video(clip, tmp_path / "clip.mkv", quality="high")
    from data.reading import read_clip

    of_clip = list(footage(model, read_clip(tmp_path / "clip.mkv")).read())
    of_file = list(footage(model, tmp_path / "clip.mkv").read())
    assert len(of_file) == len(of_clip) == len(parts)
    for a, b in zip(of_file, of_clip, strict=True):
        assert all(map(torch.equal, a.tokens.codes, b.tokens.codes))
        assert (a.start, a.end) == pytest.approx((b.start, b.end))


def test_codes_are_read_block_by_block(model: Model) -> None:
    tokens = model.codec.encode(noise(11))
    parts = list(footage(model, tokens).read())
    assert [part.tokens.num_frames for part in parts] == [4, 4, 3]
    assert [(p.start, p.end) for p in parts] == [(0, 1), (1, 2), (2, 2.75)]
    assert torch.equal(parts[1].tokens.codes[0], tokens.codes[2][:6])
    with pytest.raises(ValueError, match="give the video"):
        list(footage(model, tokens, frames=3).read())


def test_no_more_frames_are_held_for_a_longer_video(model: Model) -> None:
    alive: weakref.WeakSet[Tensor] = weakref.WeakSet()

    class Endless(Footage):
        def _frames(self) -> Iterator[Timed]:
            for i in range(400):
                frame = torch.full((3, 16, 24), i % 251, dtype=torch.uint8)
                alive.add(frame)
                yield frame, i / 4

    video, most, count = Endless(noise(1), model.codec, model.framing, 4), 0, 0
    memory = Memory(5 * 12, lambda tokens: torch.cat(tokens.codes).float())
    for part in video.read():
        memory.add(part)
        most, count = max(most, len(alive)), count + 1
    assert count == 100
    assert most <= 4 * (BATCH + 1)


# Memory


@pytest.mark.parametrize("length", [1, 2, 10, 200])
def test_a_memory_stays_within_its_budget(length: int) -> None:
    luck = torch.Generator().manual_seed(length)
    contents = torch.randint(0, 90, (length,), generator=luck).tolist()
    memory = Memory(5 * LENGTH + 1, Knowing().features)
    for number, part in enumerate(Listed(contents).read(), 1):
        memory.add(part)
        assert memory.num_tokens <= 5 * LENGTH + 1
        assert len(memory.kept) == min(5, number)
        assert sum(kept.stands_for for kept in memory.kept) == number
        numbers = [kept.part.number for kept in memory.kept]
        assert numbers == sorted(set(numbers))


def test_a_memory_forgets_what_repeats_first() -> None:
    contents, span = quiet_with_event()
    memory = Memory(10 * LENGTH, Knowing().features)
    for part in Listed(contents).read():
        memory.add(part)
    assert [int(k.part.tokens.codes[0][0]) for k in memory.kept] == list(dict.fromkeys(contents))
    assert [k.stands_for for k in memory.kept if int(k.part.tokens.codes[0][0]) == EVENT] == [2]
    with pytest.raises(ValueError, match="a part takes 3 tokens"):
        Memory(2, Knowing().features).add(next(Listed([1]).read()))


def test_a_memory_keeps_coarse_tokens() -> None:
    memory = Memory(8, lambda tokens: tokens.codes[0].float(), block_tokens=2)
    for part in Listed(list(range(9))).read():
        memory.add(part)
    assert [len(kept.part.tokens.codes[0]) for kept in memory.kept] == [2] * 4
    assert Long.parse("recall=8@2") == Long("recall", 8, None, 2)


def test_unlike_is_a_distance_of_looks() -> None:
    a, b = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    assert unlike(a, a) == 0 and unlike(a, -a) == pytest.approx(1)
    assert unlike(a, b) == pytest.approx(math.sqrt(2) / 2)
    assert unlike(a, torch.ones(3)) == 1


# Strategies


@pytest.mark.parametrize("name", ["chunks", "keyframes", "hierarchy", "recall", "summary"])
@pytest.mark.parametrize("at", [0, 5, 8])
def test_strategies_find_the_event_where_it_is(name: str, at: int) -> None:
    contents, (start, end) = quiet_with_event(at=at)
    video, reader = Listed(contents), Knowing()
    found = answer_long(reader, video, "what does it do?", CHOICES, Long.parse(f"{name}/maximum"))
    assert found.text == "spins"
    assert found.margin is not None and found.margin == pytest.approx(8.99)
    if name != "summary":
        assert found.seconds is not None
        assert start <= found.seconds[0] < found.seconds[1] <= end
    if name == "chunks":
        assert found.seconds == (start, end)
        assert found.readings == len(contents)
        assert found.tokens == len(contents) * (LENGTH + len(CHOICES))
    if name in ("keyframes", "hierarchy"):
        assert found.readings == 10  # scenes
    yes = answer_long(reader, video, "does it spin?", (), Long.parse(name))
    assert yes.text == "yes"
    calm = Listed([c for c in contents if c != EVENT])
    no = answer_long(reader, calm, "does it spin?", (), Long.parse(name))
    assert (no.text, no.seconds) == ("no", None)


def test_a_vote_counts_parts_and_the_models_own_words() -> None:
    contents, _ = quiet_with_event()
    query = Query.of(Knowing(), "what does it do?")
    assert (query.choices, query.how) == ((), "vote")
    told = answer_long(Knowing(), Listed(contents), "what does it do?", (), Long.parse("chunks"))
    assert told.text in ("rests", "spins")
    assert told.readings == 2 * len(contents)  # said, then weighed
    assert told.seconds is None


def test_a_hierarchy_never_reads_a_part_twice_nor_more_than_all() -> None:
    contents, _ = quiet_with_event()
    spent = []
    for seed in range(40):
        reader = Knowing(torch.Generator().manual_seed(seed))
        query = Query.of(reader, "what does it do?", CHOICES, "maximum")
        found = hierarchy(query, Listed(contents))
        assert 10 <= found.readings <= len(contents)
        assert found.tokens == found.readings * (LENGTH + len(CHOICES))
        assert found.text in CHOICES
        spent.append(found.readings)
    assert len(set(spent)) > 2  # it does stop early, and does go on


class Naming(Knowing):
    """A reader that finds choice i likely where i is shown; `doubtful` scenes tell it little."""

    doubtful = 90

    def _scores(self, video: VideoTokens, choices: Sequence[str], past: str) -> dict[str, float]:
        seen = int(video.codes[0][0])
        share = 0.3 if seen >= self.doubtful else 0.9
        return {c: math.log(share if i == seen % 10 else 0.01) for i, c in enumerate(choices)}


@pytest.mark.parametrize("name", ["chunks", "keyframes", "hierarchy", "recall"])
def test_scenes_vote_by_their_length(name: str) -> None:
    contents = [0] * 3 + [1] * 10 + [0] * 4
    found = answer_long(Naming(), Listed(contents), "what?", CHOICES, Long.parse(f"{name}/vote"))
    assert (found.text, found.seconds) == ("rises", None)
    assert found.margin == pytest.approx(math.log((9 + 0.07) / (6.3 + 0.1)))


def test_a_hierarchy_opens_the_scenes_that_leave_doubt() -> None:
    contents = [0] * 9 + [91] * 9 + [0] * 9 + [92] * 8 + [1] * 3
    video = Listed(contents)
    found = answer_long(Naming(), video, "what?", CHOICES, Long.parse("hierarchy/vote"))
    opened = video.coded[len(contents) :]  # after all were looked at for changes
    assert sorted(opened) == [*range(10, 18), *range(28, 35)]
    assert found.text == "falls" and found.readings == 5 + len(opened)


def test_a_hierarchy_looks_everywhere_before_it_gives_up() -> None:
    hidden = [20] * 30
    hidden[13] = EVENT
    video = Listed(hidden)
    reader = Knowing()
    reader.features = lambda tokens: torch.ones(1)  # the change cannot be seen
    query = Query.of(reader, "what does it do?", CHOICES, "maximum")
    found = hierarchy(query, video)
    assert (found.text, found.seconds, found.readings) == ("spins", (13.0, 14.0), 30)


def test_keyframes_begin_scenes_and_count_their_parts() -> None:
    contents, _ = quiet_with_event()
    chosen = [(part.number, weight) for part, weight in keyframes(Listed(contents), Knowing())]
    starts = [i for i, c in enumerate(contents) if i == 0 or contents[i - 1] != c]
    assert [number for number, _ in chosen] == starts
    assert sum(weight for _, weight in chosen) == len(contents)


def test_past_is_told_once_and_within_its_budget() -> None:
    texts = [TimedText(i, i + 1, f"it {word}") for i, word in enumerate("abab")]
    assert told_within(texts, Knowing(), 100).count("it a") == 2
    short = told_within(texts, Knowing(), 14)
    assert (short.count("it a"), short.count("it b")) == (1, 1)
    assert told_within(texts, Knowing(), 0) == ""


# Conclusions


def test_votes_and_maxima_by_hand() -> None:
    def at(start: float, a: float, b: float, weight: float = 1.0) -> Evidence:
        return Evidence(start, start + 1, {"a": math.log(a), "b": math.log(b)}, weight)

    evidence = [at(0, 0.6, 0.3), at(1, 0.6, 0.3), at(2, 0.1, 0.8)]
    vote = conclude(evidence, "vote", 5, 3)
    assert (vote.text, vote.seconds, vote.tokens, vote.readings) == ("b", None, 5, 3)
    assert vote.margin == pytest.approx(math.log(1.4 / 1.3))
    assert conclude([at(0, 0.6, 0.3, 3), evidence[2]], "vote", 0, 0).text == "a"
    most = conclude([at(0, 0.6, 0.1), at(1, 0.6, 0.1), evidence[2]], "maximum", 0, 0)
    assert (most.text, most.seconds) == ("b", (2, 3))
    assert most.margin == pytest.approx(math.log(0.8 / 0.6))
    wide = conclude([at(0, 0.1, 0.3), at(1, 0.1, 0.8), at(3, 0.1, 0.7)], "maximum", 0, 0)
    assert wide.seconds == (0, 2)  # what lies beside it, within a factor of 4
    alone = conclude([Evidence(0, 1, {"a": -1.0})], "vote", 0, 0)
    assert alone.margin is None


def test_a_reading_is_sure_of_none_as_of_one() -> None:
    def margin(*shares: float) -> float:
        return Evidence(0, 1, {str(i): math.log(p) for i, p in enumerate(shares)}).margin

    assert margin(0.01, 0.01) == pytest.approx(math.log(98))
    assert margin(0.9, 0.05) == pytest.approx(math.log(18))
    assert margin(0.45, 0.45) == pytest.approx(0)


@pytest.mark.parametrize(
    ("question", "polar", "how"),
    [
        ("is there a red star?", True, "maximum"),
        ("Does it fall?", True, "maximum"),
        ("is it slow or fast?", False, "vote"),
        ("what colour is it?", False, "vote"),
        ("at which second does it fall?", False, "maximum"),
    ],
)
def test_questions_say_how_they_are_answered(question: str, polar: bool, how: str) -> None:
    assert is_polar(question) == polar
    assert way_to_combine(question) == how


def test_captions_that_repeat_are_one() -> None:
    texts = [TimedText(0, 1, "a"), TimedText(1, 2, "a"), TimedText(2, 3, "b"), TimedText(3, 4, "a")]
    assert joined(texts) == (TimedText(0, 2, "a"), TimedText(2, 3, "b"), TimedText(3, 4, "a"))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "all",
        "keyframes=3",
        "chunks=0",
        "chunks=x",
        "aggregate",
        "chunks/mean",
        "chunks=4@2",
        "recall=@x",
        "memory=4@2",
    ],
)
def test_what_is_no_strategy_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="long=") as caught:
        Long.parse(text)
    assert "\n" not in str(caught.value)


# A model


def test_chunks_of_a_model_are_its_answers_to_each_part(model: Model) -> None:
    clip, question = noise(22), "what colour is it?"
    choices = ("red", "blue")
    found = model.ask(clip, question, choices, long="chunks/maximum")
    best, tokens = {choice: -math.inf for choice in choices}, 0
    for first in range(0, 22, 4):
        part = Clip.from_frames(clip.frames[first : first + 4], 4)
        for score in model.choose(part, question, choices):
            best[score.label] = max(best[score.label], score.log_likelihood)
        sequence = model.encode(part)
        header = len(kinolex_prompt(model, sequence, question))
        tokens += header + sum(len(model.vocabulary.encode_text(c)) + 1 for c in choices)
    assert found.text == max(best, key=lambda choice: best[choice])
    assert found.margin == pytest.approx(abs(best["red"] - best["blue"]), abs=1e-4)
    assert (found.tokens, found.readings) == (tokens, 6)


def test_chunks_longer_than_the_models_clips_are_told(model: Model) -> None:
    with pytest.raises(ValueError, match="chunks=400: .* codes, .* tokens: give 4, as long as"):
        model.ask(noise(22), "what colour is it?", long="chunks=400")
    with pytest.warns(UserWarning, match="chunks=8: the model's clips have 4 frames"):
        model.ask(noise(22), "what colour is it?", long="chunks=8")


def kinolex_prompt(model: Model, tokens: VideoTokens, question: str) -> list[int]:
    from lm.prompting import about_video

    return about_video(model.vocabulary, tokens, "answer", question)


@pytest.mark.parametrize(
    "long",
    [
        "chunks=2",
        "keyframes",
        "hierarchy",
        "recall=36",
        "recall=24@1",
        "summary=8",
        "window",
        "memory",
        "overlap",
        "aggregate=3",
    ],
)
def test_a_model_reads_every_way(model: Model, long: str) -> None:
    found = model.ask(noise(22), "what colour is it?", long=long)
    assert isinstance(found.text, str) and found.readings > 0 and found.tokens > found.readings
    name = long.split("=")[0]
    if name in ("hierarchy", "summary"):
        with pytest.raises(ValueError, match="caption with chunks"):
            model.caption(noise(22), long=long)
        return
    told = model.caption(noise(22), long=long)
    ends = [(part.start, part.end) for part in told.parts]
    assert ends == sorted(ends) and all(0 <= a < b <= 5.5 for a, b in ends)
    if name in ("chunks", "aggregate"):
        assert (ends[0][0], ends[-1][1]) == (0, 5.5)


def test_a_recall_reads_no_more_for_a_longer_video(model: Model) -> None:
    short, longer = (
        model.ask(noise(n), "what colour is it?", ("red", "blue"), long="recall=36")
        for n in (40, 160)
    )
    assert short.tokens == longer.tokens


def test_commands_take_long(
    model: Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model.save(tmp_path / "m")
    write_video(noise(22), tmp_path / "clip.mkv")
    words = [str(tmp_path / "clip.mkv"), "--model", str(tmp_path / "m"), "--json"]
    assert kinolex.main(["ask", words[0], "is it red?", "--long", "hierarchy", *words[1:]]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["text"] in ("yes", "no") and found["tokens"] > 0
    assert kinolex.main(["caption", words[0], "--long", "chunks", *words[1:]]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert found["parts"][0]["start"] == 0
    assert kinolex.main(["ask", words[0], "red?", "--long", "some", *words[1:]]) == 2
    assert "choose one of chunks" in capsys.readouterr().err


# Made films


def test_an_event_is_where_it_is_said_to_be_and_nowhere_else(tmp_path: Path) -> None:
    for seed in range(3):
        made = hide_event(seed, 40.0)
        assert made.num_frames == sum(len(clip) for clip in made.frames()) == 320
        frames = torch.cat(list(made.frames()))
        assert torch.equal(frames, torch.cat(list(hide_event(seed, 40.0).frames())))
        shifted = hide_event(seed, 40.0, shift=3)
        assert torch.equal(torch.cat(list(shifted.frames())), frames[3:])
        assert shifted.event.start == made.event.start - 3 / 8
        motion, colour = (question.answer for question in made.questions)
        start = round(made.event.start * 8)
        seen = Oracle().read(frames[start : start + 8]).things[0]
        assert (seen.motions[0], seen.colour) == (motion, colour)
        others = [plan.reading.things[0] for plan, _ in made.plans]
        assert [(t.colour, t.motions[0]) for t in others].count((colour, motion)) == 1
        assert all(t.motions[0] in QUIET for t in others if t.colour != colour)
        assert motion in RARE and made.event.end == made.event.start + 3
    write_film(made.film(), tmp_path / "film.mkv")
    from data.reading import read_times

    assert len(read_times(tmp_path / "film.mkv")) == 320
    with pytest.raises(ValueError, match="event_clips=3"):
        hide_event(0, 3.0)
