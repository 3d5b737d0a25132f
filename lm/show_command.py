"""`kinolex lm show-sequence`: a video as the model reads it.

Knows files and how the stream is spelled.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lm.document import Document, Task, Text, Video
from lm.footage import Footage
from lm.sequence import describe, write
from lm.tasks import Model


@dataclass(frozen=True)
class ShownSequence:
    """A video as the model reads it."""

    video: str
    read_as: Footage  # length and size of what is read
    tokens_per_frame: float  # codes alone
    num_tokens: int  # of all that is shown
    text: str

    def __str__(self) -> str:
        head = f"{self.read_as}, {self.tokens_per_frame:.4g} tokens a frame"
        return f"{head}\n{self.text}\n({self.num_tokens} tokens)"


def show_sequence(
    video: Path,
    model: Path,
    caption: str | None = None,
    codes: int = 8,
    tokens_per_frame: float | None = None,
) -> ShownSequence:
    """Print a video as the model reads it: frames, seconds and size, then the stream.

    Example: kinolex lm show-sequence clip.mp4 --model runs/demo/model

    Args:
        video: A video, GIF, image or folder of images.
        model: Folder of a model.
        caption: A caption to stand before it.
        codes: Codes to show of each block.
        tokens_per_frame: Read at most so many; the rate the model was trained at if left out.
    """
    if codes < 0:
        raise ValueError(f"codes={codes}: give 0 or more")
    loaded = Model.load(model)
    seen = loaded.encode(video, tokens_per_frame)
    shown = Video(seen)
    first = Task("watch"), shown
    if caption is not None:
        first = Task("film"), Text("caption", caption), shown
    document = Document(first)
    sequence = write(document, loaded.vocabulary)
    return ShownSequence(
        str(video),
        Footage.of(seen.timestamps.tolist(), seen.height, seen.width),
        seen.tokens_per_frame,
        len(sequence),
        describe(sequence, loaded.vocabulary, codes),
    )
