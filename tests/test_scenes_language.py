"""Captions say what the truth says, and the parser and the scores read them back."""

from __future__ import annotations

import pytest

from data.clip import Question
from data.scenes import Scenes, parse_caption, score_answer, score_caption
from data.scenes.spec import DIFFICULTIES, MOTIONS, SPLITS, Action, Thing


@pytest.mark.parametrize("difficulty", DIFFICULTIES)
@pytest.mark.parametrize("split", SPLITS)
def test_every_caption_parses_back(difficulty: str, split: str) -> None:
    world = Scenes(difficulty, split=split, num_frames=1, height=2, width=2)
    for clip in world.batch(range(100)):
        assert clip.truth is not None
        assert len(set(clip.captions)) == len(clip.captions) == 4
        for caption in clip.captions:
            score = score_caption(caption, clip.truth)
            assert score.exact == 1, (caption, clip.truth, score)
            assert min(score.accuracy(slot) for slot in score.total) == 1


def test_easy_has_many_wordings() -> None:
    world = Scenes("easy", num_frames=1, height=2, width=2)
    captions = [caption for index in range(300) for caption in world[index].captions]
    assert len(set(captions)) > 0.9 * len(captions)
    words = {word for caption in captions for word in caption.split()}
    assert len(words) > 90


@pytest.mark.parametrize(
    ("text", "thing"),
    [
        ("A red circle moves left.", Thing("red", "circle", None, (Action("moves left"),))),
        (
            "the SMALL blue ring goes slowly up and to the right",
            Thing("blue", "ring", "small", (Action("moves up and right", "slow"),)),
        ),
        ("spinning anticlockwise: a star", Thing(None, "star", None, (Action(MOTIONS[11]),))),
        ("a cross in white", Thing("white", "cross")),
    ],
)
def test_parser_reads_words_in_any_order(text: str, thing: Thing) -> None:
    assert parse_caption(text).things == (thing,)


def test_parser_takes_any_text() -> None:
    for text in ("", "...", "left left then then", "a a hits the; before", "hits it", "Ω 12"):
        parse_caption(text)


def test_parser_reads_order_and_hits() -> None:
    reading = parse_caption("a red star grows after moving left")
    assert [action.motion for _, action in reading.timeline()] == ["moves left", "grows"]
    reading = parse_caption("a red star moves up and hits a cyan ring, which then moves up")
    assert reading.hit and (reading.hit.by, reading.hit.on) == (0, 1)
    assert [thing.motions for thing in reading.things] == [("moves up",), ("moves up",)]


def test_wrong_slots_lower_their_own_score_alone() -> None:
    truth = "a small red circle moves left quickly"
    assert score_caption("a red circle moves left", truth).exact == 1
    wrong = score_caption("a blue circle moves left", truth)
    assert wrong.exact == 0 and wrong.accuracy("colour") == 0 and wrong.accuracy("motion") == 1
    assert score_caption("a red circle moves left slowly", truth).accuracy("speed") == 0
    assert score_caption("a red circle", truth).exact == 0
    assert score_caption("", truth).accuracies()["colour"] == 0


def test_naming_everything_earns_little() -> None:
    truth = "a red circle moves left; a blue star grows"
    assert score_caption("a blue star grows; a red circle moves left", truth).exact == 1
    greedy = "; ".join(
        f"a {colour} circle moves left" for colour in ("red", "green", "blue", "cyan")
    )
    score = score_caption(greedy, truth)
    assert score.exact == 0 and score.precision("colour") == 0.5 and score.recall("colour") == 1
    assert score.accuracy("colour") == 0.5 and score.accuracy("count") == 0
    swapped = score_caption("a blue circle moves left; a red star grows", truth)
    assert swapped.exact == 0


def test_order_and_causes_are_scored() -> None:
    truth = "first a red star moves left, then it grows"
    assert score_caption("a red star moves left, then grows", truth).exact == 1
    assert score_caption("a red star grows, then moves left", truth).accuracy("order") == 0
    truth = "a red star moves up and hits a cyan ring, which then moves up"
    swapped = "a cyan ring moves up and hits a red star, which then moves up"
    assert score_caption(swapped, truth).accuracy("hit") == 0


def test_answers_are_compared_without_case_or_articles() -> None:
    question = Question("what hits it?", "red circle", "cause")
    assert score_answer(" The red circle. ", question) and score_answer("Red  circle", question)
    assert not score_answer("circle", question) and not score_answer("", question)
