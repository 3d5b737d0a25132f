"""Codes become bytes and come back, and cost what the prior says they cost."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenizer.entropy import (
    TOTAL,
    Expectation,
    Prior,
    decode_codes,
    encode_codes,
    pack,
    share_out,
    tell,
    unpack,
)
from tokenizer.ordering import MAX_LEVEL, BlockLayout, order_grid
from tokenizer.priors import (
    AdaptivePrior,
    StaticPrior,
    bits_per_token,
    count_codes,
    measured,
    num_classes,
    place_classes,
)

LAYOUT = BlockLayout("interlaced", time=2, space_stride=8, summary=2)
HEIGHT, WIDTH, SLOTS = 24, 32, 2 + 2 * 3 * 4


class Fixed:
    """Expects the same at every place."""

    def __init__(self, frequencies: np.ndarray) -> None:
        self.table, self.seen = frequencies, []

    def start_block(self, count: int) -> np.ndarray:
        self.seen = []
        return np.arange(count)

    def frequencies(self) -> np.ndarray:
        return self.table

    def see(self, code: int) -> None:
        self.seen.append(code)


def ideal_bits(codes: np.ndarray, expectation: Expectation) -> float:
    """The prior's own cross-entropy of a block."""
    order = expectation.start_block(len(codes))
    bits = 0.0
    for code in codes[order].tolist():
        bits -= math.log2(expectation.frequencies()[code] / TOTAL)
        expectation.see(code)
    return bits


