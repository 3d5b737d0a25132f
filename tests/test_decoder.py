"""Laws of the decoder, its cache and its sampling."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from lm.attention import attend
from lm.cache import Cache
from lm.corpus import Corpus
from lm.document import Document, Video
from lm.drawing import Draw, Sampling, draw
from lm.grammar import Grammar
from lm.model import Decoder, Sizes
from lm.prompting import condition, to_video
from lm.sampling import Prompt, continue_streams, read_prompt
from lm.scoring import score_texts
from lm.segments import BRANCHES, segment_mask, stretches
from lm.sequence import write
from lm.vocabulary import Vocabulary
from tests.conftest import CODES, blocks_of_six, tiny_config


def random_rows(
    vocabulary: Vocabulary, rows: int, length: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids, and slots as in blocks of 8 codes."""
    luck = torch.Generator().manual_seed(1)
    ids = torch.randint(0, len(vocabulary), (rows, length), generator=luck)
    slots = torch.arange(length) + torch.randint(0, 8, (rows, 1), generator=luck)
    return ids, slots % 8


def new_cache(decoder: Decoder, rows: int) -> Cache:
    c = decoder.config
    return Cache(c.layers, rows, c.context, c.kv_heads, c.head_dim)


@pytest.mark.parametrize("chunks", [[1] * 12, [7, 1, 1, 3], [12]])
@pytest.mark.parametrize("regional", [0, 1])
def test_cache_equals_no_cache(vocabulary: Vocabulary, chunks: list[int], regional: int) -> None:
    config = tiny_config(vocabulary, summary=2 + 4 * regional, regional=regional)
    decoder = Decoder(config, torch.randn(CODES, config.code_dim)).eval()
    places = torch.arange(12).expand(3, -1)
    ids, slots = blocks_of_six(vocabulary, places, torch.Generator().manual_seed(1))
    whole = decoder(ids, slots=slots)
    cache, parts = new_cache(decoder, 3), []
    for part, places in zip(ids.split(chunks, 1), slots.split(chunks, 1), strict=True):
        parts.append(decoder(part, slots=places, cache=cache))
    torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("length", [1, 7, 24, 40])
def test_stretches_attend_as_the_whole_does(length: int) -> None:
    """Documents and branches in rows of 40, attended to some tokens at a time."""
    luck = torch.Generator().manual_seed(0)
    document = torch.randint(0, 2, (3, 40), generator=luck).cumsum(1) // 6
    branch = torch.randint(0, 3, (3, 40), generator=luck)
    mask = segment_mask(document * BRANCHES + branch)
    q, k, v, pull = torch.randn(4, 3, 2, 40, 8, generator=luck).requires_grad_()
    whole, parts = attend(q, k, v, mask), attend(q, k, v, stretches(mask, length))
    torch.testing.assert_close(parts, whole, rtol=1e-5, atol=1e-6)
    for own, other in zip(
        torch.autograd.grad(parts, (q, k, v), pull),
        torch.autograd.grad(whole, (q, k, v), pull),
        strict=True,
    ):
        torch.testing.assert_close(own, other, rtol=1e-4, atol=1e-6)
    seen = sum(part.mask[0].numel() for part in stretches(mask, length))
    assert seen < mask[0].numel() or length == 40


