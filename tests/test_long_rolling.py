"""Long videos block by block: the same as at once under a band, as plain reading where all fits.

The reference computes attention in its own way: every token at once, a mask of what each one sees,
places counted anew for each block, turns of keys by complex numbers, in float64.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

import kinolex
from data.clip import Clip
from data.writing import write_video
from lm.document import Task, Video
from lm.long.asking import Long, answer_long
from lm.long.parts import Footage
from lm.long.reader import ModelReader
from lm.long.rolling import Room, joined_blocks
from lm.long.rolling_cache import RollingCache, merge_neighbours
from lm.long.rolling_reader import ModelRolling
from lm.model import Block, Decoder
from lm.prompting import ask_of, opened, watching
from lm.scoring import score_texts
from lm.sequence import write_item
from lm.tasks import Model
from tests.test_long import CHOICES, Held, Knowing, Listed, quiet_with_event
from tokenizer.tokens import VideoTokens

QUESTION, COLOURS = "what colour is it?", ("red", "blue", "green")
PER_BLOCK = 6  # codes of the tiny model's blocks of 2 frames
TRAINED = 2  # blocks of its clips


def noise(length: int, seed: int = 0) -> Clip:
    luck = torch.Generator().manual_seed(seed)
    frames = torch.randint(0, 256, (length, 3, 16, 24), dtype=torch.uint8, generator=luck)
    return Clip.from_frames(frames, 4, source="noise")


# Reading at once, by a mask


def turned(x: Tensor, places: Tensor, theta: float) -> Tensor:
    """Rotary positions on float64 (H, L, E): pairs (i, i + E/2) as complex numbers."""
    half = x.shape[-1] // 2
    angles = places[:, None] * theta ** (-torch.arange(half, dtype=torch.float64) / half)
    z = torch.complex(x[..., :half], x[..., half:]) * torch.polar(torch.ones_like(angles), angles)
    return torch.cat([z.real, z.imag], -1)


def band(sink: int, lengths: Sequence[int], held: int, tail: int) -> tuple[Tensor, Tensor]:
    """What each token sees, bool (L, L), and where it sees it, int64 (L, L).

    A token of block b sees the sink and the blocks after b - held up to itself; the first block
    it sees stands right behind the sink. The tail counts to the last block.
    """
    block = torch.tensor([-1] * sink + [b for b, n in enumerate(lengths) for _ in range(n)])
    block = torch.cat([block, torch.full((tail,), len(lengths) - 1)])
    count = len(block)
    sees = torch.zeros(count, count, dtype=torch.bool)
    places = torch.zeros(count, count, dtype=torch.int64)
    for i in range(count):
        first = max(0, int(block[i]) - held + 1)
        gone = sum(lengths[:first])
        for j in range(i + 1):
            sees[i, j] = block[j] < 0 or block[j] >= first
            places[i, j] = j if block[j] < 0 else j - gone
    return sees, places


def read_at_once(
    decoder: Decoder, ids: Tensor, slots: Tensor, sees: Tensor, places: Tensor
) -> Tensor:
    """Last hidden states (L, D) of tokens (L,) under a mask and places of their own."""
    config = decoder.config
    heads, groups, size = config.heads, config.kv_heads, config.head_dim
    x = decoder.embed(ids[None], slots[None])[0].double()
    for block in decoder.blocks:
        assert isinstance(block, Block)
        attention = block.attention
        assert attention.query_norm is not None and attention.key_norm is not None
        y = norm(x, block.attention_norm.weight, config.norm_eps)
        qkv = (y @ attention.qkv.weight.double().T).view(len(ids), -1, size).transpose(0, 1)
        q, k, v = qkv.split((heads, groups, groups))
        q = norm(q, attention.query_norm, config.norm_eps)
        k = norm(k, attention.key_norm, config.norm_eps)
        rows = []
        for i in range(len(ids)):
            seen = sees[i].nonzero()[:, 0]
            keys = turned(k[:, seen], places[i, seen], config.rope_theta)
            query = turned(q[:, i : i + 1], places[i, i : i + 1], config.rope_theta)
            keys = keys.repeat_interleave(heads // groups, 0)
            scores = (query @ keys.transpose(1, 2))[:, 0] / size**0.5  # (H, seen)
            values = v[:, seen].repeat_interleave(heads // groups, 0)
            rows.append((scores.softmax(-1)[:, None] @ values)[:, 0].flatten())
        x = x + torch.stack(rows) @ attention.out.weight.double().T
        y = norm(x, block.feed_forward_norm.weight, config.norm_eps)
        gate, up = (y @ block.feed_forward.gate_up.weight.double().T).chunk(2, -1)
        x = x + (gate * gate.sigmoid() * up) @ block.feed_forward.down.weight.double().T
    return norm(x, decoder.norm.weight, config.norm_eps)


def norm(x: Tensor, gain: Tensor, eps: float) -> Tensor:
    return x / (x.square().mean(-1, keepdim=True) + eps).sqrt() * gain.double()


def score_of(model: Model, states: Tensor, text: str) -> float:
    """Log-likelihood of a text's tokens and its end after states (n, D), among text tokens."""
    vocabulary = model.vocabulary
    said = [*vocabulary.encode_text(text), vocabulary.special("<stop>")]
    logits = states @ model.decoder.output_table().double().T
    among = [vocabulary.special("<stop>"), *range(vocabulary.text_start, vocabulary.video_start)]
    rows = logits[:, among].log_softmax(-1)
    return sum(float(row[among.index(token)]) for row, token in zip(rows, said, strict=True))


