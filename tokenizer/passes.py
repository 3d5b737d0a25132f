"""One pass through a codec's network, either way: blocks of pixels to codes, vectors to pixels.

Training, streams and exported programs all pass here. It does not know what came before a block
but through `Past`.

Legend: B blocks, T, H, W frames and pixels of a block, N tokens of a block, D of a code vector.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tokenizer.blocks import Reconstruction, to_blocks, to_clips
from tokenizer.layers import Past
from tokenizer.ordering import order_grid
from tokenizer.quantizer import Quantized

if TYPE_CHECKING:
    from tokenizer.codec import Codec


def reconstruct(
    codec: Codec,
    frames: Tensor,
    counts: Tensor | None,
    rounding: bool,
    change: Callable[[Tensor], Tensor] | None = None,
) -> Reconstruction:
    """Code and decode clips, all blocks side by side, with gradients; see `Codec.forward`."""
    clips, length, _, height, width = frames.shape
    x = to_blocks(frames, codec.block_frames, codec.backbone.space_stride)
    num_blocks = len(x) // clips
    quantized = to_codes(codec, x, Past(num_blocks), rounding)
    if counts is None:
        counts = torch.full((clips,), quantized.codes.shape[1])
    vectors = quantized.quantized.unflatten(0, (clips, num_blocks))
    seen = vectors if change is None else change(vectors)
    pixels = to_pixels(
        codec,
        seen.flatten(0, 1),
        counts.repeat_interleave(num_blocks),
        codec.grid(height, width),
        Past(num_blocks),
    )
    pixels = to_clips(pixels, num_blocks)
    codes = quantized.codes.unflatten(0, (clips, num_blocks))
    pixels = pixels[:, :length, :, :height, :width]
    return Reconstruction(pixels, codes, vectors, quantized.loss)


def to_codes(codec: Codec, pixels: Tensor, past: Past, rounding: bool = True) -> Quantized:
    """Blocks float (B, 3, T, H, W), whole strides, to codes and vectors in the order of tokens."""
    ordering, summary = codec.ordering(*pixels.shape[-2:]), codec.summary
    vectors = codec.backbone.encode(pixels, ordering.level.to(pixels.device), past)
    told, placed = vectors.split((summary, vectors.shape[1] - summary), 1)
    return codec.quantizer(torch.cat([told, ordering.to_tokens(placed)], 1), rounding)


def to_pixels(
    codec: Codec, vectors: Tensor, counts: Tensor, grid: tuple[int, int, int], past: Past
) -> Tensor:
    """Vectors (B, N, D), of which the first counts (B,) were kept, to blocks (B, 3, T, H, W)."""
    summary, depth = codec.summary, codec.quantizer.depth
    tokens, hops = order_grid(codec.order, *grid).sources(counts.cpu() - summary)  # (B, N) both
    tokens, hops = tokens.to(vectors.device), hops.to(vectors.device)
    if depth > 1:  # what a place was sent, added up; no summary is before it
        kept = torch.arange(vectors.shape[1]) < counts.cpu()[:, None]
        vectors = vectors * kept[..., None].to(vectors.device)
        vectors = vectors.unflatten(1, (depth, -1)).sum(1)
    told, placed = vectors.split((summary, vectors.shape[1] - summary), 1)
    placed = placed.gather(1, tokens[..., None].expand(-1, -1, vectors.shape[2]))
    share = counts / depth  # of the places' first tokens, as it were
    return codec.backbone.decode(torch.cat([told, placed], 1), hops, grid, past, share)
