"""Engines: what computes the scores of next tokens while streams are written.

torch runs the decoder itself (lm/sampling.py); llama.cpp runs a copy of its weights
(lm/llama_engine.py). This module knows their names and what they have in common.

Shapes: B rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from torch import Tensor

if TYPE_CHECKING:
    from lm.model import Decoder
    from lm.vocabulary import Vocabulary

Row = tuple[list[int], list[int]]  # ids of a stream and the slot of each


class Reading(Protocol):
    """Rows of streams that have been read, each at its own length."""

    def scores(self, low: int, high: int) -> Tensor:
        """Scores of the ids in [low, high) as each row's next token, float32 (B, high - low)."""
        ...

    def push(self, ids: list[int], slots: list[int]) -> None:
        """Read one more token of every row."""
        ...

    def keep(self, rows: list[int]) -> None:
        """Go on with these rows alone, in ascending order."""
        ...


class Engine(Protocol):
    """Reads streams with the weights it holds."""

    def read(self, rows: Sequence[Row], room: int) -> Reading:
        """Read prompts of any lengths, each of which will still take `room` tokens."""
        ...


def open_engine(name: str, decoder: Decoder, vocabulary: Vocabulary) -> Engine | None:
    """The engine of a name: `torch` (None: the decoder itself), `torch:bf16` or `llama.cpp`.

    `torch:bf16` and `torch:int8` read single tokens with weights in such numbers. `llama.cpp:q8_0`
    (or bf16, f16) copies the weights as such numbers; they are float32 otherwise.

    Raises:
        ValueError: there is no such engine, its package is missing, or it cannot run this decoder.
    """
    from lm.gguf_writing import WEIGHTS

    if name == "torch":
        return None
    if decoder.config.positions == "seconds":
        raise ValueError(f"engine={name!r} knows no positions in seconds: give torch")
    kind, _, weights = name.partition(":")
    if kind == "torch" and weights in ("bf16", "int8"):
        from lm.quantized import ShortEngine

        return ShortEngine(decoder, weights)
    if kind != "llama.cpp" or (weights or "f32") not in WEIGHTS:
        choices = ", ".join(f"llama.cpp:{each}" for each in WEIGHTS)
        raise ValueError(
            f"engine={name!r}: give torch, torch:bf16, torch:int8, llama.cpp or one of {choices}"
        )
    from lm.llama_engine import LlamaEngine

    return LlamaEngine(decoder, vocabulary, weights or "f32")  # type: ignore[arg-type]
