"""Where a block's codes stand: kept places in reading order, in streams and back."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lm.document import Document, Video
from lm.formats import VideoFormat
from lm.grammar import Grammar
from lm.pieces import Pieces
from lm.sampling import read_prompt
from lm.sequence import write
from lm.vocabulary import Vocabulary
from tokenizer.ordering import BlockLayout, Order, order_grid
from tokenizer.tokens import VideoTokens

PIECES = Pieces.train(["a b c"], 8)


@given(
    order=st.sampled_from(["interlaced", "time-interlaced", "raster"]),
    time=st.integers(1, 4),
    summary=st.integers(0, 3),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    data=st.data(),
)
def test_kept_tokens_stand_in_the_order_of_their_places(
    order: Order, time: int, summary: int, height: int, width: int, data: st.DataObject
) -> None:
    layout = BlockLayout(order, time, 8, summary)
    slots = layout.slots(height, width)
    count = data.draw(st.integers(1, slots))
    tokens, places = layout.as_read(height, width, count)
    assert tokens.sort().values.tolist() == list(range(count))  # the first `count`, each once
    assert bool((places.diff() > 0).all()) and int(places[-1]) < slots
    whose = order_grid(order, *layout.grid(height, width)).permutation + summary
    for token, place in zip(tokens.tolist(), places.tolist(), strict=True):
        assert place == (token if token < summary else int(whose[token - summary]))
    if count == slots:
        assert places.tolist() == list(range(slots))


def test_more_tokens_than_places_are_refused() -> None:
    with pytest.raises(ValueError, match="1 to 8"):
        BlockLayout("interlaced", 2, 8).as_read(16, 16, 9)


@pytest.mark.parametrize("count", [1, 2, 3, 7, 10])
def test_streams_give_back_codes_coarse_to_fine(count: int) -> None:
    layout = BlockLayout("interlaced", 2, 8, summary=2)
    torch.manual_seed(count)
    tokens = VideoTokens(
        codes=tuple(torch.randint(0, 50, (count,)) for _ in range(3)),
        timestamps=torch.arange(12, dtype=torch.float64) / 4,
        height=16,
        width=16,
        block_frames=4,
        codebook_size=50,
        codec_id="c",
    )
    vocabulary = Vocabulary(
        PIECES,
        codec_id="c",
        codebook_size=50,
        block_frames=4,
        layout=layout,
        presets=[VideoFormat.of(tokens)[0]],
    )
    assert vocabulary.num_places == 10
    document = Document.of(Video(tokens))
    sequence = write(document, vocabulary)
    grammar = Grammar(vocabulary)
    assert grammar.read(sequence.ids.tolist()).items == document.items
    assert read_prompt(grammar, sequence.ids.tolist())[1] == sequence.slots.tolist()
    codes = [i for i in sequence.ids.tolist() if i >= vocabulary.video_start]
    order, _ = layout.as_read(16, 16, count)
    assert codes[:count] == (tokens.codes[0][order] + vocabulary.video_start).tolist()
