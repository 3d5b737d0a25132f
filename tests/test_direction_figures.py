"""Figures of choices, talks, and films and documents of the model's own."""

from __future__ import annotations

from dataclasses import replace

import pytest

from data.clip import Clip, Question
from lm.direction_figures import direction_figures
from lm.document import Item, Task, Text, Video
from lm.drawing import Sampling
from lm.figures import Figure
from lm.model import Decoder
from lm.ranking import LabelScore
from lm.tasks import Model
from lm.watching import open_known


@pytest.fixture(scope="module")
def taught(model: Model) -> Model:
    """The tiny model with room for talks."""
    decoder = Decoder(replace(model.decoder.config, context=400), model.decoder.code_features)
    decoder.load_state_dict(model.decoder.state_dict())
    return Model(decoder, model.vocabulary, model.codec, ("talk",))


@pytest.fixture(scope="module")
def scenes(model: Model) -> list[Clip]:
    source = open_known(model.framing, "scenes:easy", split="heldout", num_clips=4)
    return [source[i] for i in range(4)]


def figures(model: Model, clips: list[Clip], num_films: int = 2) -> dict[str, Figure]:
    seen = model.encode_batch(clips)
    found = direction_figures(model, clips, seen, num_films, Sampling(guidance=1.0), 0)
    return {figure.name: figure for figure in found}


def test_what_was_not_taught_has_no_figures(model: Model, scenes: list[Clip]) -> None:
    names = set(figures(model, scenes))
    assert names <= {"choice", "unconditional_exact", "unconditional_slots"}
    assert "unconditional_exact" in names


@pytest.mark.parametrize("right", [True, False])
def test_choices_and_talks(
    taught: Model, scenes: list[Clip], right: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Question("what is it?", "circle", "shape", ("square", "circle"))
    clips = [replace(clip, questions=(asked,), truth=None) for clip in scenes]
    said = "circle" if right else "square"
    monkeypatch.setattr(
        "lm.direction_figures.rank",
        lambda model, prompts, *_: [[LabelScore(said, 1.0, 0.0)] for _ in prompts],
    )
    monkeypatch.setattr("lm.chatting.Chat.ask", lambda *_: said)
    found = figures(taught, clips)
    assert {name: figure.value for name, figure in found.items()} == {
        "choice": right,
        "talk_first": right,
        "talk_second": right,
    }
    assert found["choice"].chance == 0.5 and found["choice"].n == 4
    assert found["talk_second"].n == 2


def test_documents_are_held_against_their_own_captions(
    taught: Model, scenes: list[Clip], monkeypatch: pytest.MonkeyPatch
) -> None:
    """True clips agree with their captions, and not with those of others, nor with no words."""
    clips = [replace(clip, questions=()) for clip in scenes]
    true, other = Text("caption", clips[0].caption), Text("caption", clips[1].caption)
    shown = Video(taught.encode(clips[0]))
    monkeypatch.setattr(taught.codec, "decode", lambda _: clips[0])

    def agreeing(*items: Item) -> dict[str, Figure]:
        monkeypatch.setattr("lm.direction_figures.written_items", lambda *_: [list(items)] * 2)
        return figures(taught, clips)

    assert agreeing(true, shown)["document_exact"].value == 1
    assert agreeing(shown, true)["document_exact"].value == 1
    assert agreeing(Text("question", "what?"), shown, true)["document_exact"].value == 1
    assert agreeing(other, shown)["document_slots"].value < 1
    assert agreeing(Text("caption", "well"), shown)["document_exact"].value == 0
    without = agreeing(true)
    assert without["document_clips"].value == 0 and "document_exact" not in without
    assert "document_exact" not in agreeing(Task("talk"), shown)
