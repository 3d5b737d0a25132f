"""What a model can be asked, on a tiny one with random weights."""

import json
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from data.clip import Clip
from lm.choosing import SEED_STEP
from lm.drawing import Draw, Sampling
from lm.evaluate import evaluate
from lm.framing import Framing
from lm.model import Decoder
from lm.prompting import about_video
from lm.sampling import read_prompt
from lm.scoring import score_captions
from lm.show_command import show_sequence
from lm.tasks import Model
from lm.watching import Clock
from tokenizer.codec import Codec


@contextmanager
def no_warning() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def test_a_saved_model_is_the_same_model(model: Model, clips: list[Clip], tmp_path: Path) -> None:
    model.save(tmp_path / "m")
    again = Model.load(tmp_path / "m")
    ids = torch.arange(len(model.vocabulary))[None, :90]
    with torch.no_grad():
        assert torch.equal(model.decoder(ids), again.decoder(ids))
    assert again.vocabulary.presets == model.vocabulary.presets
    assert again.caption(clips[0]) == model.caption(clips[0])
    a, b = (m.generate("a red ball", seed=3) for m in (model, again))
    assert torch.equal(a.frames, b.frames)


def test_what_is_no_video_is_told(model: Model, clips: list[Clip]) -> None:
    for wrong in (clips[0].frames.numpy(), None, [clips[0]]):
        with pytest.raises(
            ValueError, match=f"a {type(wrong).__name__} is no video: give the path"
        ):
            model.caption(cast(Any, wrong))


