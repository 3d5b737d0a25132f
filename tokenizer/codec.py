"""`Codec`: backbone, quantizer and ordering composed; clips to `VideoTokens` and back.

Video is coded in blocks of frames, each seeing only itself and the past. Whole clips run through
the very step that streams do, so chunked equals whole. It does not know training, files on the
way, or text.

Legend: S clips, B blocks, T, H, W frames and pixels, N places (tokens) of a block, D code vector.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Unpack

from torch import Tensor, nn

from data.clip import Clip
from tokenizer.backbone import Backbone
from tokenizer.blocks import (
    DecoderState,
    EncoderState,
    Reconstruction,
    check_streams,
)
from tokenizer.factored import FactoredBackbone
from tokenizer.identity import weights_hash, weights_version
from tokenizer.label_head import LabelHead
from tokenizer.ordering import BlockLayout, Order, Ordering, order_grid
from tokenizer.passes import reconstruct
from tokenizer.quantizer import FSQ, Quantizer
from tokenizer.rate import Served, Target, as_rates
from tokenizer.rate_control import RateChoice
from tokenizer.steps import decode_blocks, encode_frames, encode_rest
from tokenizer.tokens import VideoTokens
from tokenizer.whole import decode_clips, encode_clips


class Codec(nn.Module):
    """A video codec: any length, any size, any rate up to the full one.

    Args:
        backbone: Encoder and decoder network.
        quantizer: Turns vectors into codes; its `dim` must be the backbone's.
        block_frames: Frames per temporal block, a multiple of the backbone's time stride.
        order: Order of a block's tokens, coarse to fine.
        trained_size: Height and width in pixels of the training clips; far from it encoding warns.
        label_head: What reads labels off the codes, where the codec was trained with labels.
        codes_of: Name of the codec whose decoder was trained further to make this one: both make
            the very same codes, and each decodes the other's tokens.
    """

    def __init__(
        self,
        backbone: Backbone | None = None,
        quantizer: Quantizer | None = None,
        block_frames: int = 8,
        order: Order = "interlaced",
        trained_size: tuple[int, int] | None = None,
        label_head: LabelHead | None = None,
        codes_of: str | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone or FactoredBackbone()
        self.quantizer = quantizer or FSQ()
        if block_frames < 1 or block_frames % self.backbone.time_stride:
            raise ValueError(
                f"block_frames={block_frames}: give a multiple of the backbone's "
                f"time_stride={self.backbone.time_stride}"
            )
        if self.backbone.arguments["dim"] != self.quantizer.dim:
            raise ValueError(
                f"backbone dim={self.backbone.arguments['dim']} with a quantizer of "
                f"{self.quantizer.dim} dimensions: set the backbone's dim to {self.quantizer.dim}"
            )
        if self.quantizer.depth > 1 and self.backbone.summary:
            raise ValueError(
                f"summary={self.backbone.summary} with {self.quantizer.depth} codes a vector: set "
                "the backbone's summary to 0, or the quantizer's split to false"
            )
        self.block_frames = block_frames
        self.order: Order = order
        self.trained_size = trained_size
        self.label_head = label_head
        self.codes_of = codes_of
        self._fingerprint: tuple[int, str] | None = None

    # --- what it is

    @property
    def codebook_size(self) -> int:
        return self.quantizer.codebook_size

    @property
    def summary(self) -> int:
        """Tokens of a block, its first ones, that speak for all of it or for a quadrant."""
        return self.backbone.summary

    @property
    def layout(self) -> BlockLayout:
        """Where the tokens of a block stand."""
        backbone = self.backbone
        time = self.block_frames // backbone.time_stride
        return BlockLayout(
            self.order,
            time,
            backbone.space_stride,
            backbone.summary,
            self.quantizer.depth,
            backbone.regional,
        )

    def code_vectors(self) -> Tensor:
        """The vector of every code, float32 (codebook_size, D)."""
        return self.quantizer.code_vectors()

    def grid(self, height: int, width: int) -> tuple[int, int, int]:
        """Latents of a block in time, height and width, for a picture of this many pixels."""
        return self.layout.grid(height, width)

    def slots_per_block(self, height: int, width: int) -> int:
        """Tokens of a block at the full rate."""
        return self.layout.slots(height, width)

    def served(self, height: int, width: int) -> Served:
        """The rates that can be had at a size."""
        slots = self.slots_per_block(height, width)
        return Served(self.block_frames, slots, height, width, self.codebook_size)

    def max_tokens_per_frame(self, height: int, width: int) -> float:
        """The full rate at a size."""
        return self.slots_per_block(height, width) / self.block_frames

    def ordering(self, height: int, width: int) -> Ordering:
        """The order of the tokens of a block's grid, which follow its summary, at a size."""
        return order_grid(self.order, *self.grid(height, width))

    def config(self) -> dict[str, object]:
        """JSON values that build this codec again, without its weights."""
        parts = {"backbone": self.backbone, "quantizer": self.quantizer}
        named = {k: {"class": type(v).__name__, "arguments": v.arguments} for k, v in parts.items()}
        head = self.label_head
        labels = {} if head is None else {"labels": head.classes}
        phrases = {} if head is None or not head.phrases else {"phrases": head.phrases}
        same = {} if self.codes_of is None else {"codes_of": self.codes_of}
        return {
            **named,
            **labels,
            **phrases,
            **same,
            "block_frames": self.block_frames,
            "order": self.order,
        }

    @property
    def tokens_id(self) -> str:
        """The name that tokens bear: this codec's, or that of the first one with its codes."""
        return self.codec_id if self.codes_of is None else self.codes_of

    @property
    def codec_id(self) -> str:
        """Name of this codec: strides, quantizer and a hash of its design and weights."""
        version = hash((weights_version(self), self.codes_of))
        if self._fingerprint is None or self._fingerprint[0] != version:
            stride = f"{self.backbone.time_stride}x{self.backbone.space_stride}"
            name = f"{type(self.quantizer).__name__.lower()}{self.codebook_size}"
            digest = weights_hash(self, json.dumps(self.config(), sort_keys=True))
            self._fingerprint = version, f"{name}-{stride}-{digest[:12]}"
        return self._fingerprint[1]

    # --- training: all blocks at once

    def forward(
        self,
        frames: Tensor,
        counts: Tensor | None = None,
        rounding: bool = True,
        change: Callable[[Tensor], Tensor] | None = None,
    ) -> Reconstruction:
        """Code and decode clips in parallel, with gradients.

        Args:
            frames: uint8 (S, T, 3, H, W), any T, H and W.
            counts: int64 (S,), tokens kept of each of a clip's blocks; None keeps all.
            rounding: Whether vectors are rounded to codes.
            change: What the decoder sees of the codes' vectors (S, blocks, N, D); None: them.
        """
        return reconstruct(self, frames, counts, rounding, change)

    # --- streams

    def start(
        self, tokens_per_frame: float | None = None, **target: Unpack[Target]
    ) -> EncoderState:
        """The state before the first frame of a stream; the full rate where none is given.

        To change the rate on the way, `replace` the state's.

        Args:
            tokens_per_frame: The rate.
            target: Another way to give it, see `Rate`; not `psnr` or `budget`, which depend on
                what is still to come.
        """
        (rate,) = as_rates(1, tokens_per_frame, target)
        check_streams(rate, 1)
        return EncoderState(rate)

    def encode_step(self, frames: Tensor, state: EncoderState) -> tuple[list[Tensor], EncoderState]:
        """Code the next frames of S streams side by side.

        Args:
            frames: uint8 (S, n, 3, H, W), any n from 0.
            state: What `start` or the last step returned; it is not changed.

        Returns:
            The codes of each block that is now whole, int64 (S, K), and the next state.
        """
        return encode_frames(self, frames, state)

    def finish(self, state: EncoderState) -> list[Tensor]:
        """The codes of the last, part-filled block, its last frame repeated; [] if none is."""
        return encode_rest(self, state)

    def start_decoding(self, height: int, width: int) -> DecoderState:
        """The state before the first block of streams of this many pixels."""
        return DecoderState(height, width)

    def decode_step(
        self, codes: Sequence[Tensor], state: DecoderState
    ) -> tuple[Tensor, DecoderState]:
        """Decode the next block of S streams: their codes int64 (K,), to uint8 (S, T, 3, H, W)."""
        return decode_blocks(self, [codes], state)

    # --- whole clips

    def encode(
        self,
        clip: Clip | Tensor,
        tokens_per_frame: float | None = None,
        **target: Unpack[Target],
    ) -> VideoTokens:
        """Code one clip, or its frames uint8 (T, 3, H, W) taken as one a second.

        Args:
            clip: Any length from one frame, any size.
            tokens_per_frame: The rate; the full one where none is given.
            target: Another way to give it: `bits_per_pixel`, `psnr`, `budget`, `share`,
                `block_tokens` or `rate="auto"`; see `Rate`.

        Raises:
            ValueError: More than one rate, or one that this clip cannot have.
            TypeError: a path in place of a clip.
        """
        return self.choose_rate(clip, tokens_per_frame, **target).tokens

    def choose_rate(
        self,
        clip: Clip | Tensor,
        tokens_per_frame: float | None = None,
        **target: Unpack[Target],
    ) -> RateChoice:
        """Code one clip as `encode` does, and say what was reached and what choosing took."""
        if not isinstance(clip, Clip | Tensor):
            raise TypeError(
                f"{clip!r} is no clip: read a file first, `data.reading.read_clip(path)`"
            )
        frames, times = (
            (clip.frames, clip.timestamps[None]) if isinstance(clip, Clip) else (clip, None)
        )
        rates = as_rates(1, tokens_per_frame, target)
        return encode_clips(self, frames[None], times, rates)[0]

    def encode_batch(
        self,
        frames: Tensor,
        timestamps: Tensor | None = None,
        tokens_per_frame: float | Sequence[float | None] | None = None,
        **target: Unpack[Target],
    ) -> list[VideoTokens]:
        """Code clips of one length and size together; no clip's tokens depend on the others.

        Args:
            frames: uint8 (S, T, 3, H, W).
            timestamps: float64 (S, T) seconds; None takes frames as one a second.
            tokens_per_frame: One rate, or one for each clip; the full one where none is given.
            target: Another way to give it, as for `encode`; `rate` may be one for each clip.
        """
        rates = as_rates(len(frames), tokens_per_frame, target)
        return [choice.tokens for choice in encode_clips(self, frames, timestamps, rates)]

    def decode(self, tokens: VideoTokens) -> Clip:
        """The clip that tokens stand for, cropped to its frames and size, with its timestamps."""
        return self.decode_batch([tokens])[0]

    def decode_batch(self, tokens: Sequence[VideoTokens]) -> list[Clip]:
        """Decode clips, those of one size and number of blocks together."""
        return decode_clips(self, tokens)

    # --- on disk

    def save(self, path: Path | str) -> None:
        """Write the codec into a directory: codec.json, codec.safetensors, README.md."""
        from tokenizer.saving import save_codec

        save_codec(self, Path(path))

    @classmethod
    def load(cls, path: Path | str) -> Codec:
        """Read a codec from the directory that `save` wrote, in eval mode."""
        from tokenizer.saving import load_codec

        return load_codec(Path(path))
