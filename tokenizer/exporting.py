"""A codec's two streaming steps as programs that run without this package: .pt2, and ONNX.

Sizes are fixed at export; a stream's past goes in and comes out as plain tensors, as one clip at
a time. It knows how a codec's step works, not files of tokens nor rates: a count says how many
tokens of a block were kept.

Legend: T, H, W frames and pixels of a block, N its tokens at the full rate, D of a code vector.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from data.atomic import atomic_path, write_atomically
from tokenizer.blocks import pad_frames, to_float
from tokenizer.codec import Codec
from tokenizer.layers import Past
from tokenizer.ordering import MAX_LEVEL, NOTHING, Ordering
from tokenizer.passes import to_codes

Form = Literal["pt2", "onnx"]
LARGEST = 2**18  # codes; the decoder step looks their vectors up in a table


@dataclass(frozen=True)
class Port:
    """One tensor that goes in or comes out."""

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Program:
    """One step as written."""

    step: str  # encoder or decoder
    files: list[str]  # beside the description, one for each form
    inputs: list[Port]
    outputs: list[Port]


@dataclass(frozen=True)
class Exported:
    """What an export wrote; steps.json beside the programs says the same."""

    codec_id: str
    tokens_id: str  # the name that tokens bear
    height: int  # pixels
    width: int  # pixels
    block_frames: int
    tokens_per_block: int  # at the full rate
    codebook_size: int
    programs: list[Program]
    out: str


class SteppedPast(Past):
    """A past of tensors alone: whether there was none is data, so that one program serves both."""

    def __init__(self, first: Tensor, old: Sequence[Tensor]) -> None:
        super().__init__(1, old)
        self.first = first  # bool scalar

    def frame_before(self, x: Tensor) -> Tensor:
        assert self.old is not None
        before = torch.where(self.first, x[:, :, :1], self.old[len(self.new)])
        self.new.append(x[:, :, -1:].clone())
        return before


class EncoderStep(nn.Module):
    """frames uint8 (1, T, 3, H, W), first bool (), past... -> codes int64 (1, N), past..."""

    def __init__(self, codec: Codec) -> None:
        super().__init__()
        self.codec = codec

    def forward(self, frames: Tensor, first: Tensor, *past: Tensor) -> tuple[Tensor, ...]:
        memory = SteppedPast(first, past)
        block = to_float(pad_frames(frames, 1, self.codec.backbone.space_stride))
        codes = to_codes(self.codec, block.transpose(1, 2), memory).codes
        return codes, *memory.new


class DecoderStep(nn.Module):
    """codes int64 (1, N), count int64 (1,), first bool (), past... -> pixels, past...

    Codes from the count on are not looked at. Pixels are float (1, T, 3, H, W), -1 black to
    1 white, not clamped.
    """

    table: Tensor

    def __init__(self, codec: Codec, height: int, width: int) -> None:
        super().__init__()
        if codec.codebook_size > LARGEST:
            raise ValueError(
                f"{codec.codebook_size} codes: a codec of more than {LARGEST} cannot be exported"
            )
        self.codec, self.height, self.width = codec, height, width
        self.grid = codec.grid(height, width)
        self.ordering = codec.ordering(height, width)
        self.depth = _depth(self.ordering)
        self.register_buffer("table", codec.code_vectors())

    def forward(
        self, codes: Tensor, count: Tensor, first: Tensor, *past: Tensor
    ) -> tuple[Tensor, ...]:
        memory, summary = SteppedPast(first, past), self.codec.summary
        kept = torch.arange(codes.shape[1])[None] < count[:, None]
        vectors = self.table[torch.where(kept, codes, 0)]  # (1, N, D)
        tokens, hops = sources(self.ordering, count - summary, self.depth)
        told, placed = vectors.split((summary, vectors.shape[1] - summary), 1)
        placed = placed.gather(1, tokens[..., None].expand(-1, -1, vectors.shape[2]))
        vectors = torch.cat([told, placed], 1)
        pixels = self.codec.backbone.decode(vectors, hops, self.grid, memory, count)
        pixels = pixels[..., : self.height, : self.width].transpose(1, 2)
        return pixels.contiguous(), *memory.new


def sources(ordering: Ordering, counts: Tensor, depth: int) -> tuple[Tensor, Tensor]:
    """`Ordering.sources` in as many steps as the deepest place needs, whatever the counts are."""
    empty, counts = counts < 1, counts.clamp(min=1)
    place = torch.arange(len(ordering.rank)).expand(len(counts), -1)
    hops = torch.zeros_like(place)
    for _ in range(depth):
        missing = ordering.rank[place] >= counts[:, None]
        hops = hops + missing
        place = torch.where(missing, ordering.parent[place], place)
    hops = torch.where(empty[:, None], NOTHING, hops.clamp(max=MAX_LEVEL))
    return ordering.rank[place], hops


def _depth(ordering: Ordering) -> int:
    """Steps from the deepest place up to that of the first token."""
    root = ordering.permutation[0]
    place, depth = torch.arange(len(ordering.rank)), 0
    while bool((place != root).any()):
        place, depth = ordering.parent[place], depth + 1
    return depth


@torch.no_grad()
def export_codec(
    codec: Codec, out: Path, height: int, width: int, forms: Sequence[Form] = ("pt2",)
) -> Exported:
    """Write a codec's steps at one size, and steps.json and README.md that say how to use them.

    Args:
        codec: The codec, in eval mode, on the CPU.
        out: Folder to write.
        height: Pixels.
        width: Pixels.
        forms: pt2 is torch.export's; onnx wants the extra `export`.

    Raises:
        ValueError: No pixels, more codes than a table can hold, or onnx without the extra.
    """
    if "onnx" in forms:
        _check_extra()
    codec.ordering(height, width)  # cached before tracing, which must not cache its own stand-ins
    slots, first = codec.slots_per_block(height, width), torch.tensor(True)
    frames = torch.zeros(1, codec.block_frames, 3, height, width, dtype=torch.uint8)
    codes = torch.zeros(1, slots, dtype=torch.int64)
    steps: dict[str, tuple[nn.Module, dict[str, Tensor], str]] = {
        "encoder": (EncoderStep(codec), {"frames": frames, "first": first}, "codes"),
        "decoder": (
            DecoderStep(codec, height, width),
            {"codes": codes, "count": torch.tensor([slots]), "first": first},
            "pixels",
        ),
    }
    _, encoded = codec.encode_step(frames, codec.start())
    _, decoded = codec.decode_step([codes[0]], codec.start_decoding(height, width))
    programs = []
    for (name, (step, inputs, made)), state in zip(steps.items(), (encoded, decoded), strict=True):
        assert state.past is not None
        past = {f"past{i}": torch.zeros_like(x) for i, x in enumerate(state.past)}
        programs.append(_write(name, step.eval(), {**inputs, **past}, made, out, forms))
    found = Exported(
        codec_id=codec.codec_id,
        tokens_id=codec.tokens_id,
        height=height,
        width=width,
        block_frames=codec.block_frames,
        tokens_per_block=slots,
        codebook_size=codec.codebook_size,
        programs=programs,
        out=str(out),
    )
    write_atomically(out / "README.md", _card(found).encode())
    write_atomically(out / "steps.json", (json.dumps(asdict(found), indent=2) + "\n").encode())
    return found


def _write(
    name: str,
    step: nn.Module,
    inputs: dict[str, Tensor],
    made: str,
    out: Path,
    forms: Sequence[Form],
) -> Program:
    example = tuple(inputs.values())
    results = step(*example)
    names = [made, *(f"new_past{i}" for i in range(len(results) - 1))]
    outputs = dict(zip(names, results, strict=True))
    files = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporters' own
        program = torch.export.export(step, example)
        for form in dict.fromkeys(forms):
            files.append(f"{name}.{form}")
            with atomic_path(out / files[-1]) as partial:
                if form == "pt2":
                    torch.export.save(program, partial)
                else:
                    torch.onnx.export(
                        program,
                        (),
                        partial,
                        input_names=list(inputs),
                        output_names=list(outputs),
                        external_data=False,
                        verbose=False,
                    )
    return Program(name, files, _ports(inputs), _ports(outputs))


def _ports(tensors: dict[str, Tensor]) -> list[Port]:
    return [
        Port(name, str(x.dtype).removeprefix("torch."), tuple(x.shape))
        for name, x in tensors.items()
    ]


def _check_extra() -> None:
    try:  # imported only to say before the work that one is missing; torch uses them
        import onnx  # noqa: F401  # pyright: ignore
        import onnxscript  # noqa: F401  # pyright: ignore
    except ModuleNotFoundError as error:
        raise ValueError(
            f"ONNX needs {error.name}: pip install 'kinolex[export]', or leave --onnx out"
        ) from error


def _card(found: Exported) -> str:
    """How to use the programs."""
    tables = []
    for program in found.programs:
        rows = [
            f"| {kind} | {port.name} | {port.dtype} | {'x'.join(map(str, port.shape)) or '-'} |"
            for kind, ports in (("in", program.inputs), ("out", program.outputs))
            for port in ports
        ]
        head = f"## {program.step}: {', '.join(program.files)}\n\n| | name | dtype | shape |\n"
        tables.append(head + "| --- | --- | --- | --- |\n" + "\n".join(rows))
    return (
        f"""# Steps of codec {found.codec_id}

At {found.height}x{found.width} pixels, one stream: each call codes or decodes a block of
{found.block_frames} frames, {found.tokens_per_block} tokens at the full rate, coarse to fine, codes
from 0 to {found.codebook_size - 1}. `.pt2` needs torch alone:

    step = torch.export.load("encoder.pt2").module()
    codes, *past = step(frames, torch.tensor(True), *zeros)    # the first block
    codes, *past = step(frames, torch.tensor(False), *past)    # every later one

`first` says that there is no past yet; then the past may be zeros of the shapes below. Send the
first `count` of the codes, and fill up with zeros to decode. The last frames of a clip are filled
up to a block by repeating the last one. Pixels p are -1 black to 1 white, not clamped: a byte is
round(127.5 * (p + 1)), from 0 to 255.

"""
        + "\n\n".join(tables)
        + "\n"
    )
