"""Teacher-forced films: what a model shows where every code before is the true one.

The likeliest code at each place of a clip after its caption makes a film, judged as those are that
the model writes by itself, so that the distance between both is what its own mistakes cost it.
Captions have no such figure: what a model would have worded otherwise is no mistake; their
teacher-forced cost is `likelihoods`'. Knows documents and judges. Knows no sampling.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from data.clip import Clip
from lm.batches import pad
from lm.document import Document, Task, Text, Video
from lm.judging import Tally, judge_film
from lm.loss import learned_states
from lm.sequence import VIDEO, write
from tokenizer.tokens import VideoTokens

if TYPE_CHECKING:
    from lm.tasks import Model


@torch.inference_mode()
def forced_video(model: Model, video: VideoTokens, caption: str) -> VideoTokens:
    """The likeliest code at each place of the video after its caption, all before being true."""
    items = Task("film"), Text("caption", caption), Video(video)
    row = write(Document.of(*items), model.vocabulary, weights=[0.0, 0.0, 1.0])
    hidden, _, kinds, _ = learned_states(model.decoder, pad([row], model.vocabulary))
    config = model.decoder.config
    logits = model.decoder.logits(hidden[kinds == VIDEO], config.video_start, config.num_ids)
    said = logits.argmax(-1)
    blocks = []
    for read in said.split([len(block) for block in video.codes]):
        order, _ = model.vocabulary.as_read(video.height, video.width, len(read))
        blocks.append(read[order.argsort()])
    return replace(video, codes=tuple(blocks))


def judge_forced(
    model: Model, clips: Sequence[Clip], tokens: Sequence[VideoTokens], tally: Tally
) -> None:
    """Count `generation_forced/...` of clips with captions."""
    told = [(clip, seen) for clip, seen in zip(clips, tokens, strict=True) if clip.captions]
    guessed = [forced_video(model, seen, clip.caption) for clip, seen in told]
    for film, (clip, _) in zip(model.codec.decode_batch(guessed), told, strict=True):
        judge_film(film.frames, clip.caption, tally, "generation_forced")