def test_rows_of_different_length_share_a_cache(decoder: Decoder, vocabulary: Vocabulary) -> None:
    ids, slots = random_rows(vocabulary, 3, 12)
    lengths = torch.tensor([4, 9, 7])
    cache = new_cache(decoder, 3)
    decoder(ids[:, :9], slots=slots[:, :9], cache=cache)
    cache.trim(lengths)
    cache = cache.select(torch.tensor([2, 0, 1]))
    for step in range(3):
        at = (lengths + step)[:, None]
        got = decoder(
            ids.gather(1, at)[[2, 0, 1]], slots=slots.gather(1, at)[[2, 0, 1]], cache=cache
        )
        for row, source in enumerate([2, 0, 1]):
            n = int(lengths[source]) + step + 1
            want = decoder(ids[source : source + 1, :n], slots=slots[source : source + 1, :n])
            torch.testing.assert_close(got[row, -1], want[0, -1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("lengths", [[5, 5], [3, 5]])
def test_what_attention_reads_is_the_cache_itself(lengths: list[int]) -> None:
    cache = Cache(1, 2, 16, 2, 4)
    cache.trim(torch.tensor(lengths))
    cache.place(1)
    new = torch.arange(16.0).view(2, 2, 1, 4) + 1
    keys, values = cache.write(0, new, -new)
    assert keys.data_ptr() == cache.keys.data_ptr()
    assert values.data_ptr() == cache.values.data_ptr()
    for row, length in enumerate(lengths):
        assert torch.equal(cache.keys[0, row, :, length], new[row, :, 0])
    assert cache.keys.count_nonzero() == new.numel()


def test_rows_chosen_within_a_summary_go_on_with_it(vocabulary: Vocabulary) -> None:
    config = tiny_config(vocabulary, summary=6, regional=1)
    decoder = Decoder(config, torch.randn(CODES, config.code_dim)).eval()
    places = torch.arange(10).expand(3, -1)
    ids, slots = blocks_of_six(vocabulary, places, torch.Generator().manual_seed(1))
    cache = new_cache(decoder, 3)
    with torch.inference_mode():
        decoder(ids[:, :4], slots=slots[:, :4], cache=cache)
    rows = torch.tensor([2, 0, 2])
    with torch.no_grad():  # what was made in one mode is written to in another
        got = decoder(ids[rows, 4:], slots=slots[rows, 4:], cache=cache.select(rows))
        want = decoder(ids[rows], slots=slots[rows])[:, 4:]
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)


def test_a_full_cache_says_so(decoder: Decoder) -> None:
    cache = Cache(2, 1, 4, 2, 4)
    with pytest.raises(ValueError, match="5 tokens in a cache of 4"):
        decoder(torch.zeros(1, 5, dtype=torch.int64), cache=cache)


def test_later_tokens_change_nothing_earlier(decoder: Decoder, vocabulary: Vocabulary) -> None:
    ids, slots = random_rows(vocabulary, 2, 10)
    other = ids.clone()
    other[:, 6:] = (other[:, 6:] + 1) % len(vocabulary)
    torch.testing.assert_close(
        decoder(ids, slots=slots)[:, :6], decoder(other, slots=slots)[:, :6], rtol=0, atol=0
    )


def test_the_folded_table_is_what_codes_enter_as(decoder: Decoder, vocabulary: Vocabulary) -> None:
    ids = torch.arange(len(vocabulary))[None]
    folded = decoder.input_table()[ids]
    plain = replace(decoder.config, num_slots=0)
    twin = Decoder(plain)
    apart = ("slots.", "summary_sums.")
    twin.load_state_dict({k: v for k, v in decoder.state_dict().items() if not k.startswith(apart)})
    torch.testing.assert_close(twin.embed(ids, None), folded)


def test_a_summarys_codes_mean_something_else_at_each_place(
    decoder: Decoder, vocabulary: Vocabulary
) -> None:
    first, second = vocabulary.video_start, vocabulary.video_start + 1
    assert decoder.summary_sums is not None and decoder.slots is not None

    def told(code: int, slot: int) -> torch.Tensor:
        """What a code's features add there, of what the other code's add."""
        at = torch.tensor([[slot]])
        pair = [decoder.embed(torch.tensor([[c]]), at) for c in (code, first)]
        plain = decoder.input_table()
        return (pair[0] - plain[code] - pair[1] + plain[first])[0, 0]

    assert told(second, 2).abs().max() < 1e-5  # the grid's codes: alike everywhere
    here, there = told(second, 0), told(second, 1)
    assert not torch.allclose(here, there, atol=0.1)
    features = decoder.code_features[1] - decoder.code_features[0]
    weight = decoder.summary_sums.weight.unflatten(1, (2, -1))  # (D, S, F)
    torch.testing.assert_close(here, weight[:, 0] @ features)
    torch.testing.assert_close(there, weight[:, 1] @ features / 2**0.5)
    words = torch.tensor([[vocabulary.text_start, vocabulary.special("<block>")]])
    assert torch.equal(decoder.embed(words, words * 0), decoder.table(words))


def test_tied_heads_score_with_the_input_table(vocabulary: Vocabulary) -> None:
    tied = Decoder(tiny_config(vocabulary, tied=True))
    hidden = torch.randn(2, 16)
    torch.testing.assert_close(tied.logits(hidden), hidden @ tied.input_table().T)
    torch.testing.assert_close(tied.logits(hidden, 3, 9), tied.logits(hidden)[:, 3:9])
    wide = Decoder(tiny_config(vocabulary, tied=True, width=256))
    ids = torch.arange(len(vocabulary))[None, -100:]
    assert wide.logits(wide(ids)).std() < 1  # fresh ones know nothing, and say so


def prompts_of(vocabulary: Vocabulary, texts: list[str]) -> list[Prompt]:
    begin, nothing = vocabulary.special("<begin>"), vocabulary.special("<nothing>")
    stop, caption = vocabulary.special("<stop>"), vocabulary.special("<caption>")
    return [
        Prompt([begin, caption, *vocabulary.encode_text(text), stop], null=[begin, nothing])
        for text in texts
    ]


TEXTS = ["a red ball falls", "x", "blue"]
HOT = Sampling(text=Draw(1.0), video=Draw(1.0))


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("budget", [3, 14, 40, None])
def test_a_random_model_writes_valid_streams(
    decoder: Decoder, vocabulary: Vocabulary, rows: int, budget: int | None
) -> None:
    grammar = Grammar(vocabulary)
    prompts = prompts_of(vocabulary, TEXTS[:rows])
    for seed in range(3):
        seeds = [seed * 10 + i for i in range(rows)]
        states = continue_streams(
            decoder, grammar, prompts, sampling=HOT, seeds=seeds, max_new=budget
        )
        for state in states:
            assert state.mode == "done"
            document = Document(tuple(state.items))
            ids = write(document, vocabulary).ids.tolist()
            assert grammar.read(ids) == document.canonical()


def test_a_sample_does_not_depend_on_its_batch(decoder: Decoder, vocabulary: Vocabulary) -> None:
    grammar, prompts = Grammar(vocabulary), prompts_of(vocabulary, TEXTS)
    sampling = replace(HOT, guidance=1.7, video=Draw(0.9, top_k=7, top_p=0.9))
    together = continue_streams(
        decoder, grammar, prompts, sampling=sampling, seeds=[5, 6, 7], max_new=60
    )
    for i, prompt in enumerate(prompts):
        alone = continue_streams(
            decoder, grammar, [prompt], sampling=sampling, seeds=[5 + i], max_new=60
        )
        assert alone[0].items == together[i].items
    other = continue_streams(
        decoder, grammar, prompts, sampling=sampling, seeds=[8, 9, 10], max_new=60
    )
    assert [s.items for s in other] != [s.items for s in together]


def greedy_codes(
    decoder: Decoder, vocabulary: Vocabulary, way: Sampling, prompt: Prompt
) -> list[int]:
    """Guided greedy decoding by whole forward passes, no cache: the reference."""
    grammar = Grammar(vocabulary)
    null = prompt.null or prompt.ids
    branches = [list(ids) for ids in (prompt.ids, null, prompt.bare or null)]
    state, _ = read_prompt(grammar, branches[0])
    slots = [read_prompt(grammar, ids)[1] for ids in branches]
    out: list[int] = []
    while not out or state.mode != "item":
        ranges = state.allowed()
        full, null, bare = (
            decoder.logits(decoder(torch.tensor([ids]), slots=torch.tensor([places]))[0, -1])
            for ids, places in zip(branches, slots, strict=True)
        )
        mixed = full
        if state.mode == "codes":
            mixed = bare + way.context_guidance * (null - bare) + way.guidance * (full - null)
        token = int(mixed.masked_fill(~grammar.mask(ranges), -torch.inf).argmax())
        place = state.place
        state.push(token)
        for ids, places in zip(branches, slots, strict=True):
            ids.append(token)
            places.append(place)
        out.append(token)
    return out


def codes_in(vocabulary: Vocabulary, ids: list[int]) -> list[int]:
    return [i - vocabulary.video_start for i in ids if i >= vocabulary.video_start]


@pytest.mark.parametrize("guidance", [1.0, 2.5])
def test_guidance_with_caches_equals_whole_passes(
    decoder: Decoder, vocabulary: Vocabulary, guidance: float
) -> None:
    grammar = Grammar(vocabulary)
    start = [vocabulary.special("<video>"), vocabulary.preset_start]
    prompts = [Prompt(p.ids + start, (p.null or []) + start) for p in prompts_of(vocabulary, TEXTS)]
    cold = Sampling(video=Draw(0.0), guidance=guidance)
    states = continue_streams(decoder, grammar, prompts, sampling=cold, num_items=1)
    for prompt, state in zip(prompts, states, strict=True):
        video = state.items[-1]
        assert isinstance(video, Video)
        want = codes_in(vocabulary, greedy_codes(decoder, vocabulary, cold, prompt))
        assert torch.cat(video.tokens.codes).tolist() == want


def filling_prompts(vocabulary: Vocabulary, corpus: Corpus) -> list[Prompt]:
    """Videos to fill in between one still or two, with twins without words, and without stills."""
    fmt, made = vocabulary.presets[0], []
    for number, text in enumerate(TEXTS):
        stills = corpus.record(number).stills[: 1 + number % 2]
        words, nothing = condition(vocabulary, text), condition(vocabulary, None)
        full, null, bare = (
            to_video(vocabulary, shown, fmt, stills=known)
            for shown, known in ((words, stills), (nothing, stills), (nothing, ()))
        )
        made.append(Prompt(full, null, bare))
    return made


@pytest.mark.parametrize("guidance", [1.0, 2.5])
def test_three_branches_with_caches_equal_whole_passes(
    decoder: Decoder, vocabulary: Vocabulary, corpus: Corpus, guidance: float
) -> None:
    """Words and stills weigh apart; each branch has a prompt, and a cache, of its own length."""
    grammar, prompts = Grammar(vocabulary), filling_prompts(vocabulary, corpus)
    weights = 1.0, 1.7, 3.0  # of the stills
    found = []
    for weight in weights:
        cold = Sampling(video=Draw(0.0), guidance=guidance, context_guidance=weight)
        states = continue_streams(decoder, grammar, prompts, sampling=cold, num_items=1)
        for prompt, state in zip(prompts, states, strict=True):
            video = state.items[-1]
            assert isinstance(video, Video)
            want = codes_in(vocabulary, greedy_codes(decoder, vocabulary, cold, prompt))
            assert torch.cat(video.tokens.codes).tolist() == want
            found.append(want)
    assert found[:3] != found[3:6] != found[6:]  # the third branch has a say


def test_guidance_leaves_words_alone(decoder: Decoder, vocabulary: Vocabulary) -> None:
    """Words beside a video that is guided in three branches are those written without it."""
    grammar, begin = Grammar(vocabulary), vocabulary.special("<begin>")
    nothing = vocabulary.special("<nothing>")
    caption = Prompt([begin, vocabulary.special("<caption>")], [begin, nothing], [begin])
    start = [vocabulary.special("<video>"), vocabulary.preset_start]
    film = Prompt(prompts_of(vocabulary, ["x"])[0].ids + start, [begin, nothing, *start], [begin])
    way = Sampling(video=Draw(0.0), guidance=2.0, context_guidance=3.0)
    together = continue_streams(decoder, grammar, [caption, film], sampling=way, num_items=1)
    alone = continue_streams(decoder, grammar, [caption], num_items=1)
    assert together[0].items == alone[0].items


def test_prompts_that_do_not_fit_say_by_how_much(decoder: Decoder, vocabulary: Vocabulary) -> None:
    prompt = prompts_of(vocabulary, ["x" * 150])
    with pytest.raises(ValueError, match=r"more than fit \(context 128\)"):
        continue_streams(decoder, Grammar(vocabulary), prompt)
    with pytest.raises(ValueError, match="2 more"):
        start = prompts_of(vocabulary, ["x"])[0].ids + [vocabulary.special("<caption>")]
        continue_streams(decoder, Grammar(vocabulary), [Prompt(start)], max_new=0)


def test_limits_on_drawing_combine() -> None:
    p = torch.tensor([0.4, 0.3, 0.2, 0.1])
    logits = p.log().repeat(1000, 1)
    luck = torch.arange(1000, dtype=torch.float64) / 1000

    def shares(rule: Draw) -> list[float]:
        drawn = draw(logits, [rule] * 1000, luck)
        return [round(x, 2) for x in (torch.bincount(drawn, minlength=4) / 1000).tolist()]

    assert shares(Draw()) == [0.4, 0.3, 0.2, 0.1]
    assert shares(Draw(top_k=2)) == pytest.approx([4 / 7, 3 / 7, 0, 0], abs=0.01)
    assert shares(Draw(top_p=0.75)) == pytest.approx([4 / 9, 3 / 9, 2 / 9, 0], abs=0.01)
    assert shares(Draw(top_k=3, top_p=0.5)) == pytest.approx([4 / 7, 3 / 7, 0, 0], abs=0.01)
    assert shares(Draw(min_p=0.6)) == pytest.approx([4 / 7, 3 / 7, 0, 0], abs=0.01)
    assert shares(Draw(min_p=1.0)) == shares(Draw(temperature=0.0)) == [1, 0, 0, 0]
    assert shares(Draw(temperature=0.5))[0] > 0.5
    assert shares(Draw(top_p=1e-9)) == [1, 0, 0, 0]


def test_a_wide_vocabulary_is_drawn_from_by_the_same_limits() -> None:
    """300 more columns below the limit change no draw, whatever the neighbours; equals stay."""
    p = torch.tensor([0.4, 0.2, 0.2, 0.1])  # min_p 0.3 and top_k 3 leave 4 / 8, 2 / 8 and 2 / 8
    wide = torch.cat([p, torch.full((300,), 1e-3)])[torch.arange(303, -1, -1)]  # likeliest last
    rules = [Draw(min_p=0.3), Draw(top_k=3), Draw(temperature=0.0)]
    luck = (torch.arange(100, dtype=torch.float64) + 0.5) / 100
    for rule, want in zip(rules, ([50, 25, 25], [50, 25, 25], [100, 0, 0]), strict=True):
        for others in ([], rules):
            logits = wide.log().repeat(100 + len(others), 1)
            fates = torch.cat([luck, torch.full((len(others),), 0.9, dtype=torch.float64)])
            drawn = draw(logits, [rule] * 100 + others, fates)[:100]
            counts = torch.bincount(drawn, minlength=304)
            assert [int(counts[303]), int(counts[301]), int(counts[302])] == want  # 301 before 302
            if want[1]:
                assert drawn.tolist() == [303] * 50 + [301] * 25 + [302] * 25


def test_masked_columns_are_never_drawn() -> None:
    logits = torch.tensor([[-torch.inf, 0.0, -torch.inf, 1.0]]).repeat(100, 1)
    luck = torch.linspace(0, 1 - 1e-12, 100, dtype=torch.float64)
    assert set(draw(logits, [Draw()] * 100, luck).tolist()) == {1, 3}


@pytest.mark.parametrize(
    "bad",
    [{"temperature": -1}, {"top_k": -2}, {"top_p": 0}, {"top_p": 1.1}, {"min_p": 2}, {"min_p": -1}],
)
def test_bad_limits_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        Draw(**bad)  # type: ignore[arg-type]


def test_scores_are_the_log_likelihood(decoder: Decoder, vocabulary: Vocabulary) -> None:
    grammar = Grammar(vocabulary)
    prompts = [p.ids + [vocabulary.special("<label>")] for p in prompts_of(vocabulary, TEXTS)]
    labels = ["falls", "rises slowly", ""]
    scores, lengths = score_texts(decoder, grammar, prompts, labels)
    allowed = torch.zeros(len(vocabulary), dtype=torch.bool)
    allowed[vocabulary.text_start : vocabulary.video_start] = True
    allowed[vocabulary.special("<stop>")] = True
    for i, prompt in enumerate(prompts):
        for j, label in enumerate(labels):
            target = [*vocabulary.encode_text(label), vocabulary.special("<stop>")]
            assert lengths[j] == len(target)
            states = decoder(torch.tensor([prompt + target]))[0, len(prompt) - 1 : -1]
            table = decoder.logits(states).masked_fill(~allowed, -torch.inf).log_softmax(-1)
            want = table[torch.arange(len(target)), target].sum()
            torch.testing.assert_close(scores[i, j], want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"layers": 0}, "layers=0: give at least 1"),
        ({"layers": 10**9}, "layers=1000000000: give at most 1000"),
        ({"kv_heads": 0}, "kv_heads=0: give at least 1"),
        ({"context": 10**8}, "context=100000000: give at most 16777216 tokens"),
        ({"rope_scaling": [1.0, 2.0]}, r"rope_scaling=\[1.0, 2.0\]: give four numbers above 0"),
        ({"rope_scaling": [8.0, 1.0, 4.0, 0.0]}, "give four numbers above 0"),
        ({"rope_scaling": [8.0, 4.0, 4.0, 64.0]}, "low frequency factor, a higher one"),
        ({"rope_theta": 0.0}, "rope_theta=0: give a number above 0"),
        ({"norm_eps": float("nan")}, "norm_eps=nan: give a number above 0"),
        ({"heads": 3, "kv_heads": 2}, "heads=3 is no multiple of kv_heads=2"),
    ],
)
def test_senseless_sizes_are_refused(choice: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Sizes(**choice)
