"""Token files come back whole, or as far as their writer came, or are refused in one line."""

from __future__ import annotations

import tempfile
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenizer.entropy import Prior
from tokenizer.file_reading import TokenReader
from tokenizer.file_writing import TokenWriter
from tokenizer.files import describe, load_tokens, save_tokens
from tokenizer.ordering import BlockLayout
from tokenizer.priors import AdaptivePrior, StaticPrior, measured, num_classes
from tokenizer.record_file import UnclosedWarning
from tokenizer.records import (
    BLOCK,
    INDEX,
    MAGIC,
    TRAILER,
    UNDER_PRIOR,
    VERSION,
    Block,
    Header,
    Index,
    pack_block,
    pack_header,
    pack_index,
    pack_record,
)
from tokenizer.tokens import VideoTokens
from tokenizer.varints import varint

LAYOUT = BlockLayout("interlaced", time=2, space_stride=8, summary=2)
SLOTS = 2 + 2 * 5 * 3  # at 33x17 pixels
CODINGS = ("packed", "static", "adaptive")


def tokens(codebook: int = 1000, counts: tuple[int, ...] = (32, 3, 1, 32, 32)) -> VideoTokens:
    """Low codes are frequent, so that coding under a prior pays; the last block is not full."""
    luck = np.random.default_rng(0)
    codes = [(luck.random(count) ** 9 * codebook).astype(np.int64) for count in counts]
    times = [0.0, 1 / 3, 0.7, 1.0, 1.1, *(2 + i / 30 for i in range(2 * len(counts)))]
    return VideoTokens(
        codes=tuple(map(torch.from_numpy, codes)),
        timestamps=torch.tensor(times[: 2 * len(counts) - 1], dtype=torch.float64),
        height=33,
        width=17,
        block_frames=2,
        codebook_size=codebook,
        codec_id="fsq1000-2x8-abc",
    )


def prior_of(coding: str, codebook: int = 1000) -> Prior | None:
    if coding == "static":
        luck = np.random.default_rng(1).random((num_classes(LAYOUT), 5000))
        counts = [np.bincount((row**9 * codebook).astype(int), minlength=codebook) for row in luck]
        return measured(np.stack(counts), "fsq1000-2x8-abc", LAYOUT)
    return AdaptivePrior(codebook, LAYOUT) if coding == "adaptive" else None


@pytest.fixture(scope="module")
def priors() -> dict[str, Prior | None]:
    return {coding: prior_of(coding) for coding in CODINGS}


