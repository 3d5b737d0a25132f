"""Scoring: how likely a model finds each of several texts after a prompt, or captions of videos.

Where candidates share a prompt it is read once and its cache shared. Knows ids, not tasks.
"""

from __future__ import annotations

from collections.abc import Sequence as List

import torch
from torch import Tensor

from lm.batches import pad
from lm.cache import Cache
from lm.document import Document, Task, Text, Video
from lm.grammar import Grammar
from lm.loss import token_losses
from lm.model import Decoder
from lm.sampling import prefill, read_prompt
from lm.sequence import TEXT, write
from lm.vocabulary import Vocabulary
from tokenizer.tokens import VideoTokens

ROWS = 64  # pairs read side by side


@torch.inference_mode()
def score_texts(
    model: Decoder,
    grammar: Grammar,
    prompts: List[list[int]],
    candidates: List[str],
) -> tuple[Tensor, Tensor]:
    """Log-likelihood of candidate texts, each with its `<stop>`.

    Args:
        model: The decoder.
        grammar: Of its vocabulary.
        prompts: Ids of open streams that end in a role mark, such as `<label>`.
        candidates: What might follow.

    Returns:
        Natural-log likelihoods (prompts, candidates), and the candidates' lengths (candidates,)
        in tokens. Probabilities are among text tokens only.

    Raises:
        ValueError: a prompt and candidate do not fit the context.
    """
    vocabulary = grammar.vocabulary
    longest = max(len(vocabulary.encode_text(text)) + 1 for text in candidates)
    needed = max(len(ids) for ids in prompts) + longest
    if needed > model.config.context:
        raise ValueError(
            f"prompt and longest choice take {needed} tokens, {needed - model.config.context} "
            f"more than the context of {model.config.context}: give a shorter clip or text, or "
            "read the clip at fewer tokens a frame"
        )
    rows = [(ids, read_prompt(grammar, ids)[1]) for ids in prompts]
    cache, hidden = prefill(model, rows, room=longest)
    return score_next(model, vocabulary, cache, hidden, candidates)


@torch.inference_mode()
def score_next(
    model: Decoder, vocabulary: Vocabulary, cache: Cache, hidden: Tensor, candidates: List[str]
) -> tuple[Tensor, Tensor]:
    """`score_texts` after prompts that were read: `cache` holds them, with room for a candidate.

    hidden: (prompts, D), the states after their last tokens.
    """
    stop, count = vocabulary.special("<stop>"), len(candidates)
    spelled = [[*vocabulary.encode_text(text), stop] for text in candidates]
    longest = max(len(ids) for ids in spelled)
    copies = torch.arange(len(hidden)).repeat_interleave(count)
    cache = cache.select(copies)
    targets = torch.full((count, longest), stop)
    for i, ids in enumerate(spelled):
        targets[i, : len(ids)] = torch.tensor(ids)
    targets = targets.repeat(len(hidden), 1).to(hidden.device)  # (B, L)
    lengths = torch.tensor([len(ids) for ids in spelled], device=hidden.device)
    states = hidden[copies][:, None]  # (B, 1, D)
    if longest > 1:
        states = torch.cat([states, model(targets[:, :-1], cache=cache)], dim=1)
    text = torch.arange(vocabulary.text_start, vocabulary.video_start)
    ids = torch.cat([torch.tensor([stop]), text]).to(hidden.device)
    logits = model.logits(states, 0, vocabulary.video_start)[..., ids]
    columns = torch.where(targets == stop, 0, targets - vocabulary.text_start + 1)
    scores = logits.log_softmax(-1).gather(-1, columns[..., None])[..., 0]
    inside = torch.arange(longest, device=hidden.device) < lengths.repeat(len(hidden))[:, None]
    return (scores * inside).sum(-1).view(len(hidden), count), lengths


@torch.inference_mode()
def score_captions(
    model: Decoder, vocabulary: Vocabulary, videos: List[VideoTokens], captions: List[str]
) -> Tensor:
    """Log-likelihood of each caption after the video at the same place.

    Returns:
        float (pairs,), natural log, of the caption's pieces and its end.

    Raises:
        ValueError: a video and its caption do not fit the context.
    """
    scores: list[Tensor] = []
    for first in range(0, len(videos), ROWS):
        part = slice(first, first + ROWS)
        rows = [
            write(Document.of(Task("watch"), Video(video), Text("caption", caption)), vocabulary)
            for video, caption in zip(videos[part], captions[part], strict=True)
        ]
        longest = max(map(len, rows))
        if longest > model.config.context:
            raise ValueError(
                f"a video and its caption take {longest} tokens, {longest - model.config.context} "
                f"more than the context of {model.config.context}: give a shorter caption or clip"
            )
        batch = pad(rows, vocabulary).to(model.table.weight.device)
        hidden = model(batch.ids[:, :-1], slots=batch.slots[:, :-1])
        told = batch.modality[:, 1:] == TEXT
        each = torch.zeros_like(told, dtype=torch.float32)
        each[told] = -token_losses(model, hidden[told], batch.ids[:, 1:][told])[0]
        scores.append(each.sum(1))
    return torch.cat(scores)
