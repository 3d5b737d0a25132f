"""Token files come back whole, or are refused in one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tokenizer.files import VERSION, load_tokens, pack, read_token_file, save_tokens, unpack
from tokenizer.tokens import VideoTokens


def tokens(codebook: int = 1000, counts: tuple[int, ...] = (64, 3, 1)) -> VideoTokens:
    generator = torch.Generator().manual_seed(0)
    return VideoTokens(
        codes=tuple(torch.randint(0, codebook, (n,), generator=generator) for n in counts),
        timestamps=torch.tensor([0.0, 1 / 3, 0.7, 1.0, 1.1, 2.0]),
        height=33,
        width=17,
        block_frames=2,
        codebook_size=codebook,
        codec_id="fsq1000-2x8-abc",
    )


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


@pytest.mark.parametrize("codebook", [1, 2, 1000, 1024, 2**18])
@pytest.mark.parametrize("even", [True, False])
def test_a_file_holds_the_same_tokens(tmp_path: Path, codebook: int, even: bool) -> None:
    made = tokens(codebook)
    if even:
        made.timestamps.copy_(0.5 + 0.04 * torch.arange(6, dtype=torch.float64))
    written = save_tokens(made, tmp_path / "a.kvt")
    read = read_token_file(tmp_path / "a.kvt")
    for name in ("height", "width", "block_frames", "codebook_size", "codec_id"):
        assert getattr(read.tokens, name) == getattr(made, name)
    assert all(map(torch.equal, read.tokens.codes, made.codes))
    assert torch.equal(read.tokens.timestamps, made.timestamps)
    bits = max(1, (codebook - 1).bit_length())
    assert read.code_bytes == written.code_bytes == sum(-(-bits * n // 8) for n in (64, 3, 1))
    assert read.file_bytes == (tmp_path / "a.kvt").stat().st_size
    assert [path.name for path in tmp_path.iterdir()] == ["a.kvt"]


def test_mutated_files_never_pass_for_whole(tmp_path: Path) -> None:
    save_tokens(tokens(), tmp_path / "a.kvt")
    whole, rng = (tmp_path / "a.kvt").read_bytes(), np.random.default_rng(0)
    file = tmp_path / "b.kvt"
    for number in range(600):
        content, place = bytearray(whole), int(rng.integers(len(whole)))
        match number % 5:
            case 0:
                content[place] ^= 1 << rng.integers(8)
            case 1:
                del content[place:]
            case 2:
                content += rng.bytes(rng.integers(1, 9))
            case 3:
                del content[place : place + int(rng.integers(1, 5))]
            case 4:
                content[place : place + 4] = rng.bytes(4)
        if bytes(content) == whole:
            continue
        file.write_bytes(content)
        with pytest.raises(ValueError) as error:
            load_tokens(file)
        assert str(file) in str(error.value) and "\n" not in str(error.value)


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
    with pytest.raises(ValueError, match="newer than 1: upgrade kinolex"):
        load_tokens(file)


def test_codes_outside_the_codebook_are_not_written(tmp_path: Path) -> None:
    made = tokens()
    made.codes[1][0] = 1000
    with pytest.raises(ValueError, match=r"block 1 lie outside \[0, 1000\)"):
        save_tokens(made, tmp_path / "a.kvt")
    assert not list(tmp_path.iterdir())
