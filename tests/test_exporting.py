"""Exported steps equal the codec's own: codes exactly, pixels to 1e-5, at any count."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch import Tensor

from kinolex import main
from tokenizer.backbone import ConvBackbone
from tokenizer.codec import Codec
from tokenizer.exporting import DecoderStep, Exported, export_codec, sources
from tokenizer.factored import FactoredBackbone
from tokenizer.ordering import order_grid
from tokenizer.quantizer import FSQ

HEIGHT, WIDTH, BLOCK = 13, 20, 4
SIZES = {"channels": 8, "latent_channels": 8, "blocks": 1, "latent_blocks": 1, "summary": 2}


def made(kind: str) -> Codec:
    torch.manual_seed(0)
    if kind == "quadrants":
        backbone = FactoredBackbone(**SIZES | {"summary": 6, "regional": 1})
    else:
        backbone = {"conv": ConvBackbone, "factored": FactoredBackbone}[kind](**SIZES)
    codec = Codec(backbone, FSQ(), block_frames=BLOCK).eval()
    for parameter in codec.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return codec


def zeros(found: Exported, number: int) -> list[Tensor]:
    ports = found.programs[number].inputs
    return [torch.zeros(port.shape) for port in ports if port.name.startswith("past")]


def clip(blocks: int = 3) -> Tensor:
    luck = torch.Generator().manual_seed(1)
    shape = (1, blocks * BLOCK, 3, HEIGHT, WIDTH)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=luck)


def check(codec: Codec, found: Exported, encode, decode) -> None:
    """Three blocks through both, the second and third with few tokens."""
    own, _ = codec.encode_step(clip(), codec.start())
    past, state = zeros(found, 0), codec.start_decoding(HEIGHT, WIDTH)
    memory, counts = zeros(found, 1), (found.tokens_per_block, 5, 1)
    for number, count in enumerate(counts):
        first = torch.tensor(number == 0)
        block = clip()[:, number * BLOCK : (number + 1) * BLOCK]
        codes, *past = encode(block, first, *past)
        assert torch.equal(codes, own[number])
        sent = torch.where(torch.arange(codes.shape[1]) < count, codes, 10**6)  # not looked at
        pixels, *memory = decode(sent, torch.tensor([count]), first, *memory)
        expected, state = codec.decode_step([own[number][0, :count]], state)
        assert state.past is not None
        for mine, theirs in zip(memory, state.past, strict=True):
            torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-5)
        off = (pixels.add(1).mul(127.5).clamp(0, 255) - expected.float()).abs().max()
        assert off <= 0.5 + 127.5 * 1e-5  # half a level of rounding


@pytest.mark.parametrize("kind", ["conv", "factored", "quadrants"])
def test_programs_equal_the_codec(kind: str, tmp_path: Path) -> None:
    codec = made(kind)
    found = export_codec(codec, tmp_path, HEIGHT, WIDTH)
    programs = [torch.export.load(tmp_path / f"{n}.pt2").module() for n in ("encoder", "decoder")]
    with torch.no_grad():
        check(codec, found, *programs)
    told = json.loads((tmp_path / "steps.json").read_text())
    assert told["codec_id"] == codec.codec_id and len(told["programs"]) == 2
    assert codec.codec_id in (tmp_path / "README.md").read_text()
    again = codec.encode_step(clip(), codec.start())[0]  # tracing left nothing behind
    assert not any(type(block) is not Tensor for block in again)


def test_places_take_the_vectors_that_the_ordering_says() -> None:
    codec = made("conv")
    ordering = order_grid("interlaced", 2, 3, 5)
    depth = DecoderStep(codec, 24, 40).depth
    counts = torch.arange(0, 31)
    for mine, theirs in zip(
        sources(ordering, counts, depth), ordering.sources(counts), strict=True
    ):
        assert torch.equal(mine, theirs)


def test_command_and_a_program_without_this_package(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    codec = made("factored")
    codec.save(tmp_path / "codec")
    words = ["tokenizer", "export", "--model", str(tmp_path / "codec"), "--out"]
    words += [str(tmp_path / "steps"), "--height", str(HEIGHT), "--width", str(WIDTH)]
    assert main([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    torch.save(clip()[:, :BLOCK], tmp_path / "block.pt")
    script = """
import json, sys, torch
steps = json.load(open("steps/steps.json"))
past = [torch.zeros(p["shape"]) for p in steps["programs"][0]["inputs"] if "past" in p["name"]]
step = torch.export.load("steps/encoder.pt2").module()
codes, *_ = step(torch.load("block.pt"), torch.tensor(True), *past)
assert not {"tokenizer", "data", "kinolex", "vector_quantize_pytorch"} & set(sys.modules)
print(json.dumps(codes[0].tolist()))
"""
    done = subprocess.run(
        [sys.executable, "-I", "-W", "ignore", "-c", script],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    own, _ = codec.encode_step(clip()[:, :BLOCK], codec.start())
    assert json.loads(done.stdout) == own[0][0].tolist() and told["codec_id"] == codec.codec_id


def test_onnx_without_the_extra_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ValueError, match=r"kinolex\[export\]"):
        export_codec(made("conv"), tmp_path, HEIGHT, WIDTH, ("onnx",))
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(find_spec("onnxruntime") is None, reason="needs the extra `export`")
@pytest.mark.export
def test_onnx_equals_the_codec(tmp_path: Path) -> None:
    import onnxruntime  # pyright: ignore

    codec = made("factored")
    found = export_codec(codec, tmp_path, HEIGHT, WIDTH, ("onnx",))

    def runner(number: int):
        program = found.programs[number]
        session = onnxruntime.InferenceSession(
            tmp_path / program.files[0], providers=["CPUExecutionProvider"]
        )

        def run(*inputs: Tensor) -> list[Tensor]:
            names = [port.name for port in program.inputs]
            given = {n: x.numpy() for n, x in zip(names, inputs, strict=True)}
            return [torch.from_numpy(x) for x in session.run(None, given)]

        return run

    check(codec, found, runner(0), runner(1))
