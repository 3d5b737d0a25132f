"""`KeptPieces`: the vocabulary of a pretrained text model, kept as it is, exact for any string.

Reads `tokenizer.json` (by the `tokenizers` package) or SentencePiece's `tokenizer.model`. Knows
text and piece ids, which are the file's own. Knows no streams and no weights.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import sentencepiece

from lm.pieces import SPACE, Pieces, checked

FILES = ("tokenizer.json", "tokenizer.model")
_BYTE = re.compile(r"<0x([0-9A-F]{2})>")


class KeptPieces:
    """Pieces of a foreign vocabulary.

    A text that the tokenizer would change (it normalises, or lacks a character) is spelled in
    bytes instead, or refused where the vocabulary has none. Its control tokens keep their ids,
    are never spelled by a text, and decode to nothing. Any piece may follow any: bytes that
    are no UTF-8 decode to U+FFFD.
    """

    bytes_first = False

    def __init__(self, file: str, content: bytes) -> None:
        self.file, self.content = file, content
        read = _read_json if file == "tokenizer.json" else _read_sentencepiece
        self._spell: Callable[[str], list[int]]
        self._spell, self._bytes = read(content)
        self._of_byte = {piece: i for i, piece in enumerate(self._bytes) if len(piece) == 1}
        first = self._spell("a")[:1]
        self._prefix = b" " if first and self._bytes[first[0]].startswith(b" ") else b""

    def __len__(self) -> int:
        return len(self._bytes)

    def encode(self, text: str) -> list[int]:
        """Piece ids of a text; `decode` gives back exactly the same text.

        Raises:
            ValueError: the text has no UTF-8, or this vocabulary cannot spell it.
        """
        if not checked(text):
            return []
        ids = self._spell(text)
        if self.decode(ids) == text:
            return ids
        try:
            return [self._of_byte[bytes([value])] for value in self._prefix + text.encode()]
        except KeyError:
            raise ValueError(
                f"text {text[:40]!r} does not come back from {self.file}, which has no bytes to "
                "spell it with: leave it out, or train without init_from"
            ) from None

    def decode(self, ids: Sequence[int]) -> str:
        """The text of piece ids; bytes that are no UTF-8 become U+FFFD."""
        joined = b"".join(self._bytes[i] for i in ids)
        return joined.removeprefix(self._prefix).decode(errors="replace")

    def piece(self, i: int) -> str:
        """How piece `i` prints."""
        return self._bytes[i].decode(errors="backslashreplace") or f"<control {i}>"


def open_pieces(path: Path) -> Pieces | KeptPieces:
    """Text pieces from a file: our own `pieces.model`, or a kept vocabulary by its usual name."""
    content = path.read_bytes()
    return KeptPieces(path.name, content) if path.name in FILES else Pieces(content)


def pieces_of(folder: Path) -> KeptPieces:
    """The vocabulary of a pretrained model.

    Raises:
        FileNotFoundError: the folder holds none.
        ValueError: it is of a kind that cannot be kept exactly, or damaged.
    """
    for name in FILES:
        if (folder / name).is_file():
            try:
                return KeptPieces(name, (folder / name).read_bytes())
            except (KeyError, TypeError, RuntimeError, UnicodeDecodeError) as error:
                raise ValueError(f"{folder / name}: cannot be read ({error})") from error
    raise FileNotFoundError(f"{folder} holds neither {' nor '.join(FILES)}: copy one into it")


def _read_json(content: bytes) -> tuple[Callable[[str], list[int]], list[bytes]]:
    try:
        from tokenizers import Tokenizer
    except ModuleNotFoundError as error:
        raise ValueError(
            "tokenizer.json needs the package tokenizers: make install EXTRAS=interop"
        ) from error
    fields = json.loads(content)
    used = {part["type"] for part in _parts(fields.get("decoder"))}
    if not used & {"ByteLevel", "ByteFallback", "Metaspace"}:
        raise ValueError(
            f"tokenizer.json decodes by {sorted(used) or 'nothing'}: its pieces do not join to "
            "the text, only byte-level and SentencePiece-like vocabularies can be kept"
        )
    to_bytes = _from_byte_level if "ByteLevel" in used else _from_sentencepiece
    tokenizer = Tokenizer.from_str(content.decode())
    tokenizer.no_padding()
    tokenizer.no_truncation()
    tokenizer.encode_special_tokens = True  # text stays text, however it is spelled
    table = [b""] * (1 + max(tokenizer.get_vocab().values()))
    added = tokenizer.get_added_tokens_decoder()
    for name, i in tokenizer.get_vocab().items():
        if i not in added:
            table[i] = to_bytes(name)
        elif not added[i].special:
            table[i] = name.encode()

    def spell(text: str) -> list[int]:
        return tokenizer.encode(text, add_special_tokens=False).ids

    return spell, table


def _read_sentencepiece(content: bytes) -> tuple[Callable[[str], list[int]], list[bytes]]:
    model = sentencepiece.SentencePieceProcessor(model_proto=content)  # type: ignore[call-arg]
    table = [
        b""
        if model.is_control(i) or model.is_unknown(i)
        else _from_sentencepiece(model.id_to_piece(i))
        for i in range(model.vocab_size())
    ]
    return model.encode, table


def _parts(node: dict[str, Any] | None) -> list[dict[str, Any]]:
    """A decoder as a list, also where it is a sequence of some."""
    if node is None:
        return []
    return node["decoders"] if node["type"] == "Sequence" else [node]


def _from_sentencepiece(name: str) -> bytes:
    byte = _BYTE.fullmatch(name)
    return bytes([int(byte[1], 16)]) if byte else name.replace(SPACE, " ").encode()


def _from_byte_level(name: str) -> bytes:
    """GPT-2's spelling of bytes as characters, undone."""
    if not all(character in _BYTE_OF for character in name):
        return b""  # a token that no text reaches
    return bytes(_BYTE_OF[character] for character in name)


_PRINTED = [*range(33, 127), *range(161, 173), *range(174, 256)]  # stand for themselves
_OTHERS = [value for value in range(256) if value not in _PRINTED]  # are moved beyond 255
_BYTE_OF = {chr(value): value for value in _PRINTED} | {
    chr(256 + i): value for i, value in enumerate(_OTHERS)
}
