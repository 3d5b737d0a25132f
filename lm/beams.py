"""Beam search: the likeliest texts after prompts, where greedy choice is too short-sighted.

Among several wordings of one thing the likeliest next word is that of the commonest beginning, not
of the best text. Knows ids and the grammar, not tasks. Always runs in torch.

Shapes: K beams, V ids looked at.
"""

from __future__ import annotations

from collections.abc import Sequence as List
from dataclasses import dataclass

import torch
from torch import Tensor

from lm.document import Text
from lm.grammar import Grammar, Ranges, State
from lm.model import Decoder
from lm.sampling import OwnReading, read_prompt

MAX_BEAMS = 64
LENGTH_POWER = 0.6


def check_beams(
    beams: int, *, choices: bool = False, long: str | None = None, engine: bool = False
) -> None:
    """Raise ValueError unless an answer may be looked for by so many beams.

    Args:
        beams: How many.
        choices: Whether it is one of several that are given.
        long: How a long video is read.
        engine: Whether an engine is to write.
    """
    if not 1 <= beams <= MAX_BEAMS:
        raise ValueError(f"beams={beams}: give 1 (greedy) to {MAX_BEAMS}")
    if beams > 1 and (choices or long is not None or engine):
        raise ValueError(
            f"beams={beams} goes with neither choices, long nor an engine: leave it or them out"
        )


@dataclass(frozen=True)
class Beam:
    """A text with how likely it is."""

    text: str
    log_likelihood: float  # natural log, of its tokens and its end, among what the grammar allows
    tokens: int  # its end included

    def score(self, length_power: float) -> float:
        """What beams are ranked by: the likelihood over a power of the length."""
        return self.log_likelihood / self.tokens**length_power


@dataclass
class _Open:
    """A text that goes on."""

    state: State
    log_likelihood: float
    tokens: int


class _Search:
    """The search after one prompt: the K likeliest beginnings, until K texts have ended."""

    def __init__(self, state: State, beams: int, room: int) -> None:
        assert state.mode == "text"
        self.beams, self.room, self.number = beams, room, len(state.items)
        self.alive, self.done = [_Open(state, 0.0, 0)], list[Beam]()

    def allowed(self) -> list[Ranges]:
        """What may follow each open text; each of them ends within the room."""
        return [beam.state.allowed(self.room - beam.tokens, close=0) for beam in self.alive]

    def take(self, scores: Tensor, low: int) -> list[tuple[int, int]]:
        """Go on by a token.

        Args:
            scores: Log-likelihoods of the ids from `low` on after each open text, (open texts, V).
            low: The first id.

        Returns:
            Of the texts that are open now: which one each goes on from, and the token.
        """
        before = torch.tensor([beam.log_likelihood for beam in self.alive], dtype=torch.float64)
        total = (before.to(scores.device)[:, None] + scores).flatten()
        best = total.topk(min(2 * self.beams, len(total)))
        chosen: list[tuple[int, int]] = []
        grown: list[_Open] = []
        pairs = zip(best.values.tolist(), best.indices.tolist(), strict=True)
        for rank, (value, place) in enumerate(pairs):
            row, token = place // scores.shape[1], place % scores.shape[1] + low
            if value == -torch.inf or len(grown) == self.beams:
                break
            state = self.alive[row].state.copy()
            state.take(token)
            longer = _Open(state, value, self.alive[row].tokens + 1)
            if len(state.items) == self.number:
                chosen.append((row, token))
                grown.append(longer)
            elif rank < self.beams:  # a text that ends below the best K is none of them
                item = state.items[-1]
                assert isinstance(item, Text)
                self.done.append(Beam(item.text, value, longer.tokens))
        if len(self.done) >= self.beams:
            chosen, grown = [], []
        self.alive = grown
        return chosen


@torch.inference_mode()
def beam_texts(
    model: Decoder,
    grammar: Grammar,
    prompts: List[list[int]],
    beams: int,
    max_new: int,
    length_power: float = LENGTH_POWER,
) -> list[list[Beam]]:
    """The best texts found after each prompt, the best first; a search ends with K texts ended.

    The greedy text is always looked at, too: among wordings that begin alike its beginning may
    fall behind K others, and yet it may be the best of all.

    Args:
        model: The decoder.
        grammar: Of its vocabulary.
        prompts: Open streams that end in a role's mark.
        beams: K: texts kept at each step; 1 is greedy.
        max_new: Most tokens of a text.
        length_power: 0 prefers short texts, 1 compares means a token (arXiv 1609.08144 has .6).

    Raises:
        ValueError: a number of beams out of range, or a prompt that leaves no room for a text.
    """
    check_beams(beams)
    if not prompts:
        return []
    states, slots = zip(*(read_prompt(grammar, prompt) for prompt in prompts), strict=True)
    room = [min(max_new, model.config.context - len(prompt)) for prompt in prompts]
    for prompt, left in zip(prompts, room, strict=True):
        if left < 1:
            raise ValueError(
                f"the prompt takes {len(prompt)} tokens, with the shortest text {1 - left} more "
                f"than the context of {model.config.context}: shorten it, give a shorter clip, or "
                "read it at fewer tokens a frame"
            )
    widths = [1] if beams == 1 else [beams, 1]
    searches = [
        [_Search(state.copy(), width, left) for width in widths]
        for state, left in zip(states, room, strict=True)
    ]
    reading = OwnReading(model, list(zip(prompts, slots, strict=True)), room=max(room))
    if len(widths) > 1:
        reading.keep([i for i in range(len(prompts)) for _ in widths])
    _run(reading, grammar, [search for each in searches for search in each])
    return [
        _ranked([beam for search in each for beam in search.done], beams, length_power)
        for each in searches
    ]


def _run(reading: OwnReading, grammar: Grammar, searches: list[_Search]) -> None:
    """Search side by side; the open texts of all of them are the rows of the reading."""
    while searches:
        ranges = [allowed for search in searches for allowed in search.allowed()]
        low = min(r[0][0] for r in ranges)
        high = max(r[-1][1] for r in ranges)
        logits = reading.scores(low, high).double()  # (open texts, V)
        mask = torch.stack([grammar.mask(r)[low:high] for r in ranges]).to(logits.device)
        scores = logits.masked_fill(~mask, -torch.inf).log_softmax(-1)
        rows: list[int] = []
        tokens: list[int] = []
        first = 0
        for search in searches:
            count = len(search.alive)
            for row, token in search.take(scores[first : first + count], low):
                rows.append(first + row)
                tokens.append(token)
            first += count
        searches = [search for search in searches if search.alive]
        if searches:
            if rows != list(range(first)):  # a cache is copied for it
                reading.keep(rows)
            reading.push(tokens, [0] * len(tokens))


def _ranked(found: List[Beam], beams: int, length_power: float) -> list[Beam]:
    """The best beams; of two that spell one text in different pieces the better."""
    best: dict[str, Beam] = {}
    for beam in sorted(found, key=lambda beam: -beam.score(length_power)):
        best.setdefault(beam.text, beam)
    return list(best.values())[:beams]
