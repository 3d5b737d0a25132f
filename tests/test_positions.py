"""Positions in seconds: text as ever, codes where they are seen, the same however they are read."""

from __future__ import annotations

import copy
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lm.batches import pack, pad
from lm.cache import Cache
from lm.corpus import Corpus
from lm.document import Document, Item, Nothing, Task, Text, Video
from lm.drawing import Draw, Sampling
from lm.engine import open_engine
from lm.exporting import export_model
from lm.formats import VideoFormat
from lm.gguf_writing import check_layout
from lm.grammar import Grammar
from lm.learning import code_features, make_decoder
from lm.loss import language_loss
from lm.model import Decoder, Sizes
from lm.model_prior import ModelPrior
from lm.positions import Places, body, place_tokens
from lm.sampling import OwnReading, Prompt, continue_streams
from lm.scoring import score_texts
from lm.sequence import Sequence, join, write
from lm.tasks import Model
from lm.vocabulary import Vocabulary
from tests.conftest import CODES, tiny_config
from tokenizer.ordering import BlockLayout
from tokenizer.tokens import VideoTokens

LAYOUT = BlockLayout("interlaced", time=2, space_stride=8, summary=2)
SECONDS = {"positions": "seconds", "head_dim": 8}


def format_of(frames: int, fps: int, tokens: int) -> VideoFormat:
    """A clip of 16 x 24 pixels, 2 x 3 places, in blocks of 4 frames."""
    return VideoFormat(16, 24, frames, Fraction(fps), (), (tokens,) * (-(-frames // 4)))


def widen(decoder: Decoder) -> Decoder:
    for parameter in decoder.parameters():
        if parameter.ndim == 2:
            torch.nn.init.normal_(parameter, std=0.5)
    return decoder.eval()


@pytest.fixture
def decoder(vocabulary: Vocabulary) -> Decoder:
    torch.manual_seed(0)
    made = Decoder(tiny_config(vocabulary, **SECONDS), torch.randn(CODES, 3))
    place_tokens(made, vocabulary)
    return widen(made)


@pytest.fixture
def placed_model(model: Model) -> Model:
    """`model` with positions in seconds."""
    sizes = Sizes(
        width=16, layers=2, heads=2, kv_heads=1, head_dim=8, hidden=24, context=96,
        positions="seconds",
    )  # fmt: skip
    features = code_features(model.codec.code_vectors())
    return Model(
        widen(make_decoder(model.vocabulary, features, sizes)), model.vocabulary, model.codec
    )


def documents(corpus: Corpus) -> list[Sequence]:
    """Streams with no video, one, a still before one, and two."""
    first, second = corpus.record(0), corpus.record(3)
    asked = Text("question", "which?"), Text("answer", "this")
    items: list[list[Item]] = [
        [Text("text", "no video at all"), *asked],
        [Task("watch"), Video(first.tokens), Text("caption", first.captions[0])],
        [Task("fill"), Nothing(), Video(first.stills[0]), Video(first.tokens)],
        [Task("talk"), Video(first.tokens), *asked, Video(second.tokens), *asked],
    ]
    return [write(Document.of(*each), corpus.vocabulary) for each in items]


def states(decoder: Decoder, sequence: Sequence) -> Tensor:
    return decoder(sequence.ids[None], slots=sequence.slots[None])[0]


# Where tokens stand


def test_text_alone_has_the_positions_of_any_decoder(
    decoder: Decoder, corpus: Corpus, vocabulary: Vocabulary
) -> None:
    plain = Decoder(replace(decoder.config, positions="stream"))
    plain.load_state_dict(decoder.state_dict())
    text, video, *_ = documents(corpus)
    assert torch.equal(states(decoder, text), states(plain, text))
    assert not torch.allclose(states(decoder, video), states(plain, video))


def test_axes_take_turns_at_the_bands(decoder: Decoder, corpus: Corpus) -> None:
    ids, vocabulary = documents(corpus)[3].ids[None], copy.copy(corpus.vocabulary)
    vocabulary.layout = replace(LAYOUT, summary=0)
    found = Places(vocabulary, decoder.config)
    places = found.of(ids)[0]
    assert not torch.equal(places[:, 1], places[:, 2])
    cos, sin = found.rope(ids, None, None, places)
    for band, axis in enumerate((0, 1, 2, 0)):  # time, row, column
        angles = places[:, axis] * 10_000.0 ** (-band / 4)
        for half, sign in ((band, -1), (4 + band, 1)):
            torch.testing.assert_close(cos[0, :, 0, half], angles.cos())
            torch.testing.assert_close(sin[0, :, 0, half], sign * angles.sin())


def test_codes_stand_at_their_second_row_and_column() -> None:
    """Two blocks of four frames at 8 a second: a latent in time is a quarter of a second, which
    is two positions. The picture is 2 rows of 3."""
    places = [(row, column) for row in (0, 1) for column in (0, 1, 2)]

    def block(mark: int, begin: int) -> list[tuple[float, float, float]]:
        middle = [(begin, 1.5, 2.0), (begin + 2, 1.5, 2.0)]  # half a block apart, mid-picture
        grid = [(begin + 2 * t, 1 + r, 1 + c) for t in (0, 1) for r, c in places]
        return [(mark, mark, mark), *middle, *grid]

    # the video begins at 1; the largest position of block 0 is 3, of block 1 it is 7
    want = [*block(0, 1), *block(4, 5), (8, 8, 8)]
    assert body(format_of(8, 8, 14), LAYOUT, 4, 8.0).tolist() == [list(p) for p in want]


def test_a_clip_at_half_the_rate_has_the_same_positions_in_seconds() -> None:
    """16 frames at 8 a second and every other one of them: 4 blocks of 12 codes, and 2."""
    grid, codes = replace(LAYOUT, summary=0), []
    for frames, fps in ((16, 8), (8, 4)):
        found = body(format_of(frames, fps, 12), grid, 4, 4.0)[:-1].reshape(-1, 13, 3)
        codes.append({tuple(code) for code in found[:, 1:].reshape(-1, 3).tolist()})
    whole, half = codes
    assert {time for time, _, _ in half} == {1.0, 3.0, 5.0, 7.0}  # every half second from 1 on
    assert half == {code for code in whole if code[0] % 2 == 1}


def test_listed_times_are_seconds_too() -> None:
    even = format_of(8, 8, 14)
    listed = replace(even, fps=None, intervals=(125,) * 7)
    np.testing.assert_allclose(body(listed, LAYOUT, 4, 4.0), body(even, LAYOUT, 4, 4.0))
    late = replace(even, fps=None, intervals=(125,) * 3 + (1125,) + (125,) * 3)
    gap = body(late, LAYOUT, 4, 4.0) - body(even, LAYOUT, 4, 4.0)
    assert not gap[:15].any()
    assert (gap[16:-1, 0] == 4).all() and not gap[16:-1, 1:].any()  # a second later


def test_codes_of_a_block_stand_apart() -> None:
    deep = replace(LAYOUT, depth=2)
    for layout, count in ((LAYOUT, 14), (deep, 26), (LAYOUT, 7), (None, 14)):
        for frames in (1, 3, 4):
            fmt = replace(format_of(4, 8, count), num_frames=frames)
            codes = body(fmt, layout, 4, 4.0)[1:-1]
            assert len({tuple(code) for code in codes.tolist()}) == count


def test_what_follows_a_video_stands_beyond_it(corpus: Corpus, decoder: Decoder) -> None:
    assert decoder.places is not None
    for sequence in documents(corpus):
        places = decoder.places.of(sequence.ids[None])[0]
        plain = sequence.ids < decoder.config.video_start
        marks = places[plain]
        assert torch.equal(marks, marks[:, :1].round().expand(-1, 3))
        before = places.amax(dim=1).cummax(0).values
        steps = marks[1:, 0] - before[:-1][plain[1:]]
        assert ((0 < steps) & (steps <= 1)).all()  # the next whole number


# However it is read


def test_packed_equals_unpacked(decoder: Decoder, corpus: Corpus) -> None:
    sequences = documents(corpus)
    spelled, vocabulary = corpus.spelled(0), corpus.vocabulary
    spans = [spelled.video, spelled.captions[0], *spelled.questions[0], spelled.video]
    sequences.append(join(spans, vocabulary, end=True, branches=[0, 1, 2, 2, 3]))
    found = []
    for batches in ([pad([s], vocabulary) for s in sequences], [pack(sequences, vocabulary, 128)]):
        decoder.zero_grad()
        loss = language_loss(decoder, batches)
        loss.total.backward()
        weight = decoder.get_parameter("blocks.0.attention.qkv.weight")
        assert weight.grad is not None
        found.append((loss.total.detach(), weight.grad.clone()))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_branches_go_on_from_their_trunk(decoder: Decoder, corpus: Corpus) -> None:
    spelled, vocabulary = corpus.spelled(0), corpus.vocabulary
    caption, video = spelled.captions[0], spelled.video
    tree = pad(
        [join([video, *[caption] * 2], vocabulary, end=True, branches=[0, 1, 2])], vocabulary
    )
    assert decoder.places is not None
    places = decoder.places.of(tree.ids, tree.segments)[0]
    start, length = 1 + len(video.ids), len(caption.ids)
    plain = decoder.places.of(join([video, caption], vocabulary, end=False).ids[None])[0]
    assert torch.equal(places[: start + length], plain)
    assert torch.equal(places[start + length : start + 2 * length], plain[start:])


@pytest.mark.parametrize("size", [1, 5, 1000])
def test_cache_equals_no_cache(decoder: Decoder, corpus: Corpus, size: int) -> None:
    c = decoder.config
    for sequence in documents(corpus):
        cache, parts = Cache(c.layers, 1, c.context, c.kv_heads, c.head_dim), []
        pairs = sequence.ids[None].split(size, 1), sequence.slots[None].split(size, 1)
        for ids, slots in zip(*pairs, strict=True):
            parts.append(decoder(ids, slots=slots, cache=cache))
        torch.testing.assert_close(
            torch.cat(parts, 1)[0], states(decoder, sequence), rtol=1e-5, atol=1e-5
        )


def test_rows_of_different_length_are_written_side_by_side(
    decoder: Decoder, corpus: Corpus
) -> None:
    """Prompts that end among codes, in a header and in text; every step as if read at once."""
    sequences = documents(corpus)[1:]
    code = [int((s.modality == 2).nonzero()[4]) for s in sequences]
    cuts = [code[0], code[1] - 2, code[2] + 9]
    rows = [
        (s.ids[:n].tolist(), s.slots[:n].tolist()) for s, n in zip(sequences, cuts, strict=True)
    ]
    with torch.inference_mode():
        reading, kept = OwnReading(decoder, rows, room=8), [0, 1, 2]
        for step in range(5):
            got = reading.scores(0, decoder.config.num_ids)
            for row, i in enumerate(kept):
                want = decoder.logits(states(decoder, sequences[i])[cuts[i] + step - 1])
                torch.testing.assert_close(got[row], want, rtol=1e-4, atol=1e-4)
            if step == 2:
                reading.keep([0, 2])
                kept = [0, 2]
            nexts = [(int(sequences[i].ids[cuts[i] + step]), cuts[i] + step) for i in kept]
            slots = [int(sequences[i].slots[at]) for i, (_, at) in zip(kept, nexts, strict=True)]
            reading.push([token for token, _ in nexts], slots)


def test_guided_films_do_not_depend_on_their_neighbours(
    decoder: Decoder, corpus: Corpus, vocabulary: Vocabulary
) -> None:
    grammar = Grammar(vocabulary)

    def prompt(*items: Item) -> list[int]:
        return write(Document.of(Task("film"), *items), vocabulary).ids.tolist()[:-1]

    null = prompt(Nothing())
    prompts = [Prompt(prompt(Text("caption", t)), null) for t in ("a red ball", "it rises up high")]
    sampling = Sampling(video=Draw(), guidance=2.0)
    together = continue_streams(decoder, grammar, prompts, sampling=sampling, num_items=1,
                                follow=lambda _: ("<video>",))  # fmt: skip
    for seed, (one, state) in enumerate(zip(prompts, together, strict=True)):
        (alone,) = continue_streams(decoder, grammar, [one], sampling=sampling, seeds=[seed],
                                    num_items=1, follow=lambda _: ("<video>",))  # fmt: skip
        mine, theirs = alone.items[-1], state.items[-1]
        assert isinstance(mine, Video) and isinstance(theirs, Video)
        assert all(map(torch.equal, mine.tokens.codes, theirs.tokens.codes))


def test_choices_after_a_video_score_as_read_at_once(decoder: Decoder, corpus: Corpus) -> None:
    record, vocabulary = corpus.record(0), corpus.vocabulary
    texts = ["falls", "goes up and up"]
    grammar, scores = Grammar(vocabulary), []
    whole = [
        write(Document.of(Task("watch"), Video(record.tokens), Text("label", t)), vocabulary)
        for t in texts
    ]
    at = whole[0].ids.tolist().index(vocabulary.special("<label>")) + 1
    prompt = whole[0].ids[:at].tolist()
    got, _ = score_texts(decoder, grammar, [prompt], texts)
    stop, start = vocabulary.special("<stop>"), vocabulary.text_start
    for sequence in whole:
        logits = decoder.logits(states(decoder, sequence)[at - 1 : -2]).detach()
        allowed = torch.cat(
            [logits[:, stop : stop + 1], logits[:, start : vocabulary.video_start]], 1
        )
        target = sequence.ids[at:-1]
        column = torch.where(target == stop, 0, target - start + 1)
        scores.append(allowed.log_softmax(-1).gather(1, column[:, None]).sum())
    torch.testing.assert_close(got[0], torch.stack(scores), rtol=1e-4, atol=1e-4)


def test_context_counts_tokens_and_not_positions(decoder: Decoder, corpus: Corpus) -> None:
    config = replace(decoder.config, positions_per_second=1000.0)
    video = documents(corpus)[1]
    places = Places(corpus.vocabulary, config).of(video.ids[None])
    assert places.max() > 500 > config.context
    decoder.places = Places(corpus.vocabulary, config)
    assert states(decoder, video).isfinite().all()


# Who cannot follow


def test_dropped_tokens_are_refused(decoder: Decoder, corpus: Corpus) -> None:
    c, sequence = decoder.config, documents(corpus)[1]
    cache = Cache(c.layers, 1, c.context, c.kv_heads, c.head_dim)
    decoder(sequence.ids[None, :9], cache=cache)
    cache.trim(torch.tensor([7]))
    with pytest.raises(ValueError, match="every token read once and in order"):
        decoder(sequence.ids[None, 9:10], cache=cache)


def test_others_refuse_positions_in_seconds(placed_model: Model, tmp_path: Path) -> None:
    decoder, vocabulary = placed_model.decoder, placed_model.vocabulary
    for engine in ("torch:int8", "llama.cpp"):
        with pytest.raises(ValueError, match="positions in seconds: give torch"):
            open_engine(engine, decoder, vocabulary)
    plain = Decoder(replace(decoder.config, num_slots=0))
    with pytest.raises(ValueError, match=r"model.sizes.positions stream"):
        export_model(plain, vocabulary, tmp_path / "qwen3")
    assert not (tmp_path / "qwen3").exists()
    with pytest.raises(ValueError, match=r"model.sizes.positions stream"):
        check_layout(plain)
    with pytest.raises(ValueError, match=r"model.sizes.positions stream"):
        ModelPrior(placed_model)


def test_a_saved_model_keeps_its_positions(
    placed_model: Model, model: Model, tmp_path: Path
) -> None:
    placed_model.save(tmp_path)
    again = Model.load(tmp_path)
    tokens = torch.arange(6) % model.codec.codebook_size
    clip = VideoTokens(
        (tokens,),
        torch.arange(2) / 4.0,
        16,
        24,
        2,
        model.codec.codebook_size,
        model.codec.tokens_id,
    )
    ids = write(Document.of(Task("watch"), Video(clip)), model.vocabulary).ids[None]
    assert torch.equal(placed_model.decoder(ids), again.decoder(ids))
    assert again.decoder.config.positions == "seconds"
    assert placed_model.caption(clip) == again.caption(clip)
    assert not {name for name in model.decoder.config.to_json() if "positions" in name}
    assert "positions" in placed_model.decoder.config.to_json()


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"positions": "frames"}, "give stream or seconds"),
        ({"positions": "seconds", "head_dim": 4}, "want 6 or more"),
        ({"positions_per_second": 0.0}, "give a number above 0"),
    ],
)
def test_sizes_that_cannot_be(choice: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(Sizes(), **choice)
