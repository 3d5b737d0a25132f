"""Several codes of a block in one step of the decoder, foretold by its heads (`lm.heads`).

Each step draws the next token as ever, then codes after it, up to the block's end, from what the
heads foretell; the decoder reads them all in one pass. Drawn as they are (`exact` off), codes of a
step do not know each other. Exact, they are proposals that the pass then judges by rejection
sampling (arXiv 2211.17192): kept or drawn anew, so that films have the distribution that one by
one they would. Guidance is part of what is drawn, and judged. Knows ids and the grammar, no tasks.

Shapes: A streams, B rows (A for each branch of guidance), K codes foretold, V codes, D width.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as List

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from lm.drawing import Draw, Sampling, ranked
from lm.engine import Row
from lm.grammar import Grammar, State
from lm.guidance import combine
from lm.model import Decoder
from lm.sampling import OwnReading, Stream, draw_step
from lm.step import Step


def check(model: Decoder, parallel: int) -> None:
    """Raise ValueError if a decoder cannot draw so many codes in a step."""
    if model.engine is not None:
        raise ValueError(
            f"parallel={parallel} with an engine: only torch's has heads, leave it out"
        )
    if model.places is not None:
        raise ValueError(f"parallel={parallel}: not with positions in seconds, leave it out")
    if parallel > model.config.ahead:
        raise ValueError(
            f"parallel={parallel}: this model foretells {model.config.ahead} codes a step: give no "
            f"more, or train it with --model.sizes.ahead {parallel}"
        )


class Drafts(OwnReading):
    """Rows of which several tokens are read at a time, some of which may then be taken back."""

    def __init__(self, model: Decoder, rows: List[Row], room: int, most: int) -> None:
        super().__init__(model, rows, room, spare=most)
        self._model = model
        self._before = self._cache.lengths

    def code_scores(self, states: Tensor) -> Tensor:
        """Scores (B, K, V) of codes after states (B, K, D)."""
        config = self._model.config
        scores = self._step.scores(states.flatten(0, 1), config.video_start, config.num_ids)
        return scores.float().unflatten(0, states.shape[:2])

    def foretell(self, count: int) -> Tensor:
        """Scores (B, count, V) of the codes after the next token."""
        assert self._model.ahead is not None
        return self.code_scores(self._model.ahead(self._hidden)[:, :count])

    def read(self, ids: list[list[int]], slots: list[list[int]]) -> Tensor:
        """States (B, most tokens, D) after each token of every row; `rest` must follow."""
        self._before = self._cache.lengths
        if all(len(row) == 1 for row in ids):
            self.push([row[0] for row in ids], [row[0] for row in slots])
            return self._hidden[:, None]
        device = self._hidden.device
        tokens, places = (
            pad_sequence([torch.tensor(row) for row in rows], batch_first=True).to(device)
            for rows in (ids, slots)
        )
        assert isinstance(self._step, Step), "heads are not had with positions in seconds"
        return self._step.read_several(tokens, places, self._cache)

    def rest(self, states: Tensor, counts: list[int]) -> None:
        """Of what was read last, let each row keep its first so many tokens."""
        kept = torch.tensor(counts, device=states.device)
        self._cache.trim(self._before + kept)
        self._hidden = states[torch.arange(len(states), device=states.device), kept - 1]


def run_streams(
    model: Decoder,
    grammar: Grammar,
    streams: list[Stream],
    rows: List[Row],
    branches: int,
    room: int,
    sampling: Sampling,
    progress: Callable[[int], None] | None,
) -> list[State]:
    """What `continue_streams` does, `sampling.parallel` codes a step.

    Args:
        model: The decoder, with heads.
        grammar: Of its vocabulary.
        streams: Open, one for each prompt.
        rows: Ids and slots of the prompts, then of their twins.
        branches: Rows of each stream.
        room: Tokens that each row will still take.
        sampling: How to draw.
        progress: Called after each step with the number of tokens drawn in it.

    Raises:
        ValueError: the model foretells fewer codes, or an engine is to write.
    """
    check(model, sampling.parallel)
    reading = Drafts(model, rows, room, sampling.parallel)
    active = streams
    judged: list[int | None] = [None] * len(streams)
    while True:
        count, coded = len(active), [stream.state.mode == "codes" for stream in active]
        slots = [[stream.state.place] for stream in active]
        tokens = [[token] for token in _next(reading, grammar, active, judged, sampling, branches)]
        keep = [i for i, stream in enumerate(active) if not stream.finished]
        if keep:
            if len(keep) < count:
                reading.keep([i + k * count for k in range(branches) for i in keep])
            active, coded = [active[i] for i in keep], [coded[i] for i in keep]
            tokens, slots = [tokens[i] for i in keep], [slots[i] for i in keep]
            for stream, places, after_code in zip(active, slots, coded, strict=True):
                places += stream.state.places(sampling.parallel - 1) if after_code else []
            judged = _step(reading, active, tokens, slots, sampling, branches)
            count += sum(len(row) - 1 for row in tokens)
        if progress is not None:
            progress(count)
        if not keep:
            return [stream.state for stream in streams]


def _next(
    reading: Drafts,
    grammar: Grammar,
    active: list[Stream],
    judged: list[int | None],
    sampling: Sampling,
    branches: int,
) -> list[int]:
    """Draw and take the next token of every stream, or the one that judging has drawn."""
    free = [i for i, token in enumerate(judged) if token is None]
    rows = [i + k * len(active) for k in range(branches) for i in free]
    tokens = [0 if token is None else token for token in judged]
    for stream, token in zip(active, judged, strict=True):
        if token is not None:
            _take(stream, [token])
    if free:
        drawn, _ = draw_step(
            lambda low, high: reading.scores(low, high)[rows],
            grammar,
            [active[i] for i in free],
            sampling,
            branches,
        )
        for i, token in zip(free, drawn, strict=True):
            tokens[i] = token
    return tokens


def _step(
    reading: Drafts,
    active: list[Stream],
    tokens: list[list[int]],
    slots: list[list[int]],
    sampling: Sampling,
    branches: int,
) -> list[int | None]:
    """Add foretold codes to each stream's next token, as many as it has slots, and read them all.

    Those that are judged wrong are taken out again. Gives back, for each stream, the code that
    judging drew in place of the first of them.
    """
    counts = torch.tensor([len(row) - 1 for row in slots])
    most = int(counts.max())
    judged: list[int | None] = [None] * len(active)
    if not most:
        states = reading.read(tokens * branches, slots * branches)
        reading.rest(states, [1] * len(states))
        return judged
    scores = reading.foretell(most)
    lucks = torch.stack([_lucks(stream, most) for stream in active], 1).to(scores.device)
    foretold = _chances(scores, sampling, branches)
    drawn = pick(foretold, lucks[0])  # (A, K)
    start = active[0].state.grammar.vocabulary.video_start
    for row, places, codes in zip(tokens, slots, (drawn + start).tolist(), strict=True):
        row += codes[: len(places) - 1]
    states = reading.read(tokens * branches, slots * branches)
    if sampling.exact:
        truth = _chances(reading.code_scores(states[:, :most]), sampling, branches)
        counts = counts.to(scores.device)
        kept, anew = judge(drawn, foretold, truth, counts, lucks[1], lucks[2])
        for i, (row, good) in enumerate(zip(tokens, kept.tolist(), strict=True)):
            if good < len(row) - 1:
                judged[i] = int(anew[i]) + start
                del row[1 + good :]
    for stream, row in zip(active, tokens, strict=True):
        _take(stream, row[1:])
    reading.rest(states, [len(row) for row in tokens] * branches)
    return judged


def _take(stream: Stream, tokens: List[int]) -> None:
    for token in tokens:
        stream.state.take(token)
        stream.drawn += 1


def _lucks(stream: Stream, count: int) -> Tensor:
    """Three uniform numbers for each of the next tokens, (3, count).

    A token's are its own, whichever step comes to judge it: to be proposed, kept, and replaced. A
    proposal that is dropped unjudged has told nothing of them, so they are as good as new.
    """
    last = len(stream.luck) - 1
    places = torch.arange(stream.drawn, stream.drawn + count).clamp(max=last)
    return torch.cat([stream.luck[None, places], stream.spare[:, places]])


def _chances(scores: Tensor, sampling: Sampling, branches: int) -> Tensor:
    """Guided chances (A, K, V) of codes, of scores (B, K, V)."""
    parts = scores.split(len(scores) // branches)
    scores = parts[0]
    if branches > 1:
        scale = torch.tensor(sampling.guidance, device=scores.device)
        scores = combine(parts, scale, sampling.context_guidance, sampling.rescale)
    return chances(scores.flatten(0, 1), sampling.video).unflatten(0, scores.shape[:2])


def chances(logits: Tensor, rule: Draw) -> Tensor:
    """With what probability each code is drawn by a rule, float64 (M, V), of logits (M, V)."""
    if rule.temperature == 0:
        return F.one_hot(logits.argmax(-1), logits.shape[-1]).double()
    if not rule.top_k and rule.top_p == 1:  # nothing that wants an order
        p = (logits / rule.temperature).double().softmax(-1)
        p = p.masked_fill_(p < rule.min_p * p.amax(-1, keepdim=True), 0.0)
        return p / p.sum(-1, keepdim=True)
    p, order = ranked(logits, [rule] * len(logits))
    found = logits.new_zeros(logits.shape, dtype=p.dtype)
    return found.scatter_(-1, order, p / p.sum(-1, keepdim=True))


def pick(p: Tensor, luck: Tensor) -> Tensor:
    """A column for each row: p (..., V), of any sum; luck float64 (...) in [0, 1)."""
    mass = p.cumsum(-1)
    place = (mass <= luck[..., None] * mass[..., -1:]).sum(-1)
    last = p.shape[-1] - 1 - (p > 0).flip(-1).long().argmax(-1)  # where rounding goes beyond
    return torch.minimum(place, last)


def judge(
    drawn: Tensor, foretold: Tensor, truth: Tensor, counts: Tensor, luck: Tensor, again: Tensor
) -> tuple[Tensor, Tensor]:
    """Rejection sampling of proposals, in order: the first that fails takes the later ones along.

    Args:
        drawn: Proposals, int64 (A, K).
        foretold: What they were drawn from, (A, K, V).
        truth: What they are to be drawn from, given those before, (A, K, V).
        counts: How many proposals of each stream there are, int64 (A,).
        luck: Says which are kept, float64 (A, K).
        again: Says what stands in place of one that is not, float64 (A, K).

    Returns:
        How many are kept, int64 (A,), and what stands in place of the next one, if there is one.
    """
    chance, was = (x.gather(-1, drawn[..., None])[..., 0] for x in (truth, foretold))
    asked = torch.arange(drawn.shape[1], device=drawn.device) < counts[:, None]
    kept = (asked & (luck * was < chance)).long().cumprod(-1).sum(-1)
    rows = torch.arange(len(drawn), device=drawn.device)
    place = kept.clamp(max=drawn.shape[1] - 1)
    missing = (truth - foretold)[rows, place].clamp(min=0)
    return kept, pick(missing, again[rows, place])
