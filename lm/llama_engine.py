"""`LlamaEngine`: a decoder's weights run by llama.cpp, for streams to be written faster.

It holds a copy of the weights as they were when it was made. Knows ids and llama.cpp's interface
in C; knows no grammar and no sampling.

Shapes: B rows, V ids.
"""

from __future__ import annotations

import logging
import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lm.engine import Row
from lm.gguf_writing import Weights, write_gguf
from lm.model import Decoder
from lm.vocabulary import Vocabulary

MAX_ROWS = 256  # sequences that one context of llama.cpp can hold
AT_ONCE = 512  # tokens of prompts that pass the network together


class LlamaEngine:
    """Opens readings of streams in llama.cpp.

    Args:
        decoder: Its weights are copied; it is not used afterwards.
        vocabulary: Of the decoder.
        weights: How the copy stores them.
        threads: Threads to compute with; by default as many as torch has.

    Raises:
        ValueError: the decoder is outside Qwen3's layout, or the package is missing.
    """

    def __init__(
        self,
        decoder: Decoder,
        vocabulary: Vocabulary,
        weights: Weights = "f32",
        threads: int | None = None,
    ) -> None:
        self.lib = lib = _import_llama_cpp()
        self.num_ids, self.context = decoder.config.num_ids, decoder.config.context
        self.threads = threads or torch.get_num_threads()
        self.exact = weights == "f32"
        params = lib.llama_model_default_params()
        # Its AMX kernels fault as some compilers build them (llama.cpp's pull request 26954), and
        # set up the tile registers but once a thread, though torch uses them too.
        params.use_extra_bufts = False
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.gguf"
            write_gguf(decoder, vocabulary, path, weights)
            self.model = lib.llama_model_load_from_file(str(path).encode(), params)
        if not self.model:
            raise RuntimeError("llama.cpp could not read the weights it was given")
        weakref.finalize(self, lib.llama_model_free, self.model)

    def read(self, rows: Sequence[Row], room: int) -> LlamaReading:
        """Read prompts of any lengths.

        Args:
            rows: Ids of each prompt, and their slots, which this layout has no use for.
            room: Tokens that each row will still take.

        Raises:
            ValueError: more rows than llama.cpp can hold.
        """
        if len(rows) > MAX_ROWS:
            raise ValueError(f"{len(rows)} streams side by side: llama.cpp takes {MAX_ROWS}")
        return LlamaReading(self, [ids for ids, _ in rows], room)