@torch.inference_mode()
@pytest.mark.parametrize(("held", "length"), [(1, 9), (2, 4), (2, 11), (2, 16)])
def test_block_by_block_is_all_at_once_under_a_band(model: Model, held: int, length: int) -> None:
    """Scores after the last block: the stream is that of a whole clip, cut by the mask alone."""
    footage = Long("window").footage(noise(length, length), model)
    blocks = list(footage.read())
    room = Room.of_window(held, PER_BLOCK)
    rolling = ModelRolling(model, joined_blocks(blocks[:held]), room)
    for part in blocks[held:]:
        rolling.read(part.tokens)
    found = rolling.score(QUESTION, COLOURS).scores
    mark = model.vocabulary.special("<block>")
    whole = write_item(Video(joined_blocks(blocks)), model.vocabulary)
    first = opened(model.vocabulary, [Task("watch"), Video(joined_blocks(blocks[:held]))], None)
    sink, body = first.index(mark), whole.ids.tolist().index(mark)
    asked = opened(model.vocabulary, [Task("watch"), ask_of(QUESTION)], "<answer>")[2:]
    for choice in COLOURS:
        said = model.vocabulary.encode_text(choice)
        ids = torch.tensor([*first[:sink], *whole.ids[body:].tolist(), *asked, *said])
        slots = torch.zeros_like(ids)
        slots[sink : sink + len(whole.slots) - body] = torch.from_numpy(whole.slots[body:])
        tail = 1 + len(asked) + len(said)  # from `</video>` on
        sees, places = band(sink, [PER_BLOCK + 1] * len(blocks), held, tail)
        assert int((places * sees).max()) < sink + held * (PER_BLOCK + 1) + tail
        states = read_at_once(model.decoder, ids, slots, sees, places)
        expected = score_of(model, states[-1 - len(said) :], choice)
        assert found[choice] == pytest.approx(expected, abs=2e-4)


@pytest.mark.parametrize("long", ["window", "memory", "memory=3", "memory=7"])
@pytest.mark.parametrize("length", [1, 2, 3, 4])
def test_a_video_that_fits_is_read_as_ever(model: Model, long: str, length: int) -> None:
    clip = noise(length, length)
    plain = {s.label: s.log_likelihood for s in model.choose(clip, QUESTION, COLOURS)}
    footage, way = Long.parse(long).footage(clip, model), Long.parse(long)
    blocks = list(footage.read())
    room = way.room(2, PER_BLOCK, 4)
    assert room is not None
    rolling = ModelReader(model).roll(joined_blocks(blocks), room)
    assert rolling.score(QUESTION, COLOURS).scores == pytest.approx(plain, abs=1e-4)
    assert rolling.answer(QUESTION).text == model.ask(clip, QUESTION)
    assert rolling.caption().text == model.caption(clip, beams=1)
    told = rolling.answer(QUESTION)
    prompt = watching(model.vocabulary, model.encode(clip), ask_of(QUESTION), mark="<answer>")
    if model.vocabulary.encode_text(told.text) and len(told.text) < 20:
        scores, _ = score_texts(model.decoder, model.grammar, [prompt], [told.text])
        assert told.score == pytest.approx(float(scores), abs=1e-3)
    found = model.ask(clip, QUESTION, COLOURS, long=long)
    assert (found.text, found.readings) == (max(plain, key=lambda c: plain[c]), 1)


