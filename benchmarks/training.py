"""Tokens a second and peak memory of training, beside transformers' Qwen3 of equal sizes.

    OMP_NUM_THREADS=1 python benchmarks/training.py --sizes S M

Random weights and tokens, context 1024, bf16 autocast, torch's AdamW, a loss on every token, one
thread. Each turn is a process of its own, which takes a step to warm up; the two take turns.
Seconds are the processor's, so that those in which others had it do not count. It measures no
learning.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from statistics import median

import torch
from decoding import IDS, make_models
from torch import Tensor

from lm.batches import Batch
from lm.loss import language_loss
from lm.model import Decoder
from lm.sequence import TEXT

CONTEXT = 1024
WAYS = ("transformers", "ours")
Loss = Callable[[Tensor], Tensor]


def our_loss(model: Decoder, ids: Tensor) -> Tensor:
    batch = Batch(
        ids=ids,
        weights=torch.ones(ids.shape),
        positions=torch.arange(ids.shape[1]).expand_as(ids),
        modality=torch.full(ids.shape, TEXT, dtype=torch.uint8),
        slots=torch.zeros_like(ids),
        segments=None,
    )
    return language_loss(model, [batch]).total


def turn(way: str, size: str, rows: int, steps: int) -> None:
    """Train, then print tokens a second and peak memory as JSON."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    ours, theirs = make_models(size, CONTEXT + 1)
    ids = torch.randint(10, IDS, (steps + 1, rows, CONTEXT + 1))
    model = ours.train() if way == "ours" else theirs.train()
    if way == "ours":
        del theirs
    else:
        del ours
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    start = 0.0
    for step in range(steps + 1):
        if step == 1:
            start = time.process_time()
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            if isinstance(model, Decoder):
                loss = our_loss(model, ids[step])
            else:
                loss = model(ids[step], labels=ids[step], use_cache=False).loss
        loss.backward()
        optimizer.step()
    seconds = time.process_time() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps([steps * rows * CONTEXT / seconds, peak]))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sizes", nargs="+", choices=("S", "M"), default=["S", "M"])
    parser.add_argument("--rows", type=int, default=2)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--way", choices=WAYS, help="one turn alone, of one size")
    given = parser.parse_args()
    if given.way is not None:
        turn(given.way, given.sizes[0], given.rows, given.steps)
        return
    for size in given.sizes:
        found: dict[str, list[list[float]]] = {way: [] for way in WAYS}
        for _ in range(given.repeats):
            for way in WAYS:
                command = [sys.executable, __file__, "--way", way, "--sizes", size]
                command += ["--rows", str(given.rows), "--steps", str(given.steps)]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                found[way].append(json.loads(done.stdout.splitlines()[-1]))
        base = median(pace for pace, _ in found[WAYS[0]])
        for way, turns in found.items():
            paces, peaks = zip(*turns, strict=True)
            print(
                f"{size} rows {given.rows} {way:12} {median(paces):6.0f} tokens/s "
                f"({min(paces):.0f} to {max(paces):.0f}) {median(paces) / base:.2f} times, "
                f"peak {max(peaks):.0f} MiB"
            )
        print(f"  load {os.getloadavg()[0]:.1f}", flush=True)


if __name__ == "__main__":
    main()
