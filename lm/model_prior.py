"""`ModelPrior`: which codes a language model expects next in a token file, in whole numbers.

It reads a file's blocks as those of a clip that nothing is said about, in the model's own order
and format. Knows ids and the network. Knows no files and no coder.
"""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lm.cache import Cache
from lm.model import Decoder
from lm.prompting import condition, to_video
from lm.rope import rope_tables
from lm.sampling import prefill
from lm.tasks import Model
from lm.vocabulary import Vocabulary
from tokenizer.entropy import share_out
from tokenizer.identity import weights_hash
from tokenizer.ordering import BlockLayout
from tokenizer.priors import check_codebook, check_slots

RULE = 1  # the number of the rule below: another gives other frequencies
STEPS = 16  # of a probability, to each doubling
_OCTAVE = np.array([round(2 ** (30 + step / STEPS)) for step in range(STEPS)])


class ModelPrior:
    """What a language model expects, in the words of `tokenizer.entropy.Prior`.

    The network runs in float64 and its log-probabilities are rounded to sixteenths of a bit, which
    costs about 0.0001 bits a code. Sums that another processor, library or number of threads adds
    up in another order differ by some 1e-14: with 1000 codes less than one token in 1e9 then
    meets another side of a rounding, and token files notice when one does.

    Each block is foretold from the blocks before it in its group, as many as the model was trained
    to see before the last block of a clip. Where a block is longer than the model's context, the
    older half of what was read of it is forgotten whenever the context is full.

    Raises:
        ValueError: A codebook too large for priors, a context too short to hold a header, positions
            in seconds, or weights that are no numbers.
    """

    kind = "model"
    carries_over = True

    def __init__(self, model: Model) -> None:
        vocabulary, config = model.vocabulary, model.decoder.config
        check_codebook(vocabulary.codebook_size)
        if config.positions == "seconds":
            raise ValueError(
                "a language model with positions in seconds cannot foretell codes without end: use "
                "one trained with --model.sizes.positions stream"
            )
        self.codec_id = vocabulary.codec_id
        self.codebook_size = vocabulary.codebook_size
        self.layout: BlockLayout = model.codec.layout
        self._vocabulary, self._decoder = vocabulary, _in_double(model.decoder)
        with torch.inference_mode():
            self._table = self._decoder.output_table()
        if not all(weight.isfinite().all() for weight in self._decoder.parameters()):
            raise ValueError("the language model has weights that are no numbers: train it again")
        read = None if vocabulary.layout is None else vocabulary.layout.to_json()
        design = {
            "rule": RULE,
            "codec_id": self.codec_id,
            "decoder": config.to_json(),
            "presets": [fmt.to_json() for fmt in vocabulary.presets],
            "layout": read,
        }
        digest = weights_hash(model.decoder, json.dumps(design, sort_keys=True))
        self.name = f"model-{digest[:16]}"
        self._prompts = [_prompt(vocabulary, number) for number in range(len(vocabulary.presets))]
        if max(map(len, self._prompts)) + 2 > config.context:
            raise ValueError(
                f"a language model with a context of {config.context} tokens cannot foretell "
                "codes: use one with a longer context"
            )

    @classmethod
    def load(cls, path: Path | str) -> ModelPrior:
        """The prior of a saved model; errors are those of `Model.load`."""
        return cls(Model.load(path))

    def start(self, height: int, width: int) -> _ModelExpectation:
        check_slots(self.layout, height, width)
        return _ModelExpectation(self, height, width)

    def opening(self, height: int, width: int, count: int) -> tuple[list[int], int]:
        """The ids of a clip up to its first code, and how many blocks such clips have.

        Only formats that the model was trained on mean something to it: of those the nearest in
        size, then in tokens of a block, then the commonest.
        """

        def distance(number: int) -> tuple[int, int]:
            fmt = formats[number]
            far = abs(fmt.height - height) + abs(fmt.width - width)
            return far, abs(max(fmt.tokens_per_block) - count)

        formats = self._vocabulary.presets
        nearest = min(range(len(formats)), key=distance)
        return self._prompts[nearest], len(formats[nearest].tokens_per_block)

    def as_read(self, height: int, width: int, count: int) -> tuple[Tensor, Tensor]:
        """As `Vocabulary.as_read`."""
        return self._vocabulary.as_read(height, width, count)

    @property
    def context(self) -> int:
        return self._decoder.config.context

    @property
    def first_code(self) -> int:
        """The id of code 0."""
        return self._vocabulary.video_start

    @torch.inference_mode()
    def read(
        self, ids: list[int], slots: list[int], cache: Cache | None, room: int
    ) -> tuple[np.ndarray, Cache]:
        """Frequencies of what comes after ids, which follow those in the cache.

        Args:
            ids: One or more.
            slots: Their places.
            cache: What was read before; None: nothing.
            room: How many more are to come, where nothing was read.
        """
        with torch.autocast("cpu", enabled=False):  # a codec around us may run in bf16
            if cache is None:
                cache, hidden = prefill(self._decoder, [(ids, slots)], room)
            else:
                places = torch.tensor([slots])
                hidden = self._decoder(torch.tensor([ids]), slots=places, cache=cache)[:, -1]
            logits = self._decoder.logits(hidden[0], self.first_code, None, self._table)
        return to_frequencies(logits), cache