def test_codes_of_a_file_are_those_of_the_whole_clip(model: Model, tmp_path: Path) -> None:
    clip = noise(41)
    whole = model.codec.encode(clip)
    write_video(clip, tmp_path / "clip.mkv", quality="high")
    for video in (clip, tmp_path / "clip.mkv", whole):
        parts = list(Footage(video, model.codec, model.framing, 2, chained=True).read())
        codes = [block for part in parts for block in part.tokens.codes]
        assert len(codes) == len(whole.codes) == 21
        assert all(map(torch.equal, codes, whole.codes))
        assert torch.equal(joined_blocks(parts).timestamps, whole.timestamps)
        assert (parts[-1].start, parts[-1].end) == pytest.approx((10.0, 10.25))


# The cache


def filled(decoder: Decoder, count: int, capacity: int) -> RollingCache:
    cache = RollingCache(decoder, capacity)
    luck = torch.Generator().manual_seed(count)
    cache.keys.copy_(torch.randn(cache.keys.shape, generator=luck))
    cache.values.copy_(torch.randn(cache.values.shape, generator=luck))
    cache.trim(torch.tensor([count]))
    return cache


def test_what_stays_moves_up_and_keys_turn_with_it(decoder: Decoder) -> None:
    cache = filled(decoder, 11, 12)
    keys, values = cache.keys.clone(), cache.values.clone()
    cache.shorten(3, 4)
    assert cache.length == 7
    assert torch.equal(cache.keys[..., :3, :], keys[..., :3, :])
    theta = decoder.config.rope_theta
    layers, _, groups, _, size = keys.shape
    moved = keys[..., 7:11, :].double().reshape(layers * groups, 4, size)
    expected = turned(moved, torch.full((4,), -4), theta).view(layers, 1, groups, 4, size)
    torch.testing.assert_close(cache.keys[..., 3:7, :].double(), expected, rtol=1e-5, atol=1e-6)
    assert torch.equal(cache.values[..., 3:7, :], values[..., 7:11, :])
    with pytest.raises(AssertionError, match="not held"):
        cache.shorten(3, 5)


def test_alike_neighbours_are_merged_by_hand() -> None:
    keys = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 3.0], [-1.0, 0.0], [0.1, 1.0]])
    values = torch.tensor([[1.0], [2.0], [6.0], [4.0], [5.0]])
    counts = torch.tensor([1, 3, 1, 1, 1])
    k, v, c = merge_neighbours(keys, values, counts, 4)
    assert c.tolist() == [1, 4, 1, 1]
    torch.testing.assert_close(k[1], torch.tensor([0.0, 1.5]))  # (3 * 1 + 1 * 3) / 4
    torch.testing.assert_close(v[1], torch.tensor([3.0]))  # (3 * 2 + 1 * 6) / 4
    for keep in range(1, 6):
        k, v, c = merge_neighbours(keys, values, counts, keep)
        assert len(k) == len(v) == len(c) == keep and int(c.sum()) == 7
        torch.testing.assert_close((v * c[:, None]).sum(0), torch.tensor([22.0]))


