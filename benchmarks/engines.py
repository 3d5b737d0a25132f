"""Tokens a second of engines: torch and llama.cpp with several weights, transformers' `generate`.

    python benchmarks/engines.py --sizes S M --rows 1 8

Random weights, one thread, greedy, a prompt of 64 tokens; ours write a film under the grammar, as
`kinolex generate` does. Engines take turns in one run, so that whatever else the machine does meets
all alike; medians of the repeats. The first token, which reads the prompt, is not counted. Beside
them: how fast memory is read in the same run, and the share of what that allows for one row, where
every weight is read once a token. It does not measure quality.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from fractions import Fraction
from statistics import median
from typing import Any

import torch

from lm.drawing import Draw, Sampling
from lm.engine import open_engine
from lm.formats import VideoFormat
from lm.grammar import Grammar
from lm.model import Decoder, DecoderConfig
from lm.pieces import Pieces
from lm.prompting import condition, to_video
from lm.sampling import Prompt, continue_streams
from lm.vocabulary import Vocabulary

SIZES: dict[str, dict[str, int]] = {
    "S": {"width": 384, "layers": 6, "heads": 6, "kv_heads": 6, "head_dim": 64, "hidden": 1024},
    "M": {"width": 768, "layers": 12, "heads": 12, "kv_heads": 12, "head_dim": 64, "hidden": 2048},
}
IDS, PROMPT = 8192, 64
BYTES = {"f32": 4.0, "bf16": 2.0, "q8_0": 34 / 32}  # of a weight
Run = Callable[[int, int], float]  # rows and tokens to tokens a second


def make_vocabulary() -> Vocabulary:
    """8,192 ids, most of them codes."""
    pieces = Pieces.train(["a red ball falls"], 64)
    small = Vocabulary(pieces, codec_id="none", codebook_size=0, block_frames=4)
    return Vocabulary(pieces, codec_id="none", codebook_size=IDS - len(small), block_frames=4)


def pace(moments: list[float], rows: int) -> float:
    """Tokens a second from the first token on."""
    return rows * (len(moments) - 1) / (moments[-1] - moments[0])


def ours(decoder: Decoder, vocabulary: Vocabulary, name: str) -> Run:
    grammar, engine = Grammar(vocabulary), open_engine(name, decoder, vocabulary)
    greedy = Sampling(video=Draw(temperature=0.0))

    def run(rows: int, tokens: int) -> float:
        fmt = VideoFormat(16, 16, 4, Fraction(4), (), (tokens,))
        short = len(to_video(vocabulary, condition(vocabulary, "z"), fmt))
        words = "z" * (1 + PROMPT - short)  # a letter that no piece has is a token of its own
        prompts = [Prompt(to_video(vocabulary, condition(vocabulary, words), fmt))] * rows
        assert len(prompts[0].ids) == PROMPT
        decoder.engine, moments = engine, []
        continue_streams(
            decoder,
            grammar,
            prompts,
            sampling=greedy,
            num_items=1,
            progress=lambda _: moments.append(time.perf_counter()),
        )
        return pace(moments[:tokens], rows)

    return run


def theirs(decoder: Decoder, dtype: torch.dtype) -> Run:
    from transformers import Qwen3Config, Qwen3ForCausalLM
    from transformers.generation.streamers import BaseStreamer

    config = decoder.config
    model = Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=config.num_ids,
            hidden_size=config.width,
            intermediate_size=config.hidden,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            num_key_value_heads=config.kv_heads,
            head_dim=config.head_dim,
            max_position_embeddings=config.context,
            tie_word_embeddings=config.tied,
        )
    )
    model = model.to(dtype).eval()  # type: ignore[arg-type]

    class Clock(BaseStreamer):
        def __init__(self) -> None:
            self.moments: list[float] = []

        def put(self, value: Any) -> None:
            self.moments.append(time.perf_counter())

        def end(self) -> None:
            pass

    def run(rows: int, tokens: int) -> float:
        clock = Clock()
        ids = torch.randint(10, config.num_ids, (rows, PROMPT))
        model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=tokens,
            min_new_tokens=tokens,
            do_sample=False,
            pad_token_id=0,
            eos_token_id=1,
            streamer=clock,
        )
        return pace(clock.moments[1:], rows)  # the first is the prompt

    return run


def read_speed() -> float:
    """10^9 bytes a second that one thread reads of an array no cache holds."""
    array, best = torch.ones(2**28), 0.0
    for _ in range(3):
        start = time.perf_counter()
        array.sum()
        best = max(best, array.nbytes / (time.perf_counter() - start) / 1e9)
    return best


def measure(size: str, rows: list[int], tokens: int, repeats: int) -> None:
    vocabulary = make_vocabulary()
    config = DecoderConfig(
        num_ids=IDS,
        video_start=vocabulary.video_start,
        code_dim=0,
        num_slots=0,
        context=PROMPT + tokens + 64,
        tied=True,
        slot_embedding=False,
        **SIZES[size],
    )
    torch.manual_seed(0)
    decoder = Decoder(config).eval()
    engines: dict[str, tuple[Run, float]] = {
        "transformers f32": (theirs(decoder, torch.float32), 4.0),
        "transformers bf16": (theirs(decoder, torch.bfloat16), 2.0),
        "torch f32": (ours(decoder, vocabulary, "torch"), 4.0),
        "torch:bf16": (ours(decoder, vocabulary, "torch:bf16"), 2.0),
        "torch:int8": (ours(decoder, vocabulary, "torch:int8"), 1.0),
    }
    for weights, each in BYTES.items():
        name = f"llama.cpp:{weights}"
        engines[name] = ours(decoder, vocabulary, name), each
    print(f"\n{size}: {decoder.num_parameters / 1e6:.1f} M parameters")
    for count in rows:
        found: dict[str, list[float]] = {name: [] for name in engines}
        speeds = []
        for _ in range(repeats):
            speeds.append(read_speed())
            for name, (run, _) in engines.items():
                found[name].append(run(count, tokens))
        base = median(found["transformers f32"])
        print(f"rows {count}: memory read at {median(speeds):.1f} GB/s")
        for name, (_, each) in engines.items():
            middle = median(found[name])
            bound = median(speeds) * 1e9 / (each * decoder.num_parameters)
            share = f", {middle / bound:.0%} of the bound" if count == 1 else ""
            spread = f"{min(found[name]):.0f} to {max(found[name]):.0f}"
            print(f"  {name:18} {middle:7.0f} tokens/s ({spread}), {middle / base:.1f}x{share}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sizes", nargs="+", choices=sorted(SIZES), default=["S", "M"])
    parser.add_argument("--rows", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    torch.set_num_threads(1)
    print("load of the machine before: {:.1f} {:.1f} {:.1f}".format(*os.getloadavg()))
    for size in given.sizes:
        measure(size, given.rows, given.tokens, given.repeats)
    print("load after: {:.1f} {:.1f} {:.1f}".format(*os.getloadavg()))


if __name__ == "__main__":
    main()
