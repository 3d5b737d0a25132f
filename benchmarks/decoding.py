"""Tokens a second of the decoder's own loop beside transformers' `generate`.

    OMP_NUM_THREADS=1 python benchmarks/decoding.py --sizes S M --rows 1 8

Random weights, fp32, one thread, greedy over all ids, a prompt of 64 tokens, dynamic cache in
transformers. Both take turns in one run; medians with spread, the prompt's pass counted in both.
It measures the model and its cache: neither the grammar nor quality.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from functools import partial
from statistics import median

import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from lm.engine import Engine
from lm.model import Decoder, DecoderConfig
from lm.quantized import ShortEngine
from lm.sampling import OwnReading

SIZES = {"S": (384, 6, 6, 1024), "M": (768, 12, 12, 2048)}  # width, layers, heads, hidden
IDS, PROMPT = 8192, 64


def make_models(size: str, context: int) -> tuple[Decoder, Qwen3ForCausalLM]:
    width, layers, heads, hidden = SIZES[size]
    ours = DecoderConfig(
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
    return Decoder(ours).eval(), Qwen3ForCausalLM(theirs).eval()


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
    given = parser.parse_args()
    torch.set_num_threads(1)
    for size in given.sizes:
        ours, theirs = make_models(size, PROMPT + given.tokens)
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