class _ModelExpectation:
    def __init__(self, prior: ModelPrior, height: int, width: int) -> None:
        self._prior, self._size = prior, (height, width)
        self._mark = prior.opening(height, width, 1)[0][-1]
        self._blocks: list[list[tuple[int, int]]] = []  # id and place of each code, by block

    def start_block(self, count: int) -> np.ndarray:
        prior = self._prior
        self._opening, length = prior.opening(*self._size, count)
        order, places = prior.as_read(*self._size, count)
        self._places = places.tolist()
        room = prior.context - len(self._opening) - count
        past = self._blocks = self._blocks[max(0, len(self._blocks) - length + 1) :]
        while past and sum(len(block) + 1 for block in past) > room:
            past = past[1:]
        self._row = [pair for block in past for pair in (*block, (self._mark, 0))]
        self._blocks.append([])
        self._frequencies: np.ndarray | None = None
        self._cache: Cache | None = None
        return order.numpy()

    def frequencies(self) -> np.ndarray:
        """Whoever asks at the same codes makes the network do the same sums."""
        if self._frequencies is None:
            opening, context = self._opening, self._prior.context
            if len(opening) + len(self._row) > context:
                self._row = self._row[-((context - len(opening)) // 2) :]
                self._cache = None
            unread = self._row[-1:]
            if self._cache is None:
                unread = [*((token, 0) for token in opening), *self._row]
            ids, slots = [token for token, _ in unread], [slot for _, slot in unread]
            room = len(self._places) - len(self._blocks[-1])
            self._frequencies, self._cache = self._prior.read(ids, slots, self._cache, room)
        return self._frequencies

    def see(self, code: int) -> None:
        block = self._blocks[-1]
        pair = code + self._prior.first_code, self._places[len(block)]
        block.append(pair)
        self._row.append(pair)
        self._frequencies = None


def to_frequencies(logits: Tensor) -> np.ndarray:
    """Whole numbers as `Expectation` wants them, in proportion to the rounded exponentials.

    Args:
        logits: float64 (n,), n < MAX_CODEBOOK.
    """
    steps = (logits * (STEPS / math.log(2))).round().to(torch.int64).numpy()
    octaves, within = np.divmod(steps - steps.max(), STEPS)
    bits = min(30, 38 - (len(steps) - 1).bit_length())  # of the likeliest: no sum exceeds 2**38
    return share_out(_OCTAVE[within] >> np.minimum(30 - bits - octaves, 62))


def _prompt(vocabulary: Vocabulary, number: int) -> list[int]:
    return to_video(vocabulary, condition(vocabulary, None), vocabulary.presets[number])


def _in_double(decoder: Decoder) -> Decoder:
    """A copy that counts in float64, its positions included, on the CPU."""
    twin = copy.deepcopy(decoder).to("cpu", torch.float64)
    twin.cos, twin.sin = rope_tables(decoder.config, torch.float64)
    return twin
