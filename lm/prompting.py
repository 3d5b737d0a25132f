"""Prompts: the open streams that each task is asked with, laid out as training documents are.

Knows where items stand in a prompt. Knows neither model nor sampling.
"""

from __future__ import annotations

from collections.abc import Sequence

from lm.document import Item, Nothing, Task, Text, Video
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
    asked = () if question is None else (ask_of(question),)
    return watching(vocabulary, tokens, *asked, mark=f"<{role}>")


def watching(
    vocabulary: Vocabulary, tokens: VideoTokens, *asked: Item, mark: str | None
) -> list[int]:
    """A video, what is asked of it, and the mark that opens what is to be said (None: open)."""
    return opened(vocabulary, [Task("watch"), Video(tokens), *asked], mark)


def opened(vocabulary: Vocabulary, items: Sequence[Item], mark: str | None) -> list[int]:
    """Items, then the mark that opens the next."""
    spans = [write_item(item, vocabulary) for item in items]
    ids = join(spans, vocabulary, end=False).ids.tolist()
    return ids if mark is None else [*ids, vocabulary.special(mark)]


def ask_of(question: str) -> Text:
    """A question as an item."""
    if not question.strip():
        raise ValueError("the question is empty: say what to ask about the video")
    return Text("question", question)


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
    stills: Sequence[VideoTokens] | None = None,
) -> list[int]:
    """A condition, then a video's header and the blocks it is to begin with.

    Args:
        vocabulary: The id space.
        shown: What `condition` wrote.
        fmt: Format of the video.
        tokens: Where the first blocks come from, its last `keep` ones.
        keep: How many.
        stills: Frames to fill in between, each a video of one frame; None: the task is to film.
    """
    task = write_item(Task("film" if stills is None else "fill"), vocabulary)
    spans = [task, shown, *(video_span(still, vocabulary) for still in stills or ())]
    ids = join(spans, vocabulary, end=False).ids.tolist()
    ids += [vocabulary.special("<video>"), *write_header(fmt, 0, vocabulary)]
    ids.append(vocabulary.special("<block>"))  # closes the header: it is not the model's to extend
    for block in tokens.codes[-keep:] if tokens is not None and keep else ():
        order, _ = vocabulary.as_read(fmt.height, fmt.width, len(block))
        codes = block[order] + vocabulary.video_start
        ids += [*codes.tolist(), vocabulary.special("<block>")]
    return ids