def test_merged_keys_are_means_before_they_are_turned(decoder: Decoder) -> None:
    cache = filled(decoder, 6, 8)
    layers, _, groups, _, size = cache.keys.shape
    key = torch.randn(layers * groups, 1, size, dtype=torch.float64)
    theta = decoder.config.rope_theta
    at = turned(key.expand(-1, 3, -1), torch.arange(2, 5), theta)  # one key at places 2, 3 and 4
    cache.keys[..., 2:5, :] = at.view(layers, 1, groups, 3, size).float()
    mean = cache.values[..., 2:5, :].mean(-2)
    cache.shorten(2, 3, keep=1)
    assert cache.length == 4 and cache.stands_for[:5].tolist() == [1, 1, 3, 1, 1]
    expected = turned(key, torch.tensor([2]), theta).view(layers, 1, groups, size)
    torch.testing.assert_close(cache.keys[..., 2, :].double(), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(cache.values[..., 2, :], mean)


@pytest.mark.parametrize("memory", [0, 1, 4, 7, 10])
def test_what_is_held_does_not_grow(model: Model, memory: int) -> None:
    way = Long("memory", memory) if memory else Long("window")
    room = way.room(2, PER_BLOCK, 2 * TRAINED)
    assert room is not None and room.tokens == TRAINED * (PER_BLOCK + 1)
    blocks = list(way.footage(noise(60), model).read())
    rolling = ModelRolling(model, joined_blocks(blocks[: room.first]), room)
    sizes, lengths = set(), []
    for part in blocks[room.first :]:
        rolling.read(part.tokens)
        cache = rolling._cache
        sizes.add((cache.keys.nbytes, cache.values.nbytes, cache.keys.data_ptr()))
        lengths.append(cache.length)
        marks = cache.stands_for[rolling._sink : cache.length]
        if memory:
            kept = room.block_tokens + 1  # every token read is in one of those held
            read = kept * (room.first + len(lengths))
            assert int(marks.sum()) == read and len(marks) <= room.tokens
    assert len(sizes) == 1
    sink = 2 + 2 + (memory > 7) * 15  # <begin> <watch> <video> <preset>, or a header in digits
    assert max(lengths) <= rolling._sink + room.tokens and (memory > 7 or rolling._sink == sink)
    assert lengths[-1] == lengths[-5]


# Strategies


class Remembered(Knowing):
    """A reader whose readings that go on are kept."""

    def __init__(self, remembers: bool) -> None:
        super().__init__()
        self.remembers, self.made = remembers, list[Held]()

    def roll(self, first: VideoTokens, room: Room) -> Held:
        self.made.append(Held(first, self.remembers))
        return self.made[-1]


@pytest.mark.parametrize("remembers", [False, True])
def test_each_block_is_read_once_and_asked_about_after_each(remembers: bool) -> None:
    contents, (start, end) = quiet_with_event()
    reader, room = Remembered(remembers), Room.of_window(2, 3)
    way, video = Long.parse("window/maximum"), Listed(contents)
    found = answer_long(reader, video, "what does it do?", CHOICES, way, room)
    (made,) = reader.made
    assert made.seen == contents and video.coded == list(range(len(contents)))
    assert (found.text, found.readings) == ("spins", len(contents) - 1)
    assert found.tokens == 3 * len(contents) + 3 * (len(contents) - 1)
    assert found.seconds == (start - 1, float(len(contents)) if remembers else end + 1)


@pytest.mark.parametrize(
    ("blocks", "codes", "memory", "expected"),
    [
        (2, 80, None, Room(162, 2, 1, 81, 80)),
        (4, 80, None, Room(324, 4, 2, 162, 80)),
        (4, 80, 81, Room(324, 4, 3, 81, 80)),
        (1, 80, None, Room(81, 1, 1, 40, 40)),  # half a block beside it
        (2, 80, 120, Room(162, 2, 1, 120, 41)),
    ],
)
def test_a_memory_and_what_stands_beside_it_fill_a_clip(
    blocks: int, codes: int, memory: int | None, expected: Room
) -> None:
    room = Room.of_memory(blocks, codes, memory)
    assert room == expected
    assert room.memory + room.blocks * (room.block_tokens + 1) <= blocks * (codes + 1)


@pytest.mark.parametrize(
    ("long", "message"),
    [
        ("window=3", "give a multiple of 2 frames up to 4"),
        ("window=6", "give a multiple of 2 frames up to 4"),
        ("memory=13", "give at most 12, or use recall=13"),
        ("memory=4@2", "a whole number"),
    ],
)
def test_what_a_model_does_not_know_is_refused(model: Model, long: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        model.ask(noise(9), QUESTION, long=long)
    assert "\n" not in str(caught.value)


def test_a_question_that_does_not_fit_says_by_how_much(model: Model) -> None:
    with pytest.raises(ValueError, match="96: shorten the text, or give long=window=") as caught:
        model.ask(noise(9), "what " * 60, COLOURS, long="window")
    needed, excess = (int(n) for n in re.findall(r"(\d+) (?:tokens|more)", str(caught.value)))
    assert excess == needed - 96 > 0


def test_a_window_that_does_not_fit_says_by_how_much(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    rolling = ModelReader(model).roll(model.encode(noise(4)), Room.of_window(2, PER_BLOCK))
    taken = rolling._sink + 2 * (PER_BLOCK + 1)  # pyright: ignore
    short = replace(model.decoder.config, context=taken - 3)
    monkeypatch.setattr(model.decoder, "config", short)
    message = f"{taken} tokens of video, with the shortest text 5 more than .* give long=window="
    with pytest.raises(ValueError, match=message):
        model.ask(noise(9), QUESTION, COLOURS, long="window")


def test_captions_of_a_file_roll(
    model: Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model.save(tmp_path / "m")
    write_video(noise(9), tmp_path / "clip.mkv")
    words = ["caption", str(tmp_path / "clip.mkv"), "--model", str(tmp_path / "m"), "--json"]
    for long in ("window", "memory=3"):
        assert kinolex.main([*words, "--long", long]) == 0
        (found,) = json.loads(capsys.readouterr().out)
        assert (found["parts"][0]["start"], found["readings"]) == (0, 4)
