"""A step is the decoder's own pass over one more token; in 16 or 8-bit numbers it is near it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch._C._profiler import _EventType
from torch.profiler import ProfilerActivity, profile

from data.clip import Clip
from lm.cache import Cache
from lm.engine import open_engine
from lm.model import Decoder
from lm.quantized import Bf16, Int8, held
from lm.sampling import prefill
from lm.step import MANY, OFTEN, Plain, Step
from lm.tasks import Model
from lm.vocabulary import Vocabulary
from tests.conftest import CODES, blocks_of_six, tiny_config

SHAPES: dict[str, dict[str, Any]] = {
    "grouped": {},
    "quadrants": {"summary": 5, "regional": 1},
    "tied": {"tied": True},
    "no slots": {"num_slots": 0},
    "own keys": {"kv_heads": 4},
    "no norm of queries": {"qk_norm": False},
    "no features": {"code_dim": 0},
    "wide": {"width": 64, "hidden": 96},
}


def made(vocabulary: Vocabulary, **sizes: Any) -> Decoder:
    config = tiny_config(vocabulary, **sizes)
    torch.manual_seed(0)
    decoder = Decoder(config, torch.randn(CODES, config.code_dim))
    for parameter in decoder.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return decoder.eval()


def begun(decoder: Decoder, lengths: list[int]) -> Cache:
    rows = [(list(range(n)), [0] * n) for n in lengths]
    return prefill(decoder, rows, room=OFTEN + 2)[0]


@pytest.mark.parametrize("lengths", [[5], [4, 4, 4, 4], [3, 7, 5]], ids=str)
@pytest.mark.parametrize("shape", SHAPES)
@torch.inference_mode()
def test_a_step_is_the_decoders_own(vocabulary: Vocabulary, shape: str, lengths: list[int]) -> None:
    decoder = made(vocabulary, **SHAPES[shape])
    step, theirs, ours = Step(decoder), begun(decoder, lengths), begun(decoder, lengths)
    luck = torch.Generator().manual_seed(1)
    for place in range(OFTEN + 2):
        places = torch.full((len(lengths),), place)
        ids, slots = blocks_of_six(vocabulary, places, luck)
        want = decoder(ids[:, None], slots=slots[:, None], cache=theirs)[:, -1]
        got = step.read(ids, slots, ours)
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)
        start, end = vocabulary.text_start, len(vocabulary)
        codes = vocabulary.video_start
        for low, high in ((start, end), (start, codes), (codes, end), (codes + 2, end - 1)):
            wanted = decoder.logits(want, low, high)
            torch.testing.assert_close(step.scores(got, low, high), wanted, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ours.keys, theirs.keys, rtol=1e-4, atol=1e-5)
    assert torch.equal(ours.lengths, theirs.lengths)


def memory(seen: profile) -> tuple[list[int], list[int]]:
    """Bytes of each block a profile saw made, and of those it did not see freed.

    Blocks are told by their place: an older one's end may count, too, under the size of
    whatever an earlier profile of the process saw there, so that the plain sum of events
    depends on what else has run.
    """
    assert seen.profiler is not None and seen.profiler.kineto_results is not None
    tree, events = list(seen.profiler.kineto_results.experimental_event_tree()), []
    while tree:
        event = tree.pop()
        tree.extend(event.children)
        if event.tag == _EventType.Allocation:
            events.append((event.start_time_ns, event.extra_fields))
    made, live = [], {}
    for _, block in sorted(events, key=lambda event: event[0]):
        if block.alloc_size > 0:
            made.append(block.alloc_size)
            live[block.ptr] = block.alloc_size
        else:
            live.pop(block.ptr, None)
    return made, list(live.values())


@pytest.mark.parametrize("lengths", [[1], [1] * MANY, [0, 1]], ids=["one", "many", "unequal"])
@torch.inference_mode()
def test_a_step_keeps_no_memory_and_needs_no_more_later(
    vocabulary: Vocabulary, lengths: list[int]
) -> None:
    """What steps allocate is freed; where no mask is needed it is as much after 600 as 1,200."""
    decoder = made(vocabulary, context=1300)
    step, taken = Step(decoder), []
    ids = slots = torch.zeros(len(lengths), dtype=torch.int64)
    for read in (600, 1200):
        rows = [([1] * (read + more), [0] * (read + more)) for more in lengths]
        cache = prefill(decoder, rows, room=OFTEN + 5)[0]
        for _ in range(OFTEN + 2):
            step.scores(step.read(ids, slots, cache), 0, len(vocabulary))
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
            for _ in range(3):
                step.scores(step.read(ids, slots, cache), 0, len(vocabulary))
        sizes, kept = memory(seen)
        anew = cache.lengths.nbytes + cache._positions.nbytes  # in place of others, made before
        assert sum(kept) == anew
        taken.append(sizes)
    assert taken[0]
    if len(set(lengths)) == 1:
        assert sorted(taken[0]) == sorted(taken[1])
    assert max(taken[1]) < cache.keys[0].nbytes / 2  # keys and values stay where they are


@torch.inference_mode()
def test_a_matrix_laid_out_anew_is_the_same() -> None:
    weight, x = torch.randn(40, 24), torch.randn(MANY, 24)
    matrix = Plain(weight)
    for _ in range(OFTEN + 1):
        torch.testing.assert_close(matrix(x), x @ weight.T)
    torch.testing.assert_close(matrix(x.repeat(3, 1)), x.repeat(3, 1) @ weight.T)  # other rows
    torch.testing.assert_close(matrix(x[:1]), x[:1] @ weight.T)


@pytest.mark.parametrize(("product", "worst"), [(Bf16, 0.008), (Int8, 0.03)])
@pytest.mark.parametrize("rows", [1, 3, 8])
@torch.inference_mode()
def test_fewer_bits_are_near(product: type[Bf16 | Int8], worst: float, rows: int) -> None:
    """Normal numbers: rounding to 1 part in 256 (bf16), or in steps of 1/127 of the largest."""
    luck = torch.Generator().manual_seed(0)
    weight = torch.randn(40, 60, generator=luck)
    x = torch.randn(rows, 60, generator=luck) * 10.0 ** torch.arange(rows)[:, None]
    matrix, want = product(weight), x @ weight.T
    error = (matrix(x) - want).norm(dim=1) / want.norm(dim=1)
    assert 0 < float(error.min()) and float(error.max()) < worst
    assert matrix(x).dtype == x.dtype and bool((matrix(0 * x) == 0).all())


@torch.inference_mode()
def test_eight_bits_of_a_row_do_not_depend_on_the_others() -> None:
    matrix, x = Int8(torch.randn(40, 64)), torch.randn(6, 64)
    alone = torch.cat([matrix(row[None]) for row in x])
    assert torch.equal(matrix(x), alone)
    assert torch.equal(matrix(torch.cat([100 * x[:1], x]))[1:], alone)


@torch.inference_mode()
def test_eight_bits_do_not_overflow() -> None:
    """The largest numbers at once: what processors that add pairs in 16 bits get wrong."""
    for sign in (1, -1):
        got = Int8(torch.ones(16, 64))(sign * torch.ones(1, 64))
        torch.testing.assert_close(got, torch.full((1, 16), 64.0 * sign), rtol=1e-3, atol=0)


@pytest.mark.skipif(held()[0] is not torch.uint8, reason="this processor adds pairs in 16 bits")
@torch.inference_mode()
def test_eight_bits_with_and_without_a_sign_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    weight, x, found = torch.randn(16, 64), torch.randn(3, 64), []
    for kind in (held(), (torch.int8, 0, held()[2])):
        monkeypatch.setattr("lm.quantized.held", lambda kind=kind: kind)
        found.append(Int8(weight)(x))
    assert torch.equal(*found)


@pytest.mark.parametrize(("product", "worst"), [(Bf16, 0.1), (Int8, 0.2)])
@torch.inference_mode()
def test_scores_of_fewer_bits_are_near(
    vocabulary: Vocabulary, product: type[Bf16 | Int8], worst: float
) -> None:
    decoder = made(vocabulary, width=64, hidden=96)
    exact, short = Step(decoder), Step(decoder, product)
    caches = begun(decoder, [6, 6]), begun(decoder, [6, 6])
    ids, slots = torch.tensor([50, 60]), torch.tensor([0, 0])
    ones, others = (
        step.scores(step.read(ids, slots, cache), 0, len(vocabulary))
        for step, cache in zip((exact, short), caches, strict=True)
    )
    error = (ones - others).std() / ones.std()
    assert 0 < float(error) < worst


@pytest.mark.parametrize("engine", ["torch:bf16", "torch:int8"])
def test_texts_of_fewer_bits(model: Model, clips: list[Clip], engine: str) -> None:
    before = {name: value.clone() for name, value in model.decoder.state_dict().items()}
    plain = model.caption_batch(clips, beams=1)
    model.decoder.engine = open_engine(engine, model.decoder, model.vocabulary)
    try:
        short = model.caption_batch(clips, beams=1)
    finally:
        model.decoder.engine = None
    assert len(short) == len(plain) and all(isinstance(text, str) for text in short)
    assert all(torch.equal(before[n], v) for n, v in model.decoder.state_dict().items())
    assert model.caption_batch(clips, beams=1) == plain