class LlamaReading:
    """Streams in a context of llama.cpp: row i of B is its sequence `_sequences[i]`.

    Each sequence has a buffer of its own; those in use are always the first B, as llama.cpp
    computes only neighbours together.
    """

    def __init__(self, engine: LlamaEngine, prompts: Sequence[list[int]], room: int) -> None:
        self._engine, self._lib = engine, engine.lib
        lengths = [len(ids) for ids in prompts]
        self._context = self._open(len(prompts), max(lengths) + room, sum(lengths))
        self._memory = self._lib.llama_get_memory(self._context)
        self._sequences = np.arange(len(prompts))
        self._positions = np.array(lengths)  # where each row's next token goes
        self._logits = np.empty(0)
        self._batch = _Batch(self._lib, sum(lengths))
        last = np.cumsum(lengths) - 1
        self._batch.fill(
            np.concatenate([np.array(ids) for ids in prompts]),
            np.concatenate([np.arange(length) for length in lengths]),
            np.repeat(self._sequences, lengths),
            np.isin(np.arange(sum(lengths)), last),
        )
        self._decode()

    def _open(self, rows: int, length: int, num_tokens: int) -> Any:
        lib, params = self._lib, self._lib.llama_context_default_params()
        params.n_ctx = rows * -(-min(length, self._engine.context) // 256) * 256
        params.n_seq_max, params.n_batch = rows, max(num_tokens, rows)
        params.n_ubatch = min(params.n_batch, max(AT_ONCE, rows))
        params.n_threads = params.n_threads_batch = self._engine.threads
        if self._engine.exact:  # flash attention rounds to half precision, whatever the types
            params.flash_attn_type = lib.LLAMA_FLASH_ATTN_TYPE_DISABLED
            params.type_k = params.type_v = lib.GGML_TYPE_F32
        params.kv_unified = False
        context = lib.llama_init_from_model(self._engine.model, params)
        if not context:
            raise MemoryError(f"llama.cpp could not make room for {rows} streams of {length}")
        weakref.finalize(self, lib.llama_free, context)
        return context

    def scores(self, low: int, high: int) -> Tensor:
        """Scores of the ids in [low, high) as each row's next token, float32 (B, high - low)."""
        return torch.from_numpy(self._logits[:, low:high])

    def push(self, ids: list[int], slots: list[int]) -> None:
        """Read one more token of every row."""
        order = np.argsort(self._sequences)
        self._batch.fill(
            np.array(ids)[order],
            self._positions[order],
            self._sequences[order],
            np.ones(len(ids), bool),
        )
        self._decode()
        self._logits = self._logits[np.argsort(order)]
        self._positions = self._positions + 1

    def keep(self, rows: list[int]) -> None:
        """Go on with these rows alone."""
        lib, count = self._lib, len(rows)
        gone = set(self._sequences.tolist()) - set(self._sequences[rows].tolist())
        for sequence in gone:
            lib.llama_memory_seq_rm(self._memory, sequence, -1, -1)
        free = sorted(sequence for sequence in gone if sequence < count)
        self._sequences, self._positions = self._sequences[rows], self._positions[rows]
        for row in np.flatnonzero(self._sequences >= count):
            source, target = int(self._sequences[row]), free.pop()
            lib.llama_memory_seq_cp(self._memory, source, target, -1, -1)
            lib.llama_memory_seq_rm(self._memory, source, -1, -1)
            self._sequences[row] = target

    def _decode(self) -> None:
        code = self._lib.llama_decode(self._context, self._batch.struct)
        if code:
            raise RuntimeError(f"llama.cpp could not go on: llama_decode gave {code}")
        shape = (len(self._sequences), self._engine.num_ids)
        logits = np.ctypeslib.as_array(self._lib.llama_get_logits(self._context), shape)
        self._logits = logits.copy()  # the next step writes over them


class _Batch:
    """Tokens to be read in one call, in arrays that llama.cpp looks into."""

    def __init__(self, lib: ModuleType, capacity: int) -> None:
        self.struct = lib.llama_batch_init(capacity, 0, 1)
        weakref.finalize(self, lib.llama_batch_free, self.struct)
        self._tokens, self._positions, self._counts, self._outputs = (
            np.ctypeslib.as_array(pointer, (capacity,))
            for pointer in (
                self.struct.token,
                self.struct.pos,
                self.struct.n_seq_id,
                self.struct.logits,
            )
        )
        self._counts[:] = 1

    def fill(
        self, tokens: np.ndarray, positions: np.ndarray, sequences: np.ndarray, outputs: np.ndarray
    ) -> None:
        """One entry a token: id, position, sequence, and whether what follows is to be scored."""
        self.struct.n_tokens = count = len(tokens)
        self._tokens[:count], self._positions[:count] = tokens, positions
        self._outputs[:count] = outputs
        for i, sequence in enumerate(sequences.tolist()):
            self.struct.seq_id[i][0] = sequence


def _import_llama_cpp() -> ModuleType:
    try:
        import llama_cpp  # pyright: ignore
    except ModuleNotFoundError as error:
        raise ValueError(
            f"the engine llama.cpp needs {error.name}: pip install 'kinolex[engine]'"
        ) from error
    logging.getLogger("llama-cpp-python").setLevel(logging.CRITICAL)  # its WARNING comes as ERROR
    return llama_cpp