def test_directories_of_another_kind_are_refused(
    model: Model, run_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(FileNotFoundError, match="no such directory"):
        Model.load(tmp_path / "none")
    with pytest.raises(ValueError, match="not a model directory"):
        Model.load(tmp_path)
    with pytest.raises(ValueError, match="a codec, not a language model"):
        Model.load(run_folder / "codec")
    model.save(tmp_path / "m")
    for name in ("pieces.model", "vocabulary.json"):
        content = (tmp_path / "m" / name).read_bytes()
        (tmp_path / "m" / name).write_bytes(content[: len(content) // 2])
        with pytest.raises(ValueError, match="damaged vocabulary"):
            Model.load(tmp_path / "m")
        (tmp_path / "m" / name).write_bytes(content)
    pieces = (tmp_path / "m" / "pieces.model").read_bytes()
    (tmp_path / "m" / "pieces.model").write_bytes(b"")
    with pytest.raises(ValueError, match="damaged vocabulary"):
        Model.load(tmp_path / "m")
    (tmp_path / "m" / "pieces.model").write_bytes(pieces)
    whole = json.loads((tmp_path / "m" / "model.json").read_text())
    for change, message in (
        ({"taught": 5}, "damaged model"),
        ({"decoder": {**whole["decoder"], "context": 96.0}}, "context is no whole number"),
        ({"grammar": 2}, "stream grammar 2"),
        ({"decoder": {**whole["decoder"], "num_summary": 6}}, "one by one, here they are added up"),
    ):
        (tmp_path / "m" / "model.json").write_text(json.dumps({**whole, **change}))
        with pytest.raises(ValueError, match=message):
            Model.load(tmp_path / "m")
    (tmp_path / "m" / "model.json").write_text(json.dumps(whole))
    weights = bytearray((tmp_path / "m" / "model.safetensors").read_bytes())
    weights[-9] ^= 1
    (tmp_path / "m" / "model.safetensors").write_bytes(weights)
    with pytest.raises(ValueError, match="does not match the checksum"):
        Model.load(tmp_path / "m")
    (tmp_path / "m" / "model.safetensors").write_bytes(b"rubbish")
    with pytest.raises(ValueError, match="damaged model"):
        Model.load(tmp_path / "m")
    record = json.loads((tmp_path / "m" / "model.json").read_text())
    (tmp_path / "m" / "model.json").write_text(json.dumps({**record, "version": 99}))
    with pytest.raises(ValueError, match="upgrade"):
        Model.load(tmp_path / "m")


def test_batches_give_what_single_clips_give(model: Model, clips: list[Clip]) -> None:
    with no_warning():
        assert model.caption_batch(clips) == [model.caption(clip) for clip in clips]
        questions = ["what colour is it?", "and how does it move?"] * 3
        one_by_one = [model.ask(c, q) for c, q in zip(clips, questions, strict=True)]
        assert model.ask_batch(clips, questions) == one_by_one
        labels = ["falls", "rises", "spins round and round"]
        for clip, ranked in zip(clips, model.recognize_batch(clips, labels), strict=True):
            alone = model.recognize(clip, labels)
            assert [s.label for s in ranked] == [s.label for s in alone]
            assert sum(s.probability for s in alone) == pytest.approx(1)
            assert alone[0].probability == max(s.probability for s in alone)


def test_choices_bound_the_answer(model: Model, clips: list[Clip]) -> None:
    assert model.ask(clips[0], "what colour is it?", ["pink", "mauve"]) in ("pink", "mauve")
    for labels in (["a", "a"], ["a", " a"], ["", "a"], [" "]):
        with pytest.raises(
            ValueError, match="different labels or choices, at least one, none of them empty"
        ):
            model.recognize(clips[0], labels)


def test_captions_are_drawn(model: Model, clips: list[Clip]) -> None:
    drawn = model.captions(clips[0], 4, temperature=1.0, seed=1)
    assert len(set(drawn)) > 1
    assert drawn == model.captions(clips[0], 4, temperature=1.0, seed=1)


def test_films_have_the_trained_shape_and_follow_their_seed(model: Model) -> None:
    prompts: list[str | None] = ["a red ball", "blue", None]
    sampling = Sampling(video=Draw(1.0), guidance=1.5)
    films = model.generate_batch(prompts, None, [4, 5, 6], sampling)
    for film, prompt in zip(films, prompts, strict=True):
        assert film.frames.shape == (4, 3, 16, 24)
        assert film.timestamps.tolist() == [0, 0.25, 0.5, 0.75]
        assert film.captions == (() if prompt is None else (prompt,))
    alone = model.generate("blue", seed=5, guidance=1.5, temperature=1.0, min_p=0.0)
    assert torch.equal(alone.frames, films[1].frames)


def test_shorter_films_are_cut_and_longer_ones_go_on(model: Model) -> None:
    with no_warning():
        assert len(model.generate("a red ball", seconds=0.5)) == 2
    with pytest.warns(UserWarning, match="longer than the 1 s"):
        film = model.generate("a red ball", seconds=2.75)
    assert len(film) == 11
    assert film.timestamps[-1] == pytest.approx(2.5)


def test_lower_rates_are_served(model: Model, clips: list[Clip]) -> None:
    with no_warning():
        assert len(model.generate("blue", tokens_per_frame=1.5)) == 4
        tokens = model.encode(clips[0], tokens_per_frame=1.5)
    assert [len(block) for block in tokens.codes] == [3, 3]
    with pytest.warns(UserWarning, match="not trained at"):
        model.generate("blue", tokens_per_frame=1)
    with pytest.raises(ValueError, match=r"serves 0\.5 to 3"):
        model.generate("blue", tokens_per_frame=7)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, c: m.generate("  "), "prompt is empty"),
        (lambda m, c: m.generate("a", seconds=-1), "positive length"),
        (lambda m, c: m.generate("a", seconds=0.01), "not half a frame at 4 fps: ask for 0.25"),
        (lambda m, c: m.generate("a", seconds=0.124), "not half a frame"),
        (lambda m, c: m.generate("a", seconds=1e9), "ask for at most 5000 s"),
        (lambda m, c: m.generate("a", seconds=1e308), "ask for at most 5000 s"),
        (lambda m, c: m.generate("a", guidance=float("nan")), "guidance=nan: give 0"),
        (lambda m, c: m.generate("a", guidance=-1), "guidance=-1: give 0"),
        (lambda m, c: m.generate("a", seed=2**70), "seed=.*: give a whole number"),
        (lambda m, c: m.generate("a", tokens_per_frame=float("inf")), "serves 0.5 to 3"),
        (lambda m, c: m.encode(c, tokens_per_frame=float("nan")), "at least one token"),
        (lambda m, c: m.ask(c, ""), "question is empty"),
        (lambda m, c: m.generate("xyz " * 60), r"more than fit \(context 96\)"),
        (lambda m, c: m.ask(c, "xyz " * 60), r"more than fit \(context 96\)"),
        (lambda m, c: m.recognize(c, ["xyz " * 60, "b"]), "more than the context"),
        (lambda m, c: m.generate("a \ud800"), "not valid Unicode"),
        (lambda m, c: m.encode(c, tokens_per_frame=0.1), "at least one token"),
        (lambda m, c: m.caption(replace(m.encode(c), codec_id="x")), "codec 'x'"),
    ],
)
def test_bad_input_is_named(model: Model, clips: list[Clip], call, message: str) -> None:  # noqa: ANN001
    with pytest.raises(ValueError, match=message) as caught:
        call(model, clips[0])
    assert "\n" not in str(caught.value)


