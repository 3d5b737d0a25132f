"""`Decoder`: a decoder-only transformer in Qwen3's layout over text and video-code ids.

RMSNorm before each part, grouped-query attention with normalised queries and keys, SwiGLU, 1-D
rotary positions. Video codes enter, and are scored, by a table row plus a linear map of features
that the codec gives them, which folds into the tables; and (optionally, outside Qwen3's layout)
with an embedding of their index in the block, and those of its summary with sums of what it says
(lm/summary_sums.py), or with positions that `lm.positions` gives them.
Knows ids, not what they mean; knows no trainer and no codec.

Shapes: B rows, L tokens, D width, V ids, H query heads, G key/value heads, E head size.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.compiler import is_compiling

from lm.attention import Attention, Mask
from lm.cache import Cache
from lm.engine import Engine
from lm.heads import Ahead
from lm.normalising import RMSNorm
from lm.rope import Rope, rope_tables
from lm.segments import STRETCH, segment_mask, stretches
from lm.summary_sums import SummarySums, summaries_of

if TYPE_CHECKING:
    from lm.positions import Places

MOST_LAYERS = 1000  # several times what any model has; a mistyped number would be built for hours
MOST_CONTEXT = 2**24  # likewise; a table of rotary positions is made for all of it
EMBEDDING_STD = 0.5  # large beside the blocks' first outputs, so that these do not drown tokens
INPUTS = ("table.weight", "slots.weight", "code_map.weight", "summary_sums.weight")


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What may be chosen about a decoder; the default is the small one the demo trains."""

    width: int = 192
    """Numbers a token is made of."""
    layers: int = 4
    """Transformer blocks."""
    heads: int = 6
    """Attention heads."""
    kv_heads: int = 2
    """Key and value heads, shared by groups of attention heads."""
    head_dim: int = 32
    """Numbers in a head, even."""
    hidden: int = 512
    """Width of the feed-forward part."""
    context: int = 1024
    """Most tokens in a stream."""
    rope_theta: float = 10_000.0
    """Base of the rotary positions."""
    tied: bool = False
    """Score ids with the input table instead of a table of their own."""
    slot_embedding: bool = True
    """Tell codes by their place in the block, a summary's in sums; outside Qwen3's layout."""
    qk_norm: bool = True
    """Normalise queries and keys, as Qwen3 does; without it the layout is Llama's."""
    norm_eps: float = 1e-6
    """What norms add to the mean square."""
    rope_scaling: list[float] | None = None
    """Llama 3's slower turns: factor, low and high frequency factor, original context."""
    ahead: int = 1
    """Codes of a block that one state foretells, by small heads beside Qwen3's layout; 1: none."""
    positions: Literal["stream", "seconds"] = "stream"
    """A token's place: its number in the stream, or seconds, row and column (lm/positions.py)."""
    positions_per_second: float = 4.0
    """Positions a second of video takes, where they are in seconds."""

    def __post_init__(self) -> None:
        for name in ("width", "layers", "heads", "kv_heads", "head_dim", "hidden", "context"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: give at least 1")
        if self.layers > MOST_LAYERS:
            raise ValueError(f"layers={self.layers}: give at most {MOST_LAYERS}")
        if self.context > MOST_CONTEXT:
            raise ValueError(f"context={self.context}: give at most {MOST_CONTEXT} tokens")
        for name in ("rope_theta", "norm_eps"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name}={getattr(self, name):g}: give a number above 0")
        if self.heads % self.kv_heads:
            raise ValueError(f"heads={self.heads} is no multiple of kv_heads={self.kv_heads}")
        if self.head_dim % 2:
            raise ValueError(f"head_dim={self.head_dim}: rotary positions want an even number")
        if self.rope_scaling is not None and not _scales(self.rope_scaling):
            raise ValueError(
                f"rope_scaling={self.rope_scaling}: give four numbers above 0 (factor, low "
                "frequency factor, a higher one, original context), or leave it out"
            )
        if self.ahead < 1:
            raise ValueError(f"ahead={self.ahead}: give 1 (the next code only) or more")
        if self.positions not in ("stream", "seconds"):
            raise ValueError(f"positions={self.positions!r}: give stream or seconds")
        if self.positions == "seconds" and self.head_dim < 6:
            raise ValueError(f"head_dim={self.head_dim}: positions in seconds want 6 or more")
        if not 0 < self.positions_per_second < math.inf:
            raise ValueError(
                f"positions_per_second={self.positions_per_second:g}: give a number above 0"
            )


def _scales(numbers: list[float]) -> bool:
    """Whether these are numbers to scale rotary positions by."""
    return (
        len(numbers) == 4
        and all(0 < number < math.inf for number in numbers)
        and numbers[1] < numbers[2]
    )


@dataclass(frozen=True, kw_only=True)
class DecoderConfig(Sizes):
    """Sizes of a decoder for one vocabulary."""

    num_ids: int  # V: length of the vocabulary
    video_start: int  # first id that is a video code
    code_dim: int  # features of a code; 0: codes have tables only
    num_slots: int  # places in a block told apart; later ones look like the last; 0: none
    summary: int = 0  # the first of these, at each of which codes mean something of their own
    regional: int = 0  # of these, the last four times as many: each quadrant's, in turns

    def to_json(self) -> dict[str, Any]:
        fields = asdict(self)
        if self.positions == "stream":  # as it was before there were others
            del fields["positions"], fields["positions_per_second"]
        if not self.summary:
            del fields["summary"], fields["regional"]
        return fields


class SwiGLU(nn.Module):
    """Gated feed-forward with one fused projection for gate and value."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.gate_up = nn.Linear(width, 2 * hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate_up(x).chunk(2, dim=-1)
        return self.down(F.silu(gate) * up)


class Block(nn.Module):
    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(config.width, eps=config.norm_eps)
        self.attention = Attention(config)
        self.feed_forward_norm = RMSNorm(config.width, eps=config.norm_eps)
        self.feed_forward = SwiGLU(config.width, config.hidden)

    def forward(
        self,
        x: Tensor,
        rope: Rope,
        mask: Mask,
        cache: Cache | None,
        layer: int,
    ) -> Tensor:
        x = x + self.attention(self.attention_norm(x), rope, mask, cache, layer)
        return x + self.feed_forward(self.feed_forward_norm(x))


class Decoder(nn.Module):
    """ids in, hidden states out; `logits` turns hidden states into scores of ids.

    code_features: float (V - video_start, code_dim), what is known of each code.
    """

    def __init__(self, config: DecoderConfig, code_features: Tensor | None = None) -> None:
        super().__init__()
        self.config = config
        self.engine: Engine | None = None  # what writes streams in this module's place
        self.places: Places | None = None  # where tokens stand; None: at their numbers
        num_codes = config.num_ids - config.video_start
        if code_features is None:
            code_features = torch.zeros(num_codes, config.code_dim)
        if code_features.shape != (num_codes, config.code_dim):
            raise ValueError(
                f"code features {tuple(code_features.shape)}: the vocabulary has {num_codes} codes "
                f"of {config.code_dim} features: load the codec the vocabulary was made for"
            )
        self.code_features: Tensor
        self.cos: Tensor
        self.sin: Tensor
        self.table = nn.Embedding(config.num_ids, config.width)
        self.register_buffer("code_features", code_features.detach().float().clone())
        self.code_map = self._feature_map()
        self.head_map = None if config.tied else self._feature_map()
        self.slots = nn.Embedding(config.num_slots, config.width) if config.num_slots else None
        maps = config.num_slots and config.summary and config.code_dim
        sizes = config.summary, config.regional, config.code_dim, config.width
        self.summary_sums = SummarySums(*sizes) if maps else None
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = RMSNorm(config.width, eps=config.norm_eps)
        self.head = None if config.tied else nn.Linear(config.width, config.num_ids, bias=False)
        cos, sin = rope_tables(config)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        self._initialise()
        self.ahead = Ahead(config.width, config.ahead) if config.ahead > 1 else None

    def _feature_map(self) -> nn.Linear | None:
        config = self.config
        return nn.Linear(config.code_dim, config.width, bias=False) if config.code_dim else None

    def _initialise(self) -> None:
        large = () if self.config.tied else INPUTS  # a table that scores, too, starts small
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                nn.init.normal_(parameter, std=EMBEDDING_STD if name in large else 0.02)
            if name.endswith(("out.weight", "down.weight")):
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * self.config.layers))

    def embed(self, ids: Tensor, slots: Tensor | None, cache: Cache | None = None) -> Tensor:
        """Input embeddings (B, L, D) of tokens that follow those in a cache."""
        x = self.table(ids)
        codes = ids - self.config.video_start
        is_code = (codes >= 0).unsqueeze(-1)
        if self.code_map is not None:
            x = x + is_code * self.code_map(F.embedding(codes.clamp(min=0), self.code_features))
        if self.slots is not None and slots is not None:
            x = x + is_code * self.slots(slots.clamp(max=self.config.num_slots - 1))
        if self.summary_sums is not None and slots is not None:
            features, size = self.code_features, self.config.summary
            earlier = None if cache is None else cache.summaries(size, features)
            found = summaries_of(features, codes, slots, size, earlier)
            x = x.index_put(found.at, self.summary_sums(found).to(x.dtype), accumulate=True)
        return x

    def forward(
        self,
        ids: Tensor,
        *,
        slots: Tensor | None = None,
        positions: Tensor | None = None,
        segments: Tensor | None = None,
        cache: Cache | None = None,
    ) -> Tensor:
        """Hidden states after the last norm.

        Args:
            ids: int64 (B, L). Padding goes to the right: attention is causal, so it is never seen.
            slots: int64 (B, L), index of a code in its block, 0 elsewhere.
            positions: int64 (B, L) from 0 in each document; default 0 to L-1 (a cache knows).
                In seconds they follow from ids and segments.
            segments: int64 (B, L), as in `lm.segments`; None: every token sees all before it.
            cache: Keys and values of earlier tokens; the new ones are appended.

        Returns:
            float (B, L, D).
        """
        mask: Mask = None
        if cache is not None:
            positions, mask = cache.place(ids.shape[1])
        elif segments is not None:
            mask = segment_mask(segments)
            known = type(ids) is Tensor and not is_compiling()  # plans count with empty ones
            if known and ids.device.type == "cpu" and ids.shape[1] > STRETCH:
                mask = stretches(mask)
        if self.config.positions == "seconds":
            assert self.places is not None, "place_tokens gives them"
            rope = self.places.rope(ids, segments, cache, self.cos)
        elif positions is None:
            rope = (self.cos[: ids.shape[1]], self.sin[: ids.shape[1]])
            rope = (rope[0][None, :, None], rope[1][None, :, None])
        else:
            rope = (self.cos[positions][:, :, None], self.sin[positions][:, :, None])
        x = self.embed(ids, slots, cache)
        for layer, block in enumerate(self.blocks):
            x = block(x, rope, mask, cache, layer)
        if cache is not None:
            cache.advance(ids.shape[1])
        return self.norm(x)

    def logits(
        self, hidden: Tensor, start: int = 0, stop: int | None = None, table: Tensor | None = None
    ) -> Tensor:
        """Scores (..., stop - start) of the ids in [start, stop), all ids by default.

        `table` is what `output_table` returned, for callers that score many times.
        """
        stop = self.config.num_ids if stop is None else stop
        table = self.output_table() if table is None else table
        return F.linear(hidden, table[start:stop])

    def input_table(self) -> Tensor:
        """Input embeddings of all ids (V, D), features of codes folded in."""
        return self._folded(self.table.weight, self.code_map)

    def output_table(self) -> Tensor:
        """What hidden states are compared with to score ids (V, D), features folded in."""
        if self.head is None:
            return self.input_table()
        return self._folded(self.head.weight, self.head_map)

    def _folded(self, table: Tensor, feature_map: nn.Linear | None) -> Tensor:
        if feature_map is None:
            return table
        mapped = feature_map(self.code_features)
        return table + F.pad(mapped, (0, 0, self.config.video_start, 0))

    @property
    def num_parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.parameters())
