"""Number formats and compilation: what stays the same, what rounding may change."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from data.clip import Clip
from data.folder_writing import write_folder
from data.writing import write_video
from tokenizer.codec import Codec
from tokenizer.commands import evaluate, shards
from tokenizer.file_commands import decode
from tokenizer.file_encoding import encode
from tokenizer.files import load_tokens
from tokenizer.memory import bounded_memory
from tokenizer.running import running


def clips() -> torch.Tensor:
    luck = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (2, 12, 3, 24, 32), dtype=torch.uint8, generator=luck)


def codes_of(codec: Codec) -> torch.Tensor:
    blocks, _ = codec.encode_step(clips(), codec.start())
    return torch.cat(blocks, 1)


def pixels_of(codec: Codec, codes: torch.Tensor) -> torch.Tensor:
    state, parts = codec.start_decoding(24, 32), []
    for block in codes.split(codes.shape[1] // 3, 1):
        pixels, state = codec.decode_step(list(block), state)
        parts.append(pixels.int())
    return torch.cat(parts, 1)


def test_bf16_changes_few_codes_and_no_more_once_it_ends(codec: Codec) -> None:
    own = codes_of(codec)
    with running(codec, "bf16"):
        low = codes_of(codec)
        assert torch.equal(low, codes_of(codec))
        assert torch.equal(frame_by_frame(codec), low)  # chunked = whole in this format, too
        off = (pixels_of(codec, own) - pixels_of(codec, low)).abs().float().mean()
        assert off < 16
    share = float((own == low).float().mean())
    assert 0.5 < share < 1  # it does something; how many differ, random weights cannot tell
    assert torch.equal(own, codes_of(codec))


def frame_by_frame(codec: Codec) -> torch.Tensor:
    state, blocks = codec.start(), []
    for frame in clips().split(1, 1):
        coded, state = codec.encode_step(frame, state)
        blocks += coded
    return torch.cat(blocks, 1)


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
@pytest.mark.filterwarnings("ignore")  # the compiler's own
def test_compiled_equals_eager(
    codec: Codec, backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))  # an interrupted one is broken
    own = codes_of(codec)
    shown = pixels_of(codec, own)
    with running(codec, compiled=True, backend=backend):
        made, pixels = codes_of(codec), pixels_of(codec, own)
    assert float((made == own).float().mean()) >= 0.99  # sums in another order, rarely at a border
    assert int((pixels - shown).abs().max()) <= 1  # of 255
    assert "encode" not in vars(codec.backbone)
    torch.compiler.reset()


def test_more_than_fits_into_memory_is_told_with_its_bound(codec: Codec) -> None:
    """8k frames, which never become real: the first array that is too large is refused."""
    if not Path("/proc/meminfo").exists():
        pytest.skip("only Linux bounds memory so")
    import resource

    before = resource.getrlimit(resource.RLIMIT_DATA)
    frames = torch.zeros(1, dtype=torch.uint8).expand(8, 3, 4320, 7680)
    for length in (1, 8):
        with pytest.raises(ValueError, match=r"more than the 0\.1 GB .* free: make room, or"):
            with bounded_memory(10**8):
                codec.encode(frames[:length])
    with pytest.raises(ValueError, match="7680x4320"):  # errors of another kind pass as they are
        with bounded_memory(10**8):
            raise ValueError("7680x4320")
    with pytest.raises(RuntimeError, match="ours"):
        with bounded_memory(10**8):
            raise RuntimeError("ours")
    assert resource.getrlimit(resource.RLIMIT_DATA) == before
    with running(codec):
        assert resource.getrlimit(resource.RLIMIT_DATA) != before
        codes_of(codec)
    assert resource.getrlimit(resource.RLIMIT_DATA) == before


def test_commands_take_a_format(codec: Codec, tmp_path: Path) -> None:
    codec.save(tmp_path / "c")
    clip = Clip.from_frames(clips()[0], 8)
    video = write_video(clip, tmp_path / "clip.mkv")
    encode([video], tmp_path / "c", tmp_path / "a.kvt", precision="bf16")
    with running(codec, "bf16"):
        low = codec.encode(clip)
        again = codec.decode(low)
    assert all(map(torch.equal, load_tokens(tmp_path / "a.kvt").codes, low.codes))
    decode(tmp_path / "a.kvt", tmp_path / "b.mkv", tmp_path / "c", precision="bf16")
    assert again.frames.shape == clip.frames.shape
    write_folder([clip], tmp_path / "f" / "heldout", suffix=".mkv")
    exact = evaluate(str(tmp_path / "f"), tmp_path / "c")
    rough = evaluate(str(tmp_path / "f"), tmp_path / "c", precision="bf16")
    assert exact.rates[0].score.psnr != rough.rates[0].score.psnr
    assert exact.rates[0].score.psnr == pytest.approx(rough.rates[0].score.psnr, abs=0.5)
    shards(str(tmp_path / "f"), tmp_path / "c", tmp_path / "s", split="heldout", precision="bf16")