def same(a: VideoTokens, b: VideoTokens) -> bool:
    names = ("height", "width", "block_frames", "codebook_size", "codec_id")
    return (
        len(a.codes) == len(b.codes)
        and all(map(torch.equal, a.codes, b.codes))
        and torch.equal(a.timestamps, b.timestamps)
        and all(getattr(a, name) == getattr(b, name) for name in names)
    )


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("codebook", [1, 2, 1000, 2**18])
def test_a_file_holds_the_same_tokens(tmp_path: Path, codebook: int, coding: str) -> None:
    made, prior = tokens(codebook, (32, 3, 1)), prior_of(coding, codebook)
    written = save_tokens(made, tmp_path / "a.kvt", prior)
    assert same(load_tokens(tmp_path / "a.kvt", prior), made)
    assert [path.name for path in tmp_path.iterdir()] == ["a.kvt"]
    assert written == describe(tmp_path / "a.kvt")
    assert written.file_bytes == (tmp_path / "a.kvt").stat().st_size
    assert (written.coding, written.tokens_per_block) == (coding, (32, 3, 1))
    bits = max(1, (codebook - 1).bit_length())
    assert (
        written.packed.total == made.packed_bits == 8 * sum(-(-bits * n // 8) for n in (32, 3, 1))
    )
    assert sum(written.bits_per_block) <= written.packed.total  # never longer than packed
    assert (written.coded is None) == (coding == "packed")
    assert written.nominal.per_pixel == made.bits_per_pixel
    assert written.nominal.per_second == made.bits_per_second


@settings(max_examples=60)
@given(data=st.data(), coding=st.sampled_from(CODINGS), group=st.integers(1, 4))
def test_any_tokens_round_trip_and_are_read_anywhere(
    data: st.DataObject, coding: str, group: int
) -> None:
    block = st.lists(st.integers(0, 9), min_size=1, max_size=SLOTS)
    codes = data.draw(st.lists(block, min_size=1, max_size=9))
    short = data.draw(st.integers(0, 1))
    clock = data.draw(st.sampled_from([30, 24000 / 1001, 90000, 0.37]))
    steps = data.draw(st.lists(st.integers(1, 9), min_size=2 * len(codes), max_size=2 * len(codes)))
    times = np.cumsum(steps) / clock - data.draw(st.sampled_from([0.0, 1.5]))
    made = VideoTokens(
        codes=tuple(torch.tensor(block) for block in codes),
        timestamps=torch.from_numpy(times[: 2 * len(codes) - short]),
        height=33,
        width=17,
        block_frames=2,
        codebook_size=10,
        codec_id="fsq1000-2x8-abc",
    )
    prior = prior_of(coding, 10)
    start, end = sorted(data.draw(st.tuples(*[st.floats(-2, times[-1] + 1)] * 2)))
    first = data.draw(st.integers(0, len(codes) - 1))
    stop = data.draw(st.integers(first + 1, len(codes)))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "a.kvt"
        save_tokens(made, file, prior, group_blocks=group)
        with TokenReader(file, prior) as reader:
            assert same(reader.read_blocks(first, stop), made.blocks(first, stop))
            seen = [
                number
                for number, covered in enumerate(made.timestamps.split(2))
                if ((covered >= start) & (covered < end)).any()
            ]
            if seen:
                found = reader.read_between(start, end)
                assert same(found, made.blocks(seen[0], seen[-1] + 1))
            else:
                with pytest.raises(ValueError, match="no frame from"):
                    reader.read_between(start, end)
            assert same(reader.read(), made)


def test_every_block_is_readable_once_appended(tmp_path: Path, priors: dict[str, Any]) -> None:
    """A stream's file at any moment holds all its blocks so far; closed, it is the whole's."""
    made, file = tokens(), tmp_path / "a.kvt"
    for prior in priors.values():
        save_tokens(made, tmp_path / "whole.kvt", prior, group_blocks=2)
        values = made.codec_id, 33, 17, 2, 1000
        with TokenWriter(file, *values, prior, group_blocks=2) as writer:
            with pytest.raises(ValueError, match="no whole block"):
                load_tokens(file)
            times = made.timestamps.split(2)
            for number, (codes, covered) in enumerate(zip(made.codes, times, strict=True)):
                writer.append(codes, covered)
                with pytest.warns(UnclosedWarning, match=f"{number + 1} whole blocks .* 0 bytes"):
                    assert same(load_tokens(file, prior), made.blocks(0, number + 1))
        assert file.read_bytes() == (tmp_path / "whole.kvt").read_bytes()


def test_a_writer_stopped_by_an_error_leaves_its_whole_blocks(tmp_path: Path) -> None:
    made, file = tokens(), tmp_path / "a.kvt"
    with pytest.raises(KeyError):
        with TokenWriter(file, made.codec_id, 33, 17, 2, 1000) as writer:
            writer.append(made.codes[0], [0.0, 1.0])
            raise KeyError
    with pytest.warns(UnclosedWarning, match=r"1 whole blocks \(2 frames\) are there"):
        assert torch.equal(load_tokens(file).codes[0], made.codes[0])
    with pytest.warns(UnclosedWarning):
        assert not describe(file).closed


@pytest.mark.parametrize("coding", CODINGS)
def test_a_crash_at_any_byte_loses_at_most_the_last_block(
    tmp_path: Path, coding: str, priors: dict[str, Any]
) -> None:
    made, prior, file = tokens(), priors[coding], tmp_path / "a.kvt"
    save_tokens(made, file, prior, group_blocks=2)
    whole, ends = file.read_bytes(), []
    with TokenReader(file, prior) as reader:
        place, before = len(pack_header(reader.header)), None
        for block in reader.blocks():
            before = before if block.number % 2 else None
            place += len(pack_block(block, reader.header, before, 0))
            ends.append(place)
            before = block
    for length in range(len(whole)):
        file.write_bytes(whole[:length])
        there = sum(end <= length for end in ends)
        if not there:
            with pytest.raises(ValueError) as error:
                load_tokens(file, prior)
            assert str(file) in str(error.value) and "\n" not in str(error.value)
            continue
        lost = length - ends[there - 1]
        with pytest.warns(UnclosedWarning, match=f"{there} whole blocks .* {lost} bytes"):
            assert same(load_tokens(file, prior), made.blocks(0, there))


def mutations(whole: bytes, count: int, seed: int) -> list[bytes]:
    luck, made = np.random.default_rng(seed), []
    while len(made) < count:
        content, place = bytearray(whole), int(luck.integers(len(whole)))
        match len(made) % 7:
            case 0:
                content[place] ^= 1 << luck.integers(8)
            case 1:
                del content[place:]
            case 2:
                content += luck.bytes(luck.integers(1, 9))
            case 3:
                del content[place : place + int(luck.integers(1, 5))]
            case 4:
                content[place : place + 4] = luck.bytes(4)
            case 5:
                content[place:place] = luck.bytes(luck.integers(1, 5))
            case 6:
                other = int(luck.integers(len(whole)))
                content[place : place + 20] = whole[other : other + 20]
        if bytes(content) != whole:
            made.append(bytes(content))
    return made


@pytest.mark.parametrize("coding", CODINGS)
def test_mutated_files_never_give_wrong_tokens(
    tmp_path: Path, coding: str, priors: dict[str, Any]
) -> None:
    """Refused in one line, or the blocks before the damage with a warning: 2,700 files in all."""
    made, prior, file = tokens(), priors[coding], tmp_path / "a.kvt"
    save_tokens(made, file, prior, group_blocks=2)
    read_in_part = 0
    for content in mutations(file.read_bytes(), 900, seed=len(coding)):
        file.write_bytes(content)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                found = load_tokens(file, prior)
            except ValueError as error:
                assert str(file) in str(error) and "\n" not in str(error)
                continue
        read_in_part += 1
        assert [w.category for w in caught] == [UnclosedWarning]
        assert str(file) in str(caught[0].message)
        assert same(found, made.blocks(0, len(found.codes)))
    assert read_in_part > 20


def test_damage_in_a_closed_file_is_no_crash(tmp_path: Path, priors: dict[str, Any]) -> None:
    """With its index in place every damaged byte before it is an error, not a loss."""
    file = tmp_path / "a.kvt"
    save_tokens(tokens(), file, priors["adaptive"], group_blocks=2)
    whole = file.read_bytes()
    for place in range(len(whole)):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        with pytest.raises(ValueError, match="token file|version|follow its index"):
            load_tokens(file, priors["adaptive"])
    with pytest.raises(ValueError, match="none of its follow its index"):
        file.write_bytes(whole + b"\0")
        load_tokens(file)


def test_lengths_that_lie_are_not_believed(tmp_path: Path) -> None:
    """Files with right checksums but made-up numbers: no allocation, no hang."""
    huge, file = 2**62, tmp_path / "a.kvt"
    header = Header("c", 33, 17, 2, 1000, "adaptive", "adaptive-1", LAYOUT)
    lead = pack_header(header)
    seed = int.from_bytes(lead[-4:], "little")
    good = Block(0, UNDER_PRIOR, 3, (0.0, 1.0), b"abc")
    tag = BLOCK | UNDER_PRIOR

    def packed(block: Block) -> bytes:
        return pack_block(block, header, None, seed)

    def indexed(*values: Any) -> bytes:
        return pack_index(Index(*values), header, seed)

    def lying(**wrong: Any) -> bytes:
        made = replace(header)
        for name, value in wrong.items():
            object.__setattr__(made, name, value)
        return pack_header(made)

    block, even = packed(good), bytes([1]) + varint(1) + varint(0) + varint(1)
    index = indexed(1, 2, 3, crc32(block, seed), (len(lead),))
    contents = [
        lead + bytes([tag]) + varint(huge) + block[2:] + index,
        lead + bytes([tag]) + b"\xff" * 20 + index,
        lead + packed(replace(good, num_tokens=huge)) + index,
        lead + pack_record(tag, varint(3) + varint(huge) + even, 0, seed) + index,
        lead + pack_record(tag, varint(3) + varint(2), 0, seed) + index,
        lead + pack_record(tag | 2, varint(2) + even, 0, seed) + index,
        lead + pack_record(tag | 8, varint(3) + varint(2), 0, seed) + index,
        lead + pack_record(tag | 64, varint(3) + varint(2) + even, 0, seed) + index,
        lead + block + pack_record(INDEX, varint(huge) * 4, huge, seed) + index[-TRAILER:],
        lead + block + index[:-TRAILER] + b"\xff" * 4 + index[-TRAILER + 4 :],
        lead + packed(replace(good, times=(-1.0, -1.5))) + index,
        lead + packed(replace(good, number=1)) + index,
        lead + block + indexed(huge, 2 * huge, 3, 0, (len(lead),)),
        lead + block + indexed(1, 2, 3, 0, (len(lead),)),
        lead + block + indexed(300, 600, 3, 0, (len(lead), huge)),
        lead[:10] + b"\xff\xff" + lead[12:],
        *(
            lying(**wrong) + index
            for wrong in (
                {"height": huge},
                {"width": 0},
                {"block_frames": huge},
                {"codebook_size": 0},
                {"group_blocks": 0},
                {"prior": None},
                {"coding": "packed"},
                {"layout": replace(LAYOUT, time=huge)},
            )
        ),
    ]
    for content in contents:
        file.write_bytes(content)
        with pytest.raises(ValueError) as error:
            load_tokens(file)
        assert str(file) in str(error.value) and "\n" not in str(error.value)
    wide = replace(header, height=2**20, width=2**20, layout=replace(LAYOUT, space_stride=1))
    lead = pack_header(wide)
    seed = int.from_bytes(lead[-4:], "little")
    file.write_bytes(lead + pack_block(replace(good, num_tokens=2**40), wide, None, seed))
    with pytest.warns(UnclosedWarning), pytest.raises(ValueError, match="know at most"):
        load_tokens(file)


def test_the_wrong_prior_is_refused_by_name(tmp_path: Path, priors: dict[str, Any]) -> None:
    file, static = tmp_path / "a.kvt", priors["static"]
    save_tokens(tokens(), file, static)
    assert describe(file).prior == static.name  # known without the prior
    with pytest.raises(ValueError, match=f"a.kvt: coded under the prior {static.name}: give"):
        load_tokens(file)
    other = measured(np.ones((num_classes(LAYOUT), 1000), np.int64), static.codec_id, LAYOUT)
    with pytest.raises(ValueError, match=f"under the prior {static.name}, not {other.name}"):
        load_tokens(file, other)
    foreign = StaticPrior(static.tables, "fsq1000-2x8-zzz", LAYOUT)
    with pytest.raises(ValueError, match="is of codec fsq1000-2x8-zzz, the tokens are of fsq1000"):
        save_tokens(tokens(), file, foreign)
    with pytest.raises(ValueError, match="knows 1000 codes, the tokens have 10"):
        save_tokens(tokens(10), file, AdaptivePrior(1000, LAYOUT))
    with pytest.raises(ValueError, match="the prior knows 1 to 32 at 33x17"):
        save_tokens(tokens(1000, (33,)), file, priors["adaptive"])
    assert same(load_tokens(file, static), tokens())  # still the first


def test_a_prior_that_differs_on_the_other_side_is_noticed(tmp_path: Path) -> None:
    file, prior = tmp_path / "a.kvt", prior_of("static")
    assert isinstance(prior, StaticPrior)
    save_tokens(tokens(), file, prior)
    tables = prior.tables.copy()
    tables[:, 0] += 5000
    tables[:, 1] -= 5000
    other = StaticPrior(tables, prior.codec_id, LAYOUT)
    object.__setattr__(other, "name", prior.name)
    with pytest.raises(ValueError, match="other codes than were written"):
        load_tokens(file, other)


@pytest.mark.parametrize("version", [1, 2])
def test_files_of_earlier_versions_are_refused(tmp_path: Path, version: int) -> None:
    file = tmp_path / "a.kvt"
    file.write_bytes(MAGIC + bytes([version, 0, 191, 0, 0, 0]) + b'{"coding":"packed"}')
    with pytest.raises(ValueError, match=f"of version {version}, which is no longer read"):
        load_tokens(file)


def test_files_that_are_not_ours(tmp_path: Path) -> None:
    file = tmp_path / "a.kvt"
    with pytest.raises(FileNotFoundError, match="no such token file"):
        load_tokens(file)
    for content in (b"", b"RIFF....WEBP", b"\x89PNG\r\n\x1a\n" + bytes(50)):
        file.write_bytes(content)
        with pytest.raises(ValueError, match="not a token file"):
            load_tokens(file)
    save_tokens(tokens(), file)
    content = bytearray(file.read_bytes())
    content[8] = VERSION + 1
    file.write_bytes(content)
    with pytest.raises(ValueError, match="newer than 3: upgrade kinolex"):
        load_tokens(file)
    header = Header("c", 33, 17, 2, 1000, "adaptive", "adaptive-9", LAYOUT)
    lead = pack_header(header)
    seed = int.from_bytes(lead[-4:], "little")
    block = Block(0, UNDER_PRIOR, 3, (0.0,), b"abc")
    file.write_bytes(lead + pack_block(block, header, None, seed))
    with pytest.warns(UnclosedWarning), pytest.raises(ValueError, match="prior adaptive-9, not"):
        load_tokens(file)


def test_what_cannot_be_read_back_is_not_written(tmp_path: Path) -> None:
    made = tokens()
    made.codes[1][0] = 1000
    with pytest.raises(ValueError, match=r"block 1 lie outside \[0, 1000\)"):
        save_tokens(made, tmp_path / "a.kvt")
    assert not list(tmp_path.iterdir())
    one = torch.tensor([1])
    with TokenWriter(tmp_path / "a.kvt", "c", 9, 9, 2, 1000) as writer:
        with pytest.raises(ValueError, match="no blocks"):
            writer.close()
        for codes, times, message in (
            (one, [0.0, 1.0, 2.0], "covers 3 frames: give 1 to 2"),
            (one, [], "covers 0 frames"),
            (one[:0], [0.0], "no tokens"),
            (one, [1.0, 1.0], "a frame at 1 s after one at 1 s"),
            (one, [float("nan")], "times must increase"),
            (-one, [0.0], "outside"),
        ):
            with pytest.raises(ValueError, match=message):
                writer.append(codes, times)
        writer.append(one, [0.0])
        with pytest.raises(ValueError, match="follows one that was not full"):
            writer.append(one, [1.0])
    assert load_tokens(tmp_path / "a.kvt").num_tokens == 1
    with pytest.raises(ValueError, match="height=0: it lies from 1"):
        TokenWriter(tmp_path / "b.kvt", "c", 0, 9, 2, 1000)
    with pytest.raises(ValueError, match="blocks 1 to 1"):
        tokens().blocks(1, 1)
    with TokenReader(tmp_path / "a.kvt") as reader:
        with pytest.raises(ValueError, match="blocks 0 to 2: it has blocks 0 to 1"):
            reader.read_blocks(0, 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.kvt"]


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_the_layout_of_several_tokens_a_place_round_trips(tmp_path: Path, depth: int) -> None:
    layout = replace(LAYOUT, summary=0, depth=depth)
    prior = AdaptivePrior(10, layout)
    slots = layout.slots(33, 17)
    made = VideoTokens(
        codes=(torch.arange(slots) % 10, torch.arange(3)),
        timestamps=torch.arange(3.0),
        height=33,
        width=17,
        block_frames=2,
        codebook_size=10,
        codec_id="rvq10-2x8-abc",
    )
    save_tokens(made, tmp_path / "a.kvt", prior)
    with TokenReader(tmp_path / "a.kvt") as reader:
        assert reader.header.layout == layout and same(reader.read(), made)
