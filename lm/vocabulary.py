"""The one id space of the stream: specials, then text pieces, then video codes.

Knows ids and what they stand for, the codec they belong to and the video formats that have a
token of their own. Does not know what may follow what (grammar.py) nor how codes become pixels.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from data.atomic import write_atomically
from lm.formats import VideoFormat
from lm.kept_pieces import KeptPieces, open_pieces
from lm.pieces import Pieces
from tokenizer.ordering import BlockLayout

GRAMMAR_VERSION = 3
_NOT_JSON = (json.JSONDecodeError, UnicodeDecodeError)
ROLES = ("caption", "question", "answer", "label", "event", "text")
TASKS = ("watch", "film", "fill", "talk")
SPECIALS = (
    "<pad>",
    "<begin>",
    "<end>",
    *(f"<{task}>" for task in TASKS),
    *(f"<{role}>" for role in ROLES),
    "<stop>",
    "<nothing>",
    "<video>",
    "</video>",
    "<block>",
    "<size>",
    "<frames>",
    "<fps>",
    "<times>",
    "<tokens>",
    "<rate>",
    "<start>",
    "<,>",
    "<at>",
    "<for>",
    "<.>",
    *(f"<{digit}>" for digit in range(10)),
)


class Vocabulary:
    """Ids of everything that can stand in a stream.

    Special tokens have no spelling in the piece model, so the text `<video>` in a prompt is
    plain text and never control.
    """

    def __init__(
        self,
        pieces: Pieces | KeptPieces,
        *,
        codec_id: str,
        codebook_size: int,
        block_frames: int,
        layout: BlockLayout | None = None,
        presets: Sequence[VideoFormat] = (),
    ) -> None:
        self.pieces = pieces
        self.codec_id = codec_id
        self.codebook_size = codebook_size
        self.block_frames = block_frames  # frames per temporal block of the codec
        self.layout = layout  # where that codec's tokens stand; None: in no places we know
        self.presets = tuple(presets)
        self._ids = {name: i for i, name in enumerate(SPECIALS)}
        self._presets = {fmt: len(SPECIALS) + i for i, fmt in enumerate(self.presets)}
        self.preset_start = len(SPECIALS)
        self.text_start = self.preset_start + len(self.presets)
        self.video_start = self.text_start + len(pieces)

    @classmethod
    def make(
        cls,
        texts: Iterable[str],
        formats: Iterable[VideoFormat],
        *,
        stills: Sequence[VideoFormat] = (),
        codec_id: str,
        codebook_size: int,
        block_frames: int,
        layout: BlockLayout | None = None,
        num_pieces: int = 512,
        max_presets: int = 64,
        rates: Sequence[int] = (),
        pieces: KeptPieces | None = None,
    ) -> Vocabulary:
        """A vocabulary for a corpus.

        Args:
            texts: Every text of the corpus, for training the pieces.
            formats: The format of every clip; the commonest become one-token headers.
            stills: Formats of single frames that stand beside clips; they get headers, too.
            codec_id: Whose codes these are.
            codebook_size: Number of video codes.
            block_frames: Frames per block of that codec.
            layout: Where its tokens stand in a block; None: codes are written as they come.
            num_pieces: Most text pieces beyond bytes and characters.
            max_presets: Most one-token headers.
            rates: Lower rates in tokens a block at which clips will also be shown; each common
                format gets a preset at each of them.
            pieces: Of a pretrained model, in place of pieces trained on `texts`.
        """
        common = [fmt for fmt, _ in Counter(formats).most_common(max_presets)]
        presets = list(
            dict.fromkeys(
                f for fmt in (*common, *stills) for f in (fmt, *map(fmt.with_rate, rates))
            )
        )
        return cls(
            pieces or Pieces.train(texts, num_pieces),
            codec_id=codec_id,
            codebook_size=codebook_size,
            block_frames=block_frames,
            layout=layout,
            presets=presets[:max_presets],
        )

    def __len__(self) -> int:
        return self.video_start + self.codebook_size

    def special(self, name: str) -> int:
        """The id of a special token such as `<video>`."""
        return self._ids[name]

    def preset(self, fmt: VideoFormat) -> int | None:
        """The id of the one-token header of a format; None if it has none."""
        return self._presets.get(fmt)

    def encode_text(self, text: str) -> list[int]:
        return [self.text_start + i for i in self.pieces.encode(text)]

    def decode_text(self, ids: Iterable[int]) -> str:
        return self.pieces.decode([i - self.text_start for i in ids])

    @property
    def num_places(self) -> int:
        """Places of a block that the common formats have, whatever their rate."""
        tops = [max(fmt.tokens_per_block) for fmt in self.presets]
        if self.layout is not None:
            tops += [self.layout.slots(fmt.height, fmt.width) for fmt in self.presets]
        return max(tops, default=1)

    def as_read(self, height: int, width: int, count: int) -> tuple[Tensor, Tensor]:
        """Which token of a block stands at each step of the stream, and its place; see
        `BlockLayout.as_read`. Without a layout, or beyond it, tokens stand as they come."""
        if self.layout is None or count > self.layout.slots(height, width):
            return torch.arange(count), torch.arange(count)
        return self.layout.as_read(height, width, count)

    def name(self, i: int) -> str:
        """How id `i` prints."""
        if i < self.preset_start:
            return SPECIALS[i]
        if i < self.text_start:
            return f"<preset {i - self.preset_start}: {self.presets[i - self.preset_start]}>"
        if i < self.video_start:
            return self.pieces.piece(i - self.text_start)
        return str(i - self.video_start)

    def save(self, folder: Path) -> None:
        """Write the text pieces and `vocabulary.json` into a folder."""
        fields: dict[str, Any] = {
            "grammar": GRAMMAR_VERSION,
            "specials": list(SPECIALS),
            "num_pieces": len(self.pieces),
            "pieces": self.pieces.file,
            "codec_id": self.codec_id,
            "codebook_size": self.codebook_size,
            "block_frames": self.block_frames,
            "layout": None if self.layout is None else self.layout.to_json(),
            "presets": [fmt.to_json() for fmt in self.presets],
        }
        for name, content in (
            (self.pieces.file, self.pieces.content),
            ("vocabulary.json", json.dumps(fields, indent=1).encode()),
        ):
            write_atomically(folder / name, content)

    @classmethod
    def load(cls, folder: Path) -> Vocabulary:
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: the folder holds no vocabulary.
            ValueError: it was written with another stream grammar, or is damaged.
        """
        path = Path(folder) / "vocabulary.json"
        if not path.exists():
            raise FileNotFoundError(f"{path} is missing: give a folder that `kinolex lm fit` wrote")
        try:
            return cls._read(path)
        except (KeyError, IndexError, TypeError, OSError, RuntimeError, *_NOT_JSON) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ValueError(
                f"{folder}: damaged vocabulary ({reason}): save or copy it again"
            ) from error

    @classmethod
    def _read(cls, path: Path) -> Vocabulary:
        fields = json.loads(path.read_bytes())
        if fields["grammar"] != GRAMMAR_VERSION or fields["specials"] != list(SPECIALS):
            raise ValueError(
                f"{path} has stream grammar {fields['grammar']}, this Kinolex reads "
                f"{GRAMMAR_VERSION}: train again or use the version that wrote it"
            )
        return cls(
            open_pieces(path.with_name(fields.get("pieces", Pieces.file))),
            codec_id=fields["codec_id"],
            codebook_size=fields["codebook_size"],
            block_frames=fields["block_frames"],
            layout=None if fields["layout"] is None else BlockLayout(**fields["layout"]),
            presets=[VideoFormat.from_json(fmt) for fmt in fields["presets"]],
        )
