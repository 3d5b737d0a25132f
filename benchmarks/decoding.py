"""Tokens a second of the decoder's own loop beside transformers' `generate`.

    OMP_NUM_THREADS=1 python benchmarks/decoding.py --sizes S M --rows 1 8
    OMP_NUM_THREADS=1 python benchmarks/decoding.py --sizes S M --rows 1 8 --memory

Random weights, fp32, one thread, greedy over all ids, a prompt of 64 tokens, dynamic cache in
transformers. Both take turns in one run; medians with spread, the prompt's pass counted in both.
It measures the model and its cache: neither the grammar nor quality. With `--memory` it counts what
one step of ours takes of memory, which it gives back, in place of time.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import TYPE_CHECKING

import torch
from torch.profiler import ProfilerActivity, profile

from lm.engine import Engine
from lm.model import Decoder, DecoderConfig
from lm.quantized import ShortEngine
from lm.sampling import OwnReading

if TYPE_CHECKING:
    from transformers import Qwen3ForCausalLM

SIZES = {"S": (384, 6, 6, 1024), "M": (768, 12, 12, 2048)}  # width, layers, heads, hidden
IDS, PROMPT = 8192, 64


def make_ours(size: str, context: int) -> Decoder:
    width, layers, heads, hidden = SIZES[size]
    config = DecoderConfig(
        num_ids=IDS,
        video_start=IDS,
        code_dim=0,
        num_slots=0,
        width=width,
        layers=layers,
        heads=heads,
        kv_heads=heads,
        head_dim=64,
        hidden=hidden,
        context=context,
        tied=True,
        slot_embedding=False,
    )
    return Decoder(config).eval()


def make_theirs(size: str, context: int) -> Qwen3ForCausalLM:
    from transformers import Qwen3Config, Qwen3ForCausalLM

    width, layers, heads, hidden = SIZES[size]
    theirs = Qwen3Config(
        vocab_size=IDS,
        hidden_size=width,
        intermediate_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        head_dim=64,
        max_position_embeddings=context,
        tie_word_embeddings=True,
    )
    return Qwen3ForCausalLM(theirs).eval()


@torch.inference_mode()
def memory_of_a_step(model: Decoder, rows: int, read: int) -> list[int]:
    """Bytes of every allocation (above 0) and freeing of one step and its scores."""
    start = torch.randint(10, IDS, (rows, read)).tolist()
    reading = OwnReading(model, [(row, [0] * read) for row in start], room=20)

    def step() -> None:
        last = reading.scores(0, model.config.num_ids).argmax(-1)
        reading.push(last.tolist(), [0] * rows)

    for _ in range(16):  # until matrices are laid out anew
        step()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        step()
    assert seen.profiler is not None
    events = seen.profiler.kineto_results.events()
    return [event.nbytes() for event in events if event.name() == "[memory]"]


def print_memory(size: str, rows: int) -> None:
    for read in (PROMPT, 16 * PROMPT):
        events = memory_of_a_step(make_ours(size, read + 20), rows, read)
        taken = [nbytes for nbytes in events if nbytes > 0]
        print(
            f"{size} rows {rows} after {read} tokens: {len(taken)} allocations, "
            f"{sum(taken) / 1024:.0f} KiB in all, largest {max(taken) / 1024:.0f} KiB",
            flush=True,
        )


@torch.inference_mode()
def run_ours(model: Decoder, ids: torch.Tensor, tokens: int, engine: Engine | None = None) -> None:
    rows = [(row, [0] * len(row)) for row in ids.tolist()]
    reading = OwnReading(model, rows, tokens) if engine is None else engine.read(rows, tokens)
    slots, last = [0] * len(rows), model.config.num_ids
    for _ in range(tokens - 1):
        reading.push(reading.scores(0, last).argmax(-1).tolist(), slots)
    reading.scores(0, last).argmax(-1)


def run_theirs(model: Qwen3ForCausalLM, ids: torch.Tensor, tokens: int) -> None:
    model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=tokens,
        min_new_tokens=tokens,
        do_sample=False,
        pad_token_id=0,
        eos_token_id=1,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sizes", nargs="+", choices=sorted(SIZES), default=["S", "M"])
    parser.add_argument("--rows", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--memory", action="store_true", help="count what a step takes of memory")
    given = parser.parse_args()
    torch.set_num_threads(1)
    for size in given.sizes:
        if given.memory:
            for rows in given.rows:
                print_memory(size, rows)
            continue
        context = PROMPT + given.tokens
        ours, theirs = make_ours(size, context), make_theirs(size, context)
        for rows in given.rows:
            ids = torch.randint(10, IDS, (rows, PROMPT))
            bf16, int8 = ShortEngine(ours, "bf16"), ShortEngine(ours, "int8")
            ways: dict[str, Callable[[], None]] = {
                "transformers": partial(run_theirs, theirs, ids, given.tokens),
                "ours": partial(run_ours, ours, ids, given.tokens),
                "ours, bf16": partial(run_ours, ours, ids, given.tokens, bf16),
                "ours, int8": partial(run_ours, ours, ids, given.tokens, int8),
            }
            paces: dict[str, list[float]] = {name: [] for name in ways}
            for _ in range(given.repeats):
                for name, run in ways.items():
                    start = time.process_time()
                    run()
                    paces[name].append(rows * given.tokens / (time.process_time() - start))
            base = median(paces["transformers"])
            for name, found in paces.items():
                spread, ratio = f"{min(found):.0f} to {max(found):.0f}", median(found) / base
                print(
                    f"{size} rows {rows} {name:12} {median(found):6.0f} tokens/s ({spread}) "
                    f"{ratio:.2f} times"
                )
            print(f"  load {os.getloadavg()[0]:.1f}", flush=True)


if __name__ == "__main__":
    main()
