"""Text pieces: SentencePiece trained on a corpus, made exactly invertible for any Python string.

Knows text and piece ids counted from 0. Knows no special tokens, video codes or streams.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Sequence

import sentencepiece

SPACE = (
    "\u2581"  # SentencePiece's stand-in for a space; as a character of the text it goes as bytes
)
NUM_BYTES = 256  # ids 0..255 are the raw bytes, so any UTF-8 can be spelled


class Pieces:
    """A trained piece model. Ids are SentencePiece's less one: its `<unk>` does not exist here."""

    file = "pieces.model"
    bytes_first = True  # so the grammar can keep the bytes of a text valid UTF-8

    def __init__(self, proto: bytes) -> None:
        self.proto = self.content = proto
        self._model = sentencepiece.SentencePieceProcessor(model_proto=proto)  # type: ignore[call-arg]
        if self._model.id_to_piece(1) != "<0x00>":
            raise ValueError("pieces.model has no byte pieces: train it with Pieces.train")
        self._bytes = [bytes([value]) for value in range(NUM_BYTES)] + [
            self._model.id_to_piece(i).replace(SPACE, " ").encode()
            for i in range(NUM_BYTES + 1, self._model.vocab_size())
        ]
        self._cache: dict[str, list[int]] = {}

    @classmethod
    def train(cls, texts: Iterable[str], size: int = 512) -> Pieces:
        """Learn pieces from texts, one call per corpus.

        Args:
            texts: Captions, questions, answers: whatever the model is to read and write.
            size: Most pieces wanted beyond the 256 bytes and the characters seen; a small corpus
                yields fewer.
        """
        seen = sorted({line.replace(SPACE, " ") for text in texts for line in text.split("\n")})
        lines = [checked(line) for line in seen if line.strip()] or ["a b"]
        characters = len(set("".join(lines)))
        out = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(  # type: ignore[attr-defined]
            sentence_iterator=iter([*lines, "a b"]),
            model_writer=out,
            vocab_size=NUM_BYTES + 1 + characters + 4 + size,
            model_type="bpe",
            byte_fallback=True,
            character_coverage=1.0 if characters < 4000 else 0.9995,
            normalization_rule_name="identity",
            add_dummy_prefix=False,
            remove_extra_whitespaces=False,
            hard_vocab_limit=False,  # a small corpus may have fewer pieces than asked for
            split_digits=True,
            max_sentence_length=1 << 20,
            unk_id=0,
            bos_id=-1,
            eos_id=-1,
            pad_id=-1,
            num_threads=1,
            minloglevel=2,
        )
        return cls(out.getvalue())

    def __len__(self) -> int:
        return len(self._bytes)

    def encode(self, text: str) -> list[int]:
        """Piece ids of a text; `decode` gives back exactly the same text.

        Raises:
            ValueError: the text holds lone surrogates, so it has no UTF-8.
        """
        ids = self._cache.get(text)
        if ids is None:
            ids = []
            for part in re.split(f"({SPACE})", checked(text)):
                if part == SPACE:
                    ids += list(SPACE.encode())
                elif part:
                    ids += [i - 1 for i in self._model.encode(part)]
            if len(self._cache) > 200_000:
                self._cache.clear()
            self._cache[text] = ids
        return list(ids)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of piece ids; bytes that are no UTF-8 become U+FFFD."""
        return b"".join(self._bytes[i] for i in ids).decode(errors="replace")

    def piece(self, i: int) -> str:
        """How piece `i` prints: its text, or `<0x..>` for a raw byte."""
        return f"<0x{i:02X}>" if i < NUM_BYTES else self._bytes[i].decode()


def checked(text: str) -> str:
    """The text, or ValueError if it holds lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"text {text[:40]!r} is not valid Unicode: {error.reason}") from None
    return text
