"""`kinolex lm plan-training`: memory, speed and days of a training, before it starts.

Knows configurations, devices and the table. The counting is training_cost's.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import torch

from lm.model import Decoder, DecoderConfig, Sizes
from lm.training_cost import (
    Memory,
    bytes_sent,
    count_parameters,
    kept_for_backward,
    memory,
    muon_operations,
    operations_per_token,
)
from lm.vocabulary import SPECIALS
from tokenizer.fitting import ParsedCLI, Precision, choose_precision, prepare

GIB = 2**30
CODE_FEATURES, PLACES, SUMMARY = 27, 80, 16  # of the codec that configs/tokenizer/base.yaml trains
MEASURED_TOKENS = 256  # of the rows that are timed


@dataclass(frozen=True)
class PlanRow:
    """A training on so many devices; memory is of each."""

    devices: int
    strategy: str  # alone, ddp or fsdp
    weights: float  # GiB, averaged ones included
    gradients: float  # GiB
    optimizer: float  # GiB
    activations: float  # GiB, kept for one backward pass
    other: float  # GiB: gathered from other devices, buckets, or whole matrices for Muon
    total: float  # GiB at the peak
    tokens_per_second: float  # of all devices
    days: float  # for `num_tokens`


@dataclass(frozen=True)
class TrainingPlan:
    """What a training takes."""

    parameters: int
    ids: int  # length of the vocabulary that was assumed
    rows: int  # of one pass on one device
    row: int  # tokens
    passes: int  # of a step
    precision: str
    operations_per_token: float  # FLOP, forward and backward
    achieved: float  # FLOP/s of one device
    measured: bool  # on this machine; else from --flops and --utilisation
    num_tokens: float
    plans: list[PlanRow]

    def __rich__(self) -> Any:
        from rich.console import Group
        from rich.text import Text

        from tokenizer.reporting import empty_table

        columns = ("weights", "grads", "states", "kept", "other", "GiB\neach")
        table = empty_table("devices", columns, ("tokens/s", "days"))
        table.columns[0].no_wrap = True
        for plan in self.plans:
            sizes = (plan.weights, plan.gradients, plan.optimizer, plan.activations, plan.other)
            table.add_row(
                f"{plan.devices} {plan.strategy}",
                *(f"{size:.2f}" for size in (*sizes, plan.total)),
                f"{plan.tokens_per_second:,.0f}",
                f"{plan.days:.1f}" if plan.days >= 1 else f"{plan.days:.2g}",
            )
        source = "measured here" if self.measured else "from --flops and --utilisation"
        head = (
            f"parameters  {self.parameters:,} with {self.ids:,} ids\n"
            f"step        {self.passes} x {self.rows} rows of {self.row:,} tokens on each device\n"
            f"operations  {self.operations_per_token:.3g} FLOP a token, {self.precision}\n"
            f"device      {self.achieved:.3g} FLOP/s achieved ({source})\n"
            f"tokens      {self.num_tokens:.3g} in all\n"
        )
        foot = "GiB on each device; kept: by one forward pass for the backward pass"
        return Group(Text(head), table, "", Text(foot))


def plan_training(
    config: list[Path],
    devices: list[int] = [1, 8, 64],  # noqa: B006 (never changed)
    num_tokens: float | None = None,
    document: int | None = None,
    codes: int = 1000,
    precision: Precision = "auto",
    flops: float | None = None,
    utilisation: float = 0.4,
    bandwidth: float = 50e9,
) -> TrainingPlan:
    """Print what a configuration takes: memory on each device, tokens a second, days.

    Nothing is trained and no weights are made. Speed is this machine's unless --flops tells of
    another device: then peak times --utilisation. Devices talk after they have computed, which is
    the slower end of the truth.

    Example: kinolex lm plan-training --config configs/lm/base.yaml configs/lm/size/110m.yaml

    Args:
        config: Files as for `lm fit`, layered in this order.
        devices: How many, in turn.
        num_tokens: Tokens to train on; 20 for each parameter if left out.
        document: Tokens of a document with its texts; the model's context if left out.
        codes: Size of the codec's codebook.
        precision: Number format of the passes; auto measures this machine.
        flops: Peak FLOP/s of a device in this format; this machine is measured if left out.
        utilisation: Share of that peak that training reaches.
        bandwidth: Bytes a second that each device sends to others.
    """
    _check(devices, num_tokens, document, codes, flops, utilisation, bandwidth)
    cli = read_configs(config)
    recipe, data = cli.model.recipe, cli.datamodule
    parts = cli.config.trainer.accumulate_grad_batches
    shape = _shape(cli.model.sizes, data.num_pieces, codes)
    chosen = choose_precision() if precision == "auto" else precision
    document = min(document or shape.context, shape.context)
    step = data.batch_size * document  # tokens, on each device
    row = shape.context if data.packing else document
    rows = -(-step // (row * parts))
    bf16 = chosen == "bf16-mixed"
    kept = kept_for_backward(shape, rows, row, bf16=bf16, recipe=recipe, packed=data.packing)
    each = operations_per_token(shape, document, recipe.checkpointing)
    operations = step * each + (muon_operations(shape) if recipe.matrices == "muon" else 0)
    achieved = measure(shape, bf16) if flops is None else flops * utilisation
    tokens = 20.0 * count_parameters(shape).total if num_tokens is None else num_tokens
    plans = []
    for count in devices:
        for strategy in ["alone"] if count == 1 else ["ddp", "fsdp"]:
            use = memory(shape, recipe, kept, count, strategy == "fsdp")
            sent = bytes_sent(shape, recipe, count, strategy == "fsdp", parts)
            speed = count * step / (operations / achieved + sent / bandwidth)
            plans.append(_plan_row(count, strategy, use, speed, tokens))
    return TrainingPlan(
        parameters=count_parameters(shape).total,
        ids=shape.num_ids,
        rows=rows,
        row=row,
        passes=parts,
        precision=chosen,
        operations_per_token=each,
        achieved=achieved,
        measured=flops is None,
        num_tokens=tokens,
        plans=plans,
    )


def _check(devices: Sequence[int], tokens: float | None, *others: float | None) -> None:
    if not devices or min(devices) < 1:
        raise ValueError(f"devices={list(devices)}: give numbers of at least 1")
    names = ("document", "codes", "flops", "utilisation", "bandwidth")
    for name, value in zip(("num_tokens", *names), (tokens, *others), strict=True):
        if value is not None and not 0 < value < float("inf"):
            raise ValueError(f"{name}={value:g}: give a number above 0")
    if (utilisation := others[names.index("utilisation")]) is not None and utilisation > 1:
        raise ValueError(f"utilisation={utilisation:g}: give a share of the peak, at most 1")


def read_configs(config: Sequence[Path]) -> Any:
    """Model, data and settings as `lm fit` would make them, without a trainer."""
    from lm.training import LanguageTraining, ShardData

    argv = ["--data.shards=none", *(f"--config={file}" for file in config)]
    prog = "kinolex lm plan-training"
    return prepare(LanguageTraining, ShardData, argv, prog, cli_class=ParsedCLI)


def _shape(sizes: Sizes, num_pieces: int, codes: int) -> DecoderConfig:
    text = len(SPECIALS) + 1 + 256 + num_pieces  # one preset, all bytes
    return DecoderConfig(
        **asdict(sizes),
        num_ids=text + codes,
        video_start=text,
        code_dim=CODE_FEATURES,
        num_slots=PLACES if sizes.slot_embedding else 0,
        summary=SUMMARY if sizes.slot_embedding else 0,
    )


def _plan_row(
    devices: int, strategy: str, use: Memory, tokens_per_second: float, num_tokens: float
) -> PlanRow:
    named = (use.weights, use.gradients, use.optimizer, use.activations)
    weights, gradients, optimizer, activations = (size / GIB for size in named)
    return PlanRow(
        devices=devices,
        strategy=strategy,
        weights=weights,
        gradients=gradients,
        optimizer=optimizer,
        activations=activations,
        other=max(0.0, use.peak - sum(named)) / GIB,
        total=use.peak / GIB,
        tokens_per_second=tokens_per_second,
        days=num_tokens / tokens_per_second / 86400,
    )


def measure(config: DecoderConfig, bf16: bool) -> float:
    """FLOP/s that one block of this decoder reaches in forward and backward pass, here and now."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    length = min(MEASURED_TOKENS, config.context)
    small = replace(config, layers=1, context=length, num_ids=2, video_start=1, num_slots=0)
    block = Decoder(small).blocks[0].to(device)
    rope = torch.ones(1, length, 1, config.head_dim, device=device)
    x = torch.randn(1, length, config.width, device=device, requires_grad=True)
    running = torch.autocast(device, torch.bfloat16) if bf16 else nullcontext()

    def seconds() -> float:
        start = time.perf_counter()
        with running:
            y = block(x, (rope, rope), None, None, 0)
        y.sum().backward()
        if device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    seconds()  # the first passes set things up
    operations = length * (operations_per_token(small, length) - 6 * 2 * config.width)
    return operations / median(seconds() for _ in range(5))
