"""What training a decoder costs: parameters, operations and memory, counted before anything runs.

Parameters and operations are closed forms; what the backward pass keeps is counted by letting the
real network run on tensors without contents. Weights, gradients and averages are fp32, as the
trainer has them. Knows no clocks, configurations or tables.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F

from lm.learning import Recipe, recompute_blocks
from lm.model import Decoder, DecoderConfig
from tokenizer.optimisation import PORTION
from tokenizer.summary import QUADRANTS

FP32 = 4  # bytes


@dataclass(frozen=True)
class Parameters:
    """How many numbers a decoder learns, by where they stand."""

    matrices: int  # of all blocks
    gains: int  # of all blocks
    root: int  # tables, head, their maps and the last norm
    layers: int

    @property
    def total(self) -> int:
        return self.matrices + self.gains + self.root

    @property
    def block(self) -> int:
        return (self.matrices + self.gains) // self.layers


def count_parameters(config: DecoderConfig) -> Parameters:
    """The parameters of a decoder, without making one."""
    width, heads, groups, size = config.width, config.heads, config.kv_heads, config.head_dim
    attention = width * (heads + 2 * groups) * size + heads * size * width
    matrices = attention + 3 * width * config.hidden
    gains = 2 * width + 2 * size
    sides = 1 if config.tied else 2  # input, and a head of its own
    rows = sides * (config.num_ids + config.code_dim) + config.num_slots + 1
    rows += (config.ahead - 1) * width
    maps = config.summary - (QUADRANTS - 1) * config.regional  # one serves all quadrants
    rows += maps * config.code_dim if config.num_slots else 0
    layers = config.layers
    return Parameters(matrices * layers, gains * layers, rows * width, layers)


def operations_per_token(config: DecoderConfig, row: int, checkpointing: bool = False) -> float:
    """Floating-point operations of forward and backward pass for one token of rows this long.

    Two per weight and pass, three passes (four through blocks that are computed again); attention
    sees half a row on average. All ids are scored, which is at most what the loss does.
    """
    passes = 8 if checkpointing else 6
    seen = config.layers * config.heads * config.head_dim * row
    blocks = passes * (count_parameters(config).matrices + seen)
    return blocks + 6 * config.num_ids * config.width


def muon_operations(config: DecoderConfig) -> float:
    """Floating-point operations of one Muon step, all of which every device does.

    Per matrix of sides m <= n: two products with the long side and 18 of short ones.
    """
    width, heads, groups, size = config.width, config.heads, config.kv_heads, config.head_dim
    shapes = [
        ((heads + 2 * groups) * size, width),
        (width, heads * size),
        (2 * config.hidden, width),
        (width, config.hidden),
    ]
    sides = [(min(shape), max(shape)) for shape in shapes]
    return config.layers * float(sum(4 * m * m * n + 36 * m**3 for m, n in sides))


def kept_for_backward(
    config: DecoderConfig, rows: int, length: int, *, bf16: bool, recipe: Recipe, packed: bool
) -> int:
    """Bytes that one pass keeps for its backward pass, parameters apart, and its logits' gradient.

    Args:
        config: Of the decoder.
        rows: Of documents in a pass.
        length: Tokens a row.
        bf16: Under autocast to bfloat16.
        recipe: Says whether blocks are computed again.
        packed: Rows hold several documents.
    """
    kept: dict[int, Tensor] = {}
    with FakeTensorMode():
        # Positions in seconds take as much; sums of summary codes keep more, by how many there are,
        # which tensors without content cannot tell.
        decoder = Decoder(replace(config, positions="stream", summary=0))
        own = {x.untyped_storage()._cdata for x in (*decoder.parameters(), *decoder.buffers())}
        if recipe.checkpointing:
            recompute_blocks(decoder)

        def keep(x: Tensor) -> Tensor:
            if (place := x.untyped_storage()._cdata) not in own:
                kept[place] = x
            return x

        ids = torch.zeros(rows, length, dtype=torch.int64)
        more = {"positions": ids, "segments": ids} if packed else {}
        running = torch.autocast("cpu", torch.bfloat16) if bf16 else nullcontext()
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x), running:
            hidden = decoder(ids, slots=ids, **more)
            logits = decoder.logits(hidden, config.video_start).float()
            F.cross_entropy(logits.flatten(0, 1), ids.flatten())
        gradient = logits.numel() * FP32
        return sum(x.untyped_storage().nbytes() for x in kept.values()) + gradient


@dataclass(frozen=True)
class Memory:
    """Bytes on each device."""

    weights: float  # averaged ones included
    gradients: float
    optimizer: float
    activations: float  # kept for one backward pass
    gathered: float  # weights and gradients of others while a sharded block works; buckets
    update: float  # whole matrices while Muon works on them

    @property
    def peak(self) -> float:
        """Activations and Muon's matrices are not there at the same time."""
        states = self.weights + self.gradients + self.optimizer
        return states + max(self.activations + self.gathered, self.update)


def memory(
    config: DecoderConfig, recipe: Recipe, activations: float, devices: int, sharded: bool
) -> Memory:
    """Memory of training on each of so many devices, its states spread over them or not."""
    counts = count_parameters(config)
    muon = counts.matrices if recipe.matrices == "muon" else 0
    share = FP32 / devices if sharded else FP32
    if sharded:  # root and one block with gradients, and the next block's weights ahead
        gathered = FP32 * (2 * counts.root + 3 * counts.block)
    else:
        gathered = FP32 * counts.total if devices > 1 else 0  # gradients in buckets
    largest = 2 * config.hidden * config.width
    return Memory(
        weights=share * counts.total * (2 if recipe.average else 1),
        gradients=share * counts.total,
        optimizer=share * (muon + 2 * (counts.total - muon)),
        activations=activations,
        gathered=gathered,
        update=3 * FP32 * min(muon, max(PORTION, largest)),
    )


def bytes_sent(
    config: DecoderConfig, recipe: Recipe, devices: int, sharded: bool, passes: int
) -> float:
    """Bytes that each device sends for one step of so many passes."""
    counts, part = count_parameters(config), FP32 * (devices - 1) / devices
    if not sharded:
        return 2 * part * counts.total  # gradients, summed and shared out, after the last pass
    blocks = counts.matrices + counts.gains
    muon = counts.matrices if recipe.matrices == "muon" else 0
    # each pass: weights forward and backward, gradients; each step: what Muon wants whole
    return part * (passes * (2 * blocks + counts.root + counts.total) + muon)
