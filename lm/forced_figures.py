"""Teacher-forced figures: what a model says where every token before is the true one.

Of a caption after its video, and of a video after its caption, the likeliest token is taken at each
place; what they spell is judged as what the model writes by itself is, so that the distance between
both figures is what its own mistakes cost it. The text so spelled has as many pieces as the true
one. Knows the tasks' documents and the judges. Knows no sampling.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from data.clip import Clip
from lm.batches import pad
from lm.document import Document, Item, Task, Text, Video
from lm.judging import Tally, judge_caption, judge_film
from lm.loss import learned_states
from lm.sequence import TEXT, VIDEO, write
from tokenizer.tokens import VideoTokens

if TYPE_CHECKING:
    from lm.tasks import Model


@torch.inference_mode()
def forced_caption(model: Model, video: VideoTokens, caption: str) -> str:
    """The likeliest piece at each place of the caption, all before it being true."""
    hidden = _states(model, (Task("watch"), Video(video), Text("caption", caption)), TEXT)
    pieces = model.decoder.logits(hidden, 0, model.decoder.config.video_start)
    first, stop = model.vocabulary.text_start, model.vocabulary.special("<stop>")
    ends = pieces[:, stop] > pieces[:, first:].amax(-1)
    ids = pieces[:, first:].argmax(-1) + first
    return model.vocabulary.decode_text(ids[~ends].tolist())


@torch.inference_mode()
def forced_video(model: Model, video: VideoTokens, caption: str) -> VideoTokens:
    """The likeliest code at each place of the video after its caption, all before being true."""
    hidden = _states(model, (Task("film"), Text("caption", caption), Video(video)), VIDEO)
    config = model.decoder.config
    said = model.decoder.logits(hidden, config.video_start, config.num_ids).argmax(-1)
    blocks = []
    for read in said.split([len(block) for block in video.codes]):
        order, _ = model.vocabulary.as_read(video.height, video.width, len(read))
        blocks.append(read[order.argsort()])
    return replace(video, codes=tuple(blocks))


def judge_forced(
    model: Model, clips: Sequence[Clip], tokens: Sequence[VideoTokens], films: int, tally: Tally
) -> None:
    """Count `caption_forced/...` of clips with captions and, of the first `films` of them,
    `generation_forced/...`."""
    told = [(clip, seen) for clip, seen in zip(clips, tokens, strict=True) if clip.captions]
    for clip, seen in told:
        judge_caption(forced_caption(model, seen, clip.caption), clip, tally, "caption_forced")
    shown = told[:films]
    guessed = [forced_video(model, seen, clip.caption) for clip, seen in shown]
    for film, (clip, _) in zip(model.codec.decode_batch(guessed), shown, strict=True):
        judge_film(film.frames, clip.caption, tally, "generation_forced")


def _states(model: Model, items: Sequence[Item], modality: int) -> Tensor:
    """States before the tokens of a modality of the last item, (N, D)."""
    row = write(Document.of(*items), model.vocabulary, weights=[0.0] * (len(items) - 1) + [1.0])
    hidden, _, kinds, _ = learned_states(model.decoder, pad([row], model.vocabulary))
    return hidden[kinds == modality]