def test_a_video_beyond_the_context_says_by_how_much(model: Model) -> None:
    long = Clip.from_frames(torch.zeros(64, 3, 16, 24, dtype=torch.uint8), 4)
    tokens = model.codec.encode(long)
    taken = re.escape("more than the context of 96: ") + ".* fewer tokens a frame"
    for call in (model.caption, lambda video: model.recognize(video, ["a", "b"])):
        with pytest.raises(ValueError, match=rf"take.? (\d+) tokens, .*{taken}") as caught:
            call(tokens)
        needed, excess = (int(n) for n in re.findall(r"(\d+) (?:tokens|more)", str(caught.value)))
        assert needed > tokens.num_tokens and 0 <= needed - 96 <= excess <= needed - 95


@pytest.mark.parametrize(
    ("shape", "fps", "frames"),
    [((4, 32, 32), 4, 4), ((8, 16, 24), 8, 4), ((40, 16, 24), 4, 4), ((1, 16, 24), 4, 1)],
)
def test_other_formats_are_brought_to_the_trained_one(
    model: Model, shape: tuple[int, int, int], fps: float, frames: int
) -> None:
    length, height, width = shape
    clip = Clip.from_frames(torch.zeros(length, 3, height, width, dtype=torch.uint8), fps)
    if length == 1:
        tokens = model.encode(clip)
    else:
        with pytest.warns(UserWarning, match="trained format"):
            tokens = model.encode(clip)
    assert (tokens.height, tokens.width, tokens.num_frames) == (16, 24, frames)
    assert isinstance(model.caption(tokens), str)


def test_a_frame_is_held_where_a_model_knows_clips_alone(model: Model) -> None:
    image = Clip.from_frames(torch.full((1, 3, 16, 24), 7, dtype=torch.uint8), 1.0)
    assert model.framing.images and model.encode(image).num_frames == 1
    moving = [fmt for fmt in model.vocabulary.presets if fmt.num_frames > 1]
    framing = Framing.of(moving)
    with pytest.warns(UserWarning, match="1 frame held for 4 at 4 fps"):
        held = framing.fit(image)
    assert held.frames.shape == (4, 3, 16, 24) and bool((held.frames == 7).all())
    assert held.timestamps.tolist() == [0, 0.25, 0.5, 0.75]
    seen, had = framing.times(image)
    assert seen.tolist() == held.timestamps.tolist() == had.tolist()
    assert Clock.of(framing, image).as_seen(0.0) == 0.0


def test_a_codec_of_another_model_is_refused(model: Model, tiny_codec: Codec) -> None:
    other = Codec(tiny_codec.backbone, tiny_codec.quantizer, block_frames=4)
    with pytest.raises(ValueError, match="it was trained with"):
        Model(model.decoder, model.vocabulary, other)


def test_evaluation_scores_what_there_is(model: Model, clips: list[Clip]) -> None:
    done: list[tuple[int, int]] = []
    found = evaluate(model, clips, progress=lambda n, total: done.append((n, total)))
    values = {figure.name: figure for figure in found.figures}
    assert {"caption_exact", "answer_all", "answer_colour", "recognition"} <= set(values)
    assert found.protocol["captions"] == "4 beams" and "caption_exact_greedy" in values
    assert {"caption_cost", "video_cost", "video_cost_unprompted"} <= set(values)
    assert values["answer_colour"].n == 6
    assert values["answer_colour"].chance == pytest.approx(1 / 3)
    assert values["answer_colour"].majority == pytest.approx(1 / 3)
    assert all(0 <= f.value <= 1 for f in found.figures if not f.unit)
    assert all(f.low <= f.value <= f.high for f in found.figures if f.low is not None)
    assert done[-1][0] == done[-1][1]
    codes = model.encode(clips[0]).num_tokens * 3.585  # bits of a code drawn evenly from 12
    assert 0.2 * codes / 4 < values["video_cost"].value < 20 * codes / 4


