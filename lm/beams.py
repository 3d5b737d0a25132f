"""Beam search: the likeliest texts after a prompt, where greedy choice is too short-sighted.

Knows ids and the grammar, not tasks. Always runs in torch.

Shapes: K beams, V ids looked at.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from lm.document import Text
from lm.grammar import Grammar, State
from lm.model import Decoder
from lm.sampling import prefill, read_prompt

MAX_BEAMS = 64


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


@torch.inference_mode()
def beam_texts(
    model: Decoder,
    grammar: Grammar,
    prompt: list[int],
    beams: int,
    max_new: int,
    length_power: float = 0.6,
) -> list[Beam]:
    """The best texts found, the best first; the search ends with K texts ended.

    The greedy text is always looked at, too: among wordings that begin alike its beginning may
    fall behind K others, and yet it may be the best of all.

    Args:
        model: The decoder.
        grammar: Of its vocabulary.
        prompt: An open stream that ends in a role's mark.
        beams: K: texts kept at each step; 1 is greedy.
        max_new: Most tokens of a text.
        length_power: 0 prefers short texts, 1 compares means a token (arXiv 1609.08144 has .6).

    Raises:
        ValueError: a number of beams out of range, or a prompt that leaves no room for a text.
    """
    if not 1 <= beams <= MAX_BEAMS:
        raise ValueError(f"beams={beams}: give 1 (greedy) to {MAX_BEAMS}")
    room = min(max_new, model.config.context - len(prompt))
    if room < 1:
        raise ValueError(
            f"the prompt takes {len(prompt)} tokens and leaves no room for a text in a context of "
            f"{model.config.context}: shorten it, or give a shorter clip"
        )
    found = _search(model, grammar, prompt, beams, room)
    if beams > 1:
        (greedy,) = _search(model, grammar, prompt, 1, room)
        if greedy.text not in [beam.text for beam in found]:
            found.append(greedy)
    return sorted(found, key=lambda beam: -beam.score(length_power))[:beams]


def _search(
    model: Decoder, grammar: Grammar, prompt: list[int], beams: int, room: int
) -> list[Beam]:
    """The first K texts that end among the K likeliest beginnings, in any order."""
    state, slots = read_prompt(grammar, prompt)
    assert state.mode == "text"
    number, table = len(state.items), model.output_table()
    cache, hidden = prefill(model, [(prompt, slots)], room=room)
    alive, done = [_Open(state, 0.0, 0)], list[Beam]()
    while True:
        ranges = [beam.state.allowed(room - beam.tokens, close=0) for beam in alive]
        low, high = min(r[0][0] for r in ranges), max(r[-1][1] for r in ranges)
        logits = model.logits(hidden, low, high, table).double()
        masks = torch.stack([grammar.mask(r)[low:high] for r in ranges]).to(logits.device)
        scores = logits.masked_fill(~masks, -torch.inf).log_softmax(-1)
        before = torch.tensor([b.log_likelihood for b in alive], dtype=torch.float64)
        total = (before.to(scores.device)[:, None] + scores).flatten()
        best = total.topk(min(2 * beams, len(total)))
        chosen: list[tuple[int, int]] = []
        grown: list[_Open] = []
        pairs = zip(best.values.tolist(), best.indices.tolist(), strict=True)
        for rank, (value, place) in enumerate(pairs):
            row, token = place // (high - low), place % (high - low) + low
            if value == -torch.inf or len(grown) == beams:
                break
            state = alive[row].state.copy()
            state.take(token)
            longer = _Open(state, value, alive[row].tokens + 1)
            if len(state.items) == number:
                chosen.append((row, token))
                grown.append(longer)
            elif rank < beams:  # a text that ends below the best K is none of them
                item = state.items[-1]
                assert isinstance(item, Text)
                done.append(Beam(item.text, value, longer.tokens))
        if not grown or len(done) >= beams:
            return done
        rows = torch.tensor([row for row, _ in chosen], device=hidden.device)
        cache = cache.select(rows)
        ids = torch.tensor([[token] for _, token in chosen], device=hidden.device)
        hidden, alive = model(ids, cache=cache)[:, -1], grown