def decoded_by_hand(payload: bytes, count: int, frequencies: np.ndarray) -> list[int]:
    """Range decoding in whole numbers alone: what any machine must find."""
    starts, all_of_it = np.cumsum(frequencies) - frequencies, 2**64
    point, place = int.from_bytes(payload[:8].ljust(8, b"\0"), "big"), 8
    lower, width, codes = 0, all_of_it - 1, []
    for _ in range(count):
        scale = width >> 24
        code = int(np.searchsorted(starts, (point - lower) % all_of_it // scale, side="right")) - 1
        codes.append(code)
        lower = (lower + scale * int(starts[code])) % all_of_it
        width = scale * int(frequencies[code])
        if width < 2**32:
            word = int.from_bytes(payload[place : place + 4].ljust(4, b"\0"), "big")
            lower, width = lower * 2**32 % all_of_it, width * 2**32
            point, place = (point * 2**32 + word) % all_of_it, place + 4
    return codes


def priors(codebook: int) -> list[Prior]:
    luck = np.random.default_rng(codebook)
    counts = luck.integers(0, 9, (num_classes(LAYOUT), codebook)) ** 4
    return [measured(counts, "c", LAYOUT), AdaptivePrior(codebook, LAYOUT)]


@given(data=st.data(), bits=st.integers(1, 24))
def test_packing_round_trips(data: st.DataObject, bits: int) -> None:
    codes = data.draw(st.lists(st.integers(0, 2**bits - 1), max_size=40))
    packed = pack(np.array(codes, dtype=np.int64), bits)
    assert len(packed) == -(-bits * len(codes) // 8)
    assert unpack(packed, bits, len(codes)).tolist() == codes


def test_packing_is_most_significant_bit_first() -> None:
    assert pack(np.array([1, 2, 3]), 4) == bytes([0x12, 0x30])
    with pytest.raises(ValueError, match="after the last code"):
        unpack(bytes([0x12, 0x31]), 4, 3)


@given(st.lists(st.integers(0, 2**20), min_size=1, max_size=50).filter(any))
def test_shares_are_whole_and_leave_nothing_out(weights: list[int]) -> None:
    shares = share_out(np.array(weights))
    assert shares.sum() == TOTAL and shares.min() >= 1
    free, total = TOTAL - len(weights), sum(weights)
    assert all(abs(s - 1 - w * free / total) <= 1 for s, w in zip(shares, weights, strict=True))


@settings(max_examples=300)
@given(data=st.data(), codebook=st.integers(1, 40), seed=st.integers(0, 99))
def test_coded_bytes_are_what_whole_numbers_say(
    data: st.DataObject, codebook: int, seed: int
) -> None:
    """Whatever constriction does in floating point, its bytes are those of exact frequencies."""
    skew = data.draw(st.sampled_from([1, 8, 40]))
    weights = np.random.default_rng(seed).random(codebook) ** skew * 2**30
    weights[0] += 1  # not all nothing
    table = share_out(weights.astype(np.int64))
    codes = np.array(data.draw(st.lists(st.integers(0, codebook - 1), max_size=60)), np.int64)
    payload = encode_codes(codes, told := Fixed(table))
    assert told.seen == codes.tolist()
    assert decode_codes(payload, len(codes), Fixed(table)).tolist() == codes.tolist()
    assert decoded_by_hand(payload, len(codes), table) == codes.tolist()
    assert 8 * len(payload) <= 1.003 * ideal_bits(codes, Fixed(table)) + 9


@given(data=st.data(), codebook=st.sampled_from([1, 2, 7, 300]), kind=st.integers(0, 1))
def test_any_blocks_round_trip_under_a_prior(data: st.DataObject, codebook: int, kind: int) -> None:
    code = st.integers(0, codebook - 1)
    blocks = data.draw(st.lists(st.lists(code, min_size=1, max_size=SLOTS), max_size=6))
    prior = priors(codebook)[kind]
    writing, reading = (prior.start(HEIGHT, WIDTH) for _ in range(2))
    for number, block in enumerate(blocks):
        codes = np.array(block, dtype=np.int64)
        payload = encode_codes(codes, writing)
        if number % 3 == 2:  # such a block was packed: the reader has its codes already
            tell(codes, reading)
        else:
            assert decode_codes(payload, len(codes), reading).tolist() == block


@pytest.mark.parametrize("kind", [0, 1])
def test_coding_costs_what_the_prior_expects(kind: int) -> None:
    luck, prior = np.random.default_rng(0), priors(50)[kind]
    writing, telling = (prior.start(8, 8 * 2000) for _ in range(2))
    ideal = coded = 0.0
    for _ in range(3):
        codes = luck.choice(50, 3000, p=np.arange(1, 51) ** 2 / np.square(np.arange(1, 51)).sum())
        ideal += ideal_bits(codes, telling)
        coded += 8 * len(encode_codes(codes, writing))
    assert ideal - 1 <= coded <= 1.002 * ideal
    if kind == 1:  # it learned: all codes alike would take log2 50
        assert coded < 3 * 3000 * math.log2(50) * 0.97


def test_bytes_of_no_codes_are_refused_or_become_codes() -> None:
    luck, prior = np.random.default_rng(0), priors(300)[0]
    refused = 0
    for _ in range(100):
        try:
            codes = decode_codes(b"\xff" * 8 + luck.bytes(9), SLOTS, prior.start(HEIGHT, WIDTH))
            assert codes.min() >= 0 and codes.max() < 300
        except ValueError as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused == 100


def test_classes_of_place_are_summary_tokens_and_levels() -> None:
    classes = place_classes(LAYOUT, HEIGHT, WIDTH)
    levels = order_grid("interlaced", 2, 3, 4)
    assert len(classes) == SLOTS and classes[:2].tolist() == [0, 1]
    assert classes[2] == 2  # the coarsest place
    assert (np.diff(classes) >= 0).all() and classes.max() < num_classes(LAYOUT)
    for token in range(SLOTS - 2):
        level = int(levels.level[levels.permutation[token]])
        assert classes[2 + token] == 2 + MAX_LEVEL - level
    with pytest.raises(ValueError, match="priors know at most"):
        place_classes(LAYOUT, 2**20, 2**20)


def test_a_prior_is_measured_by_class_of_place(tmp_path) -> None:
    info = {"height": HEIGHT, "width": WIDTH, "tokens_per_block": [SLOTS, 3]}
    first = np.array([0, 1] + [2] * (SLOTS - 2) + [0, 1, 2], dtype=np.uint16)
    counts = count_codes([(first, info)] * 50, 4, LAYOUT)
    assert counts.sum() == 50 * (SLOTS + 3) and counts[0].tolist() == [100, 0, 0, 0]
    prior = measured(counts, "fsq4-abc", LAYOUT, borrowed=1.0)
    assert (prior.tables[0].argmax(), prior.tables[1].argmax()) == (0, 1)
    assert (prior.tables >= 1).all()  # unseen codes and classes can be coded too
    assert bits_per_token(counts, prior) < 0.1
    path = tmp_path / "p.safetensors"
    prior.save(path)
    again = StaticPrior.load(path)
    assert (again.tables == prior.tables).all() and again.name == prior.name
    apart = replace(LAYOUT, regional=1)  # what it says of quadrants is nothing to frequencies
    assert measured(counts, "fsq4-abc", apart, borrowed=1.0).name == prior.name
    other = measured(counts, "fsq4-abd", LAYOUT, borrowed=1.0)
    assert other.name != prior.name and prior.name.startswith("static-")


def test_files_that_are_no_prior(tmp_path) -> None:
    path = tmp_path / "p.safetensors"
    with pytest.raises(FileNotFoundError, match="no such prior"):
        StaticPrior.load(path)
    measured(np.ones((num_classes(LAYOUT), 3), dtype=np.int64), "c", LAYOUT).save(path)
    whole = path.read_bytes()
    for content in (b"", b"nonsense", whole[:-1], whole[:50], whole.replace(b"-prior", b"-other")):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="not a prior") as error:
            StaticPrior.load(path)
        assert "\n" not in str(error.value)
    path.write_bytes(whole[:-4] + bytes(4))
    with pytest.raises(ValueError, match="damaged prior"):
        StaticPrior.load(path)
    with pytest.raises(ValueError, match="no tokens"):
        measured(np.zeros((num_classes(LAYOUT), 3), dtype=np.int64), "c", LAYOUT)
    with pytest.raises(ValueError, match="priors know at most"):
        AdaptivePrior(2**24, LAYOUT)
    with pytest.raises(ValueError, match="too many to count"):
        AdaptivePrior(2**16, BlockLayout("interlaced", 1, 8, summary=2**16))