def test_evaluation_of_scenes_uses_the_oracle(model: Model) -> None:
    from data.scenes import Scenes

    world = Scenes("easy", split="heldout", num_clips=3, num_frames=4, height=16, width=24, fps=4)
    found = evaluate(model, world.batch(range(3)), num_films=2)
    names = {figure.name for figure in found.figures}
    assert {"caption_colour", "generation_exact", "generation_motion", "answer_all"} <= names
    by_name = {figure.name: figure for figure in found.figures}
    assert by_name["generation_colour"].ceiling is not None
    assert by_name["generation_colour"].chance is not None
    assert by_name["generation_exact"].n == 2
    best = "generation_best_of_4_exact"
    assert by_name[best].ceiling == by_name["generation_exact"].ceiling
    done: list[tuple[int, int]] = []
    for candidates in (1, 2):
        found = evaluate(
            model,
            world.batch(range(3)),
            num_films=1,
            candidates=candidates,
            progress=lambda n, total: done.append((n, total)),
        )
        names = {figure.name for figure in found.figures}
        assert done[-1][0] == done[-1][1] and best not in names
        assert ("generation_best_of_2_exact" in names) == (candidates == 2)
    with pytest.raises(ValueError, match="candidates=0: give 1"):
        evaluate(model, world.batch([0]), candidates=0)
    with pytest.raises(ValueError, match="no clips"):
        evaluate(model, [])


def test_a_sequence_is_shown(model: Model, tmp_path: Path, clips: list[Clip]) -> None:
    from data.writing import write_video

    model.save(tmp_path / "m")
    write_video(clips[0], tmp_path / "clip.gif")
    shown = show_sequence(tmp_path / "clip.gif", tmp_path / "m", caption="<video>")
    assert shown.text.startswith("<begin>\n<film>\n<caption>") and "<preset 0" in shown.text
    assert str(shown).startswith("4 frames of 24x16, 1 s at 4 fps, 3 tokens a frame\n<begin>")
    assert str(shown).endswith(f"({shown.num_tokens} tokens)")
    write_video(clips[0].at(torch.tensor([0])), tmp_path / "still.png")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a model of clips shown an image
        still = show_sequence(tmp_path / "still.png", tmp_path / "m", tokens_per_frame=1.5)
    assert still.num_tokens and str(still).splitlines()[0].endswith(" tokens a frame")


def test_models_run_without_a_table_of_slots(model: Model) -> None:
    config = replace(model.decoder.config, num_slots=0)
    assert Decoder(config).slots is None


def test_score_captions_is_the_texts_own_likelihood(model: Model, clips: list[Clip]) -> None:
    tokens = model.encode_batch(clips[:3])
    captions = ["a red ball", "left", "a blue ball moves up"]
    together = score_captions(model.decoder, model.vocabulary, tokens, captions)
    for video, caption, score in zip(tokens, captions, together, strict=True):
        prompt = about_video(model.vocabulary, video, "caption")
        ids = [*model.vocabulary.encode_text(caption), model.vocabulary.special("<stop>")]
        state = read_prompt(model.grammar, prompt)[1]
        hidden = model.decoder(
            torch.tensor([prompt + ids]), slots=torch.tensor([state + [0] * len(ids)])
        )
        codes_begin = model.decoder.config.video_start  # where text may stand, codes may not
        states = hidden[0, len(prompt) - 1 : -1]
        likely = model.decoder.logits(states, 0, codes_begin).log_softmax(-1)
        alone = likely.gather(1, torch.tensor(ids)[:, None]).sum()
        torch.testing.assert_close(score, alone, rtol=1e-4, atol=1e-3)


def test_of_candidates_the_likeliest_is_kept_and_the_first_is_the_single_one(model: Model) -> None:
    prompts, seeds = ["a red ball", "left"], [3, 5]
    singles = [
        model.generate_batch(prompts, seeds=[seed + SEED_STEP * k for seed in seeds])
        for k in range(3)
    ]
    with pytest.raises(ValueError, match="candidates=999: at most 256 are made side by side"):
        model.generate_batch(prompts, seeds=seeds, candidates=999)
    kept = model.generate_batch(prompts, seeds=seeds, candidates=3)
    for row, prompt in enumerate(prompts):
        made = [films[row] for films in singles]
        scores = score_captions(
            model.decoder, model.vocabulary, model.encode_batch(made), [prompt] * 3
        )
        assert torch.equal(kept[row].frames, made[int(scores.argmax())].frames)
    with pytest.raises(ValueError, match="candidates=0"):
        model.generate("a red ball", candidates=0)
    with pytest.raises(ValueError, match="without a prompt"):
        model.generate(None, candidates=2)
