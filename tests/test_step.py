"""A step is the decoder's own pass over one more token; in 8-bit numbers it is near it."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from data.clip import Clip
from lm.cache import Cache
from lm.engine import open_engine
from lm.model import Decoder
from lm.quantized import Int8, int8
from lm.sampling import prefill
from lm.step import Plain, Step
from lm.tasks import Model
from lm.vocabulary import Vocabulary
from tests.conftest import CODES, tiny_config

SHAPES: dict[str, dict[str, Any]] = {
    "grouped": {},
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
    return prefill(decoder, rows, room=8)[0]


@pytest.mark.parametrize("lengths", [[5], [4, 4, 4], [3, 7, 5]], ids=str)
@pytest.mark.parametrize("shape", SHAPES)
@torch.inference_mode()
def test_a_step_is_the_decoders_own(vocabulary: Vocabulary, shape: str, lengths: list[int]) -> None:
    decoder = made(vocabulary, **SHAPES[shape])
    step, theirs, ours = Step(decoder), begun(decoder, lengths), begun(decoder, lengths)
    luck = torch.Generator().manual_seed(1)
    for _ in range(4):
        ids = torch.randint(0, len(vocabulary), (len(lengths),), generator=luck)
        slots = torch.randint(0, 9, (len(lengths),), generator=luck)
        want = decoder(ids[:, None], slots=slots[:, None], cache=theirs)[:, -1]
        got = step.read(ids, slots, ours)
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)
        low, high = vocabulary.text_start, len(vocabulary)
        torch.testing.assert_close(
            step.scores(got, low, high), decoder.logits(want, low, high), rtol=1e-4, atol=1e-4
        )
    torch.testing.assert_close(ours.keys, theirs.keys, rtol=1e-4, atol=1e-5)
    assert torch.equal(ours.lengths, theirs.lengths)


@torch.inference_mode()
def test_eight_bits_are_near(vocabulary: Vocabulary) -> None:
    """Each weight is off by at most half a step of its row's scale, scores by a few per cent."""
    weight = torch.randn(40, 64, generator=torch.Generator().manual_seed(0))
    matrix = int8(weight)
    assert isinstance(matrix, Int8)
    away = (matrix.numbers * matrix.scale.float()[:, None] - weight).abs()
    assert bool((away <= 0.5 * matrix.scale.float()[:, None] * 1.01 + 0.01 * weight.abs()).all())
    x = torch.randn(3, 64)
    torch.testing.assert_close(matrix.part(8, 24)(x), matrix(x)[:, 8:24])
    assert isinstance(int8(weight[:, :60]), Plain)  # torch's product does not take 60 numbers
    decoder = made(vocabulary, width=64, hidden=96)
    exact, short = Step(decoder), Step(decoder, int8)
    caches = begun(decoder, [6, 6]), begun(decoder, [6, 6])
    ids, slots = torch.tensor([50, 60]), torch.tensor([0, 0])
    ones, others = (
        step.scores(step.read(ids, slots, cache), 0, len(vocabulary))
        for step, cache in zip((exact, short), caches, strict=True)
    )
    error = (ones - others).std() / ones.std()
    assert 0 < float(error) < 0.1


def test_texts_of_eight_bit_weights(model: Model, clips: list[Clip]) -> None:
    before = {name: value.clone() for name, value in model.decoder.state_dict().items()}
    plain = model.caption_batch(clips)
    model.decoder.engine = open_engine("torch:int8", model.decoder, model.vocabulary)
    try:
        short = model.caption_batch(clips)
    finally:
        model.decoder.engine = None
    assert len(short) == len(plain) and all(isinstance(text, str) for text in short)
    assert all(torch.equal(before[n], v) for n, v in model.decoder.state_dict().items())
    assert model.caption_batch(clips) == plain
