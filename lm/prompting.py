"""Prompts: the open streams that each task is asked with. Every layout here occurs in training.

Knows where items stand in a prompt. Knows neither model nor sampling.
"""

from __future__ import annotations

from lm.document import Nothing, Text
from lm.formats import VideoFormat
from lm.sequence import Span, join, video_span, write_header, write_item
from lm.vocabulary import Vocabulary
from tokenizer.tokens import VideoTokens


def about_video(
    vocabulary: Vocabulary, tokens: VideoTokens, role: str, question: str | None = None
) -> list[int]:
    """A video, a question if there is one, then the mark of what is to be said.

    Args:
        vocabulary: The id space.
        tokens: The video.
        role: `caption`, `answer` or `label`.
        question: What is asked before an answer.
    """
    spans = [video_span(tokens, vocabulary)]
    if question is not None:
        if not question.strip():
            raise ValueError("the question is empty: say what to ask about the video")
        spans.append(write_item(Text("question", question), vocabulary))
    ids = join(spans, vocabulary, end=False).ids.tolist()
    return [*ids, vocabulary.special(f"<{role}>")]


def condition(vocabulary: Vocabulary, prompt: str | None) -> Span:
    """What a video is to show: a caption, or nothing."""
    if prompt is None:
        return write_item(Nothing(), vocabulary)
    if not prompt.strip():
        raise ValueError("the prompt is empty: say what to show")
    return write_item(Text("caption", prompt), vocabulary)


def to_video(
    vocabulary: Vocabulary,
    shown: Span,
    fmt: VideoFormat,
    tokens: VideoTokens | None = None,
    keep: int = 0,
) -> list[int]:
    """A condition, then a video's header and the blocks it is to begin with.

    Args:
        vocabulary: The id space.
        shown: What `condition` wrote.
        fmt: Format of the video.
        tokens: Where the first blocks come from, its last `keep` ones.
        keep: How many.
    """
    ids = join([shown], vocabulary, end=False).ids.tolist()
    ids += [vocabulary.special("<video>"), *write_header(fmt, 0, vocabulary)]
    ids.append(vocabulary.special("<block>"))  # closes the header: it is not the model's to extend
    for block in tokens.codes[-keep:] if tokens is not None and keep else ():
        order, _ = vocabulary.as_read(fmt.height, fmt.width, len(block))
        codes = block[order] + vocabulary.video_start
        ids += [*codes.tolist(), vocabulary.special("<block>")]
    return ids
