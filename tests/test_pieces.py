import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm.pieces import Pieces

TINY = Pieces.train(["a red square moves left", "two  spaces", "tab\there"], size=20)


@given(st.text())
def test_any_text_round_trips(text: str) -> None:
    assert TINY.decode(TINY.encode(text)) == text


@pytest.mark.parametrize(
    "text", ["", " lead", "two  spaces", "▁ ▁", "<unk>", "<0x41>", "\0\n\r", "é"]
)
def test_awkward_texts_round_trip(text: str) -> None:
    assert TINY.decode(TINY.encode(text)) == text


@pytest.mark.parametrize("corpus", [[], [""], ["x"], ["▁"], ["\n"], ["a"] * 3, ["日本語 テスト"]])
def test_the_smallest_corpora_train(corpus: list[str]) -> None:
    pieces = Pieces.train(corpus)
    assert pieces.decode(pieces.encode("any text ▁ at all")) == "any text ▁ at all"


def test_words_of_the_corpus_are_few_pieces() -> None:
    text = "a red square moves left"
    assert len(Pieces.train([text], size=100).encode(text)) == len(text.split())


def test_training_is_deterministic() -> None:
    texts = ["a red square", "a blue disc"]
    assert Pieces.train(texts).proto == Pieces.train(texts).proto


def test_lone_surrogates_are_refused() -> None:
    with pytest.raises(ValueError, match="not valid Unicode"):
        TINY.encode("a\ud800")
