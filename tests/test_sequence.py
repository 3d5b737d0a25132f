"""Laws of the stream: documents to ids and back, and what may follow what."""

from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from lm.document import Document, Item, Nothing, Task, Text, Time, Video
from lm.formats import VideoFormat
from lm.grammar import Grammar
from lm.header import SHORTEST
from lm.pieces import Pieces
from lm.sequence import STRUCTURE, TEXT, VIDEO, describe, spell_header, write
from lm.vocabulary import ROLES, TASKS, Vocabulary
from tokenizer.rate import block_tokens
from tokenizer.tokens import VideoTokens

PIECES = Pieces.train(["a red ball falls", "what colour is it?"], size=16)
BARE = Vocabulary(PIECES, codec_id="c", codebook_size=7, block_frames=4)


@st.composite
def videos(draw: st.DrawFn) -> Video:
    frames = draw(st.integers(1, 14))
    kind = draw(st.sampled_from(["even", "film", "uneven"]))
    start = draw(st.sampled_from([0.0, 0.0, 1.5, 12.345]))
    if kind == "uneven":
        steps = draw(st.lists(st.integers(1, 3000), min_size=frames, max_size=frames))
        times = start + torch.tensor([0, *steps[1:]], dtype=torch.float64).cumsum(0) / 1000
    else:
        fps = draw(st.sampled_from([1, 8, 25, 60])) if kind == "even" else 30000 / 1001
        times = start + torch.arange(frames, dtype=torch.float64) / fps
    blocks = -(-frames // 4)
    counts = draw(st.lists(st.integers(1, 12), min_size=blocks, max_size=blocks))
    spread = draw(st.sampled_from(["any", "even", "rate"]))
    if spread == "even":
        counts = counts[:1] * blocks
    elif spread == "rate":
        rate = draw(st.floats(0.25, 3))
        counts = [block_tokens(rate, 4, b) for b in range(blocks)]
    codes = tuple(torch.randint(0, 7, (k,), generator=torch.Generator()) for k in counts)
    height, width = draw(st.integers(1, 2000)), draw(st.integers(1, 2000))
    return Video(VideoTokens(codes, times, height, width, 4, 7, "c"))


SPECIAL_TEXT = ("<video>", "</video>", "<stop>", "<end>")
WORDS = st.one_of(st.text(), st.sampled_from(SPECIAL_TEXT))
TEXTS = st.builds(Text, st.sampled_from(ROLES), WORDS)
STRETCHES = st.floats(0, 90_000).flatmap(
    lambda start: st.builds(Time, st.just(start), st.none() | st.floats(start + 0.002, 99_000))
)
ITEMS: st.SearchStrategy[Item] = st.one_of(TEXTS, STRETCHES, videos(), st.just(Nothing()))
KINDS = st.lists(st.builds(Task, st.sampled_from(TASKS)), max_size=1)
DOCUMENTS = st.builds(
    lambda kind, items: Document((*kind, *items)), KINDS, st.lists(ITEMS, max_size=4)
)


@given(
    st.floats(0, 1000),
    st.sampled_from([7.5, 24, 30000 / 1001, 25, 59.94, 2000 / 3, 0.3]),
    st.lists(st.floats(-1.6e-3, 1.6e-3), min_size=2, max_size=40),
)
@example(0.0, 2000 / 3, [0, -0.0005, 0.001, 0.0005, 0])  # its grid is within 1 ms of 667 a second
@example(0.0, 30000 / 1001, [0.0] * 28 + [4e-4] * 2)  # its grid is within 1 ms of 30 a second
def test_the_times_of_a_format_have_that_format(
    start: float, fps: float, late: list[float]
) -> None:
    times = [start + max(0.0, i / fps + by) for i, by in enumerate(late)]
    assume(all(round(b * 1000) > round(a * 1000) for a, b in pairwise(times)))
    found, at = VideoFormat.at(times, 8, 8, (1,))
    kept = found.timestamps(at)
    assert (kept - torch.tensor(times, dtype=torch.float64)).abs().max() <= 1.5e-3 + 1e-9
    again, at = VideoFormat.at(kept.tolist(), 8, 8, (1,))
    assert again == found and torch.equal(again.timestamps(at), kept)


@given(DOCUMENTS, st.booleans())
def test_documents_round_trip(document: Document, presets: bool) -> None:
    shown = [VideoFormat.of(i.tokens)[0] for i in document.items if isinstance(i, Video)]
    formats = tuple(dict.fromkeys(shown)) if presets else ()  # presets: one-token headers
    vocabulary = Vocabulary(PIECES, codec_id="c", codebook_size=7, block_frames=4, presets=formats)
    sequence = write(document, vocabulary)
    again = Grammar(vocabulary).read(sequence.ids.tolist())
    assert again == document.canonical()
    assert again.canonical() == again
    for before, after in zip(document.items, again.items, strict=True):
        if isinstance(before, Video) and isinstance(after, Video):
            late = (before.tokens.timestamps - after.tokens.timestamps).abs().max()
            assert late <= 1e-3 + 1e-9


def test_times_print_as_people_write_them() -> None:
    for time, shown in (
        (Time(0.0), "<at> <0> <stop>"),
        (Time(12.0, 12.5), "<at> <1> <2> <for> <0> <.> <5> <stop>"),
        (Time(0.0504), "<at> <0> <.> <0> <5> <stop>"),
    ):
        ids = write(Document.of(time), BARE).ids.tolist()
        assert " ".join(map(BARE.name, ids[1:-1])) == shown


@pytest.mark.parametrize("time", [Time(-1.0), Time(2.0, 1.0), Time(1.0, 1.0), Time(1e9)])
def test_impossible_times_are_refused(time: Time) -> None:
    with pytest.raises(ValueError, match="a time"):
        write(Document.of(time), BARE)


def test_a_task_stands_first() -> None:
    with pytest.raises(ValueError, match="first"):
        write(Document.of(Nothing(), Task("film")), BARE)
    grammar = Grammar(BARE)
    ids = [BARE.special(name) for name in ("<begin>", "<nothing>", "<film>", "<end>")]
    with pytest.raises(ValueError, match="<film> cannot follow"):
        grammar.read(ids)


def test_a_rate_that_is_no_whole_number_takes_few_header_tokens() -> None:
    counts = [block_tokens(0.2, 8, b) for b in range(180)]
    fmt = VideoFormat(8, 8, 1440, Fraction(24), (), tuple(counts))
    names = spell_header(fmt, 0, preset=False)
    assert " ".join(names[names.index("<rate>") :]) == "<rate> <8> <,> <5>"
    assert VideoFormat(8, 8, 8, Fraction(8), (), (5, 2)).block_rate is None


def test_special_text_is_text() -> None:
    for name in SPECIAL_TEXT:
        ids = BARE.encode_text(name)
        assert all(BARE.text_start <= i < BARE.video_start for i in ids)


def test_companions_say_what_each_token_is() -> None:
    codes = (torch.tensor([1, 2, 3]), torch.tensor([4, 5]))
    tokens = VideoTokens(codes, torch.arange(5) / 8.0, 8, 8, 4, 7, "c")
    sequence = write(Document.of(Text("caption", "red"), Video(tokens)), BARE, weights=[0.0, 2.0])
    is_code = sequence.ids >= BARE.video_start
    is_text = (sequence.ids >= BARE.text_start) & ~is_code
    is_text |= sequence.ids == BARE.special("<stop>")
    assert torch.equal(sequence.modality == VIDEO, is_code)
    assert torch.equal(sequence.modality == TEXT, is_text)
    assert (sequence.modality == STRUCTURE).any()
    assert sequence.slots[is_code].tolist() == [0, 1, 2, 0, 1]
    assert sequence.slots[~is_code].sum() == 0
    assert sequence.positions.tolist() == list(range(len(sequence)))
    assert sequence.weights[is_code].tolist() == [2.0] * 5
    assert sequence.weights[is_text].sum() == 0


def test_broken_streams_are_refused() -> None:
    grammar = Grammar(BARE)
    tokens = VideoTokens((torch.tensor([1, 2]),), torch.zeros(1), 8, 8, 4, 7, "c")
    ids = write(Document.of(Video(tokens), Text("caption", "a")), BARE).ids.tolist()
    with pytest.raises(ValueError, match="cut short"):
        grammar.read(ids[:-1])
    for i in range(len(ids)):
        with pytest.raises(ValueError):
            grammar.read(ids[:i] + ids[i + 1 :] if i not in _harmless(ids) else ids[:i])


def _harmless(ids: list[int]) -> set[int]:
    """Places whose loss leaves a valid stream: a text piece."""
    return {i for i, token in enumerate(ids) if BARE.text_start <= token < BARE.video_start}


def test_tokens_of_another_codec_are_refused() -> None:
    tokens = VideoTokens((torch.tensor([1]),), torch.zeros(1), 8, 8, 4, 7, "other")
    with pytest.raises(ValueError, match="another|'other'"):
        write(Document.of(Video(tokens)), BARE)
    with pytest.raises(ValueError):
        write(Document.of(Video(replace(tokens, codec_id="c", codebook_size=9))), BARE)


def test_negative_times_are_refused() -> None:
    tokens = VideoTokens((torch.tensor([1]),), torch.tensor([-0.5]), 8, 8, 4, 7, "c")
    with pytest.raises(ValueError, match="-0.5"):
        write(Document.of(Video(tokens)), BARE)


def test_a_models_own_videos_begin_with_a_preset() -> None:
    fmt = VideoFormat(8, 8, 6, Fraction(8), (), (3, 3))
    vocabulary = Vocabulary(PIECES, codec_id="c", codebook_size=7, block_frames=4, presets=[fmt])
    size, preset = vocabulary.special("<size>"), vocabulary.preset_start
    for made, own, opens, cheapest in (
        (vocabulary, True, {preset}, 10),  # a preset, two blocks of three codes, </video>
        (vocabulary, False, {preset, size}, 10),
        (BARE, True, {size}, SHORTEST),
    ):
        state = Grammar(made).start()
        state.push(made.special("<begin>"))
        state.own = own
        state.push(made.special("<video>"))
        assert state.cost() == cheapest
        assert {low for low, _ in state.allowed()} == opens


@settings(max_examples=60)
@given(st.integers(0, 10**6), st.integers(2, 60))
def test_any_walk_through_the_mask_is_a_document(seed: int, budget: int) -> None:
    grammar = Grammar(BARE)
    state = grammar.start()
    luck = torch.Generator().manual_seed(seed)
    ids: list[int] = []
    state.push(BARE.special("<begin>"))
    ids.append(BARE.special("<begin>"))
    while state.mode != "done":
        ranges = state.allowed(budget)
        assert ranges, (state.mode, budget)
        low, high = ranges[int(torch.randint(len(ranges), (1,), generator=luck))]
        token = int(torch.randint(low, high, (1,), generator=luck))
        state.push(token)
        ids.append(token)
        budget -= 1
    assert budget >= 0
    document = grammar.read(ids)
    assert Grammar(BARE).read(write(document, BARE).ids.tolist()) == document.canonical()


def test_the_stream_prints() -> None:
    tokens = VideoTokens((torch.arange(7),), torch.zeros(1), 8, 16, 4, 7, "c")
    shown = describe(write(Document.of(Text("caption", "red ball"), Video(tokens)), BARE), BARE, 3)
    assert "<caption>" in shown and "<block> 0 1 2 ... (7 codes)" in shown


OPENINGS = {
    "video": ("<video>",),
    "time": ("<at>",),
    "rate": (*"<video> <size> <8> <,> <8> <frames> <9> <fps> <8> <rate>".split(),),
}


@pytest.mark.parametrize("opening", OPENINGS)
@pytest.mark.parametrize("presets", [False, True])
def test_the_shortest_completion_is_possible_and_is_what_cost_says(
    presets: bool, opening: str
) -> None:
    """From any state, always taking the cheapest choice takes exactly `cost` tokens."""
    shortest = VideoFormat(8, 8, 1, None, (), (1,))
    vocabulary = Vocabulary(
        PIECES, codec_id="c", codebook_size=7, block_frames=4, presets=[shortest] if presets else []
    )
    for seed in range(40):
        luck = torch.Generator().manual_seed(seed)
        state = Grammar(vocabulary).start()
        for name in ("<begin>", *OPENINGS[opening]):
            state.push(vocabulary.special(name))
        for _ in range(int(torch.randint(0, 4 if opening == "rate" else 12, (1,), generator=luck))):
            ranges = state.allowed()
            if not ranges:
                break
            low, high = ranges[int(torch.randint(len(ranges), (1,), generator=luck))]
            state.push(int(torch.randint(low, high, (1,), generator=luck)))
        budget, taken, items = state.cost(), 0, len(state.items)
        while len(state.items) == items and state.mode not in ("item", "done"):
            ranges = state.allowed(budget - taken, close=0)
            assert ranges, (seed, state.mode, budget - taken)
            state.push(ranges[0][0])
            taken += 1
        assert taken == budget
