"""Beam search: greedy with one beam, never below it with more, and likelihoods that are true."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from data.clip import Clip
from data.writing import write_video
from lm import commands
from lm.beams import Beam, _ranked, beam_texts
from lm.completing import MAX_TEXT
from lm.engine import open_engine
from lm.prompting import about_video
from lm.sampling import read_prompt
from lm.tasks import Model


@pytest.fixture
def prompts(model: Model, clips: list[Clip]) -> list[list[int]]:
    return [about_video(model.vocabulary, model.encode(clip), "caption") for clip in clips]


def test_one_beam_is_greedy(model: Model, clips: list[Clip], prompts: list[list[int]]) -> None:
    for clip, prompt in zip(clips, prompts, strict=True):
        ((only,),) = beam_texts(model.decoder, model.grammar, [prompt], 1, MAX_TEXT)
        assert only.text == model.caption(clip, beams=1)


def test_more_beams_find_likelier_texts(model: Model, prompts: list[list[int]]) -> None:
    better = 0
    for prompt in prompts:
        (found,) = beam_texts(model.decoder, model.grammar, [prompt], 8, 6, length_power=0.0)
        ((greedy,),) = beam_texts(model.decoder, model.grammar, [prompt], 1, 6)
        assert found[0].log_likelihood >= greedy.log_likelihood - 1e-9
        better += found[0].log_likelihood > greedy.log_likelihood + 1e-6
        scores = [beam.log_likelihood for beam in found]
        assert scores == sorted(scores, reverse=True) and len({b.text for b in found}) > 1
    assert better


@pytest.mark.parametrize("length_power", [0.0, 0.6, 1.0])
def test_the_best_beam_is_no_worse_than_greedy(
    model: Model, prompts: list[list[int]], length_power: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also with so few beams that the greedy beginning falls behind."""
    greedy = beam_texts(model.decoder, model.grammar, prompts, 1, 12)
    lost = 0

    def spy(found: list[Beam], *more: Any) -> list[Beam]:
        nonlocal lost
        lost += found[-1].text not in [beam.text for beam in found[:-1]]
        return _ranked(found, *more)

    monkeypatch.setattr("lm.beams._ranked", spy)
    for beams in (2, 3):
        best = beam_texts(model.decoder, model.grammar, prompts, beams, 12, length_power)
        for found, (word_by_word,) in zip(best, greedy, strict=True):
            assert len(found) <= beams and len({beam.text for beam in found}) == len(found)
            assert found[0].score(length_power) >= word_by_word.score(length_power) - 1e-6
    assert lost, "the search alone keeps it: these prompts show nothing"


def test_side_by_side_is_alone(model: Model, clips: list[Clip], prompts: list[list[int]]) -> None:
    """Prompts of different lengths; for want of room one search ends before the others."""
    words, long = "what", prompts[0]
    while len(long) < model.decoder.config.context - 6:
        words += " is"
        long = about_video(model.vocabulary, model.encode(clips[0]), "answer", words)
    many = [prompts[0], long, *prompts[1:]]
    together = beam_texts(model.decoder, model.grammar, many, 3, 20)
    for prompt, found in zip(many, together, strict=True):
        (alone,) = beam_texts(model.decoder, model.grammar, [prompt], 3, 20)
        assert [beam.text for beam in alone] == [beam.text for beam in found]
        for one, other in zip(alone, found, strict=True):
            assert one.tokens == other.tokens
            assert one.log_likelihood == pytest.approx(other.log_likelihood, abs=1e-3)
    assert max(beam.tokens for beam in together[1]) <= 6 < together[0][0].tokens


def test_of_one_text_in_two_spellings_the_better_counts() -> None:
    a, again, b = Beam("a", -1.0, 2), Beam("a", -5.0, 4), Beam("b", -3.0, 2)
    for found in ([a, again, b, a], [again, b, a], [b, again, a]):
        assert _ranked(found, 2, 0.0) == [a, b]


def test_nothing_is_found_after_no_prompts(model: Model) -> None:
    assert beam_texts(model.decoder, model.grammar, [], 3, 12) == []
    assert model.caption_batch([]) == []


def test_captions_are_searched_for_by_default(model: Model, clips: list[Clip]) -> None:
    """But by an engine, which takes the likeliest word at each step."""
    best = [model.best_captions(clip)[0].text for clip in clips]
    greedy = model.caption_batch(clips, beams=1)
    assert model.caption_batch(clips) == best != greedy
    model.decoder.engine = open_engine("torch:bf16", model.decoder, model.vocabulary)
    try:
        assert model.caption_batch(clips) == model.caption_batch(clips, beams=1)
    finally:
        model.decoder.engine = None


def test_texts_of_one_piece_are_searched_exhaustively(
    model: Model, prompts: list[list[int]]
) -> None:
    """With room for a piece and its end, likelihoods are the first step's, without any cache."""
    for prompt in prompts:
        state, slots = read_prompt(model.grammar, prompt)
        with torch.no_grad():
            hidden = model.decoder(torch.tensor([prompt]), slots=torch.tensor([slots]))
        logits = model.decoder.logits(hidden[0, -1]).double()
        logits[~model.grammar.mask(state.allowed(2, close=0))] = -torch.inf
        best = logits.log_softmax(-1).topk(5)
        stop = model.vocabulary.special("<stop>")
        texts = [
            "" if token == stop else model.vocabulary.decode_text([token])
            for token in best.indices.tolist()
        ]
        (found,) = beam_texts(model.decoder, model.grammar, [prompt], 40, 2, length_power=0.0)
        assert [beam.text for beam in found[:5]] == texts
        torch.testing.assert_close(
            torch.tensor([beam.log_likelihood for beam in found[:5]]),
            best.values.float(),
            rtol=0,
            atol=1e-3,
        )


def test_the_command_and_bad_numbers(model: Model, clips: list[Clip], tmp_path: Path) -> None:
    model.save(tmp_path / "m")
    write_video(clips[0], tmp_path / "clip.gif")
    (said,) = commands.caption([tmp_path / "clip.gif"], tmp_path / "m", beams=3)
    assert isinstance(said, commands.Caption)
    assert said.caption == model.best_captions(tmp_path / "clip.gif", 3)[0].text
    for beams, others in ((0, {}), (2, {"samples": 2}), (2, {"long": "chunks"}), (65, {})):
        with pytest.raises(ValueError, match=f"beams={beams}"):
            commands.caption([tmp_path / "clip.gif"], tmp_path / "m", beams=beams, **others)
