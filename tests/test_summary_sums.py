"""A summary's codes enter as sums of what their kind has said so far."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lm.summary_sums import SummarySums, summaries_of

WHOLE, REGIONAL, FEATURES, WIDTH = 3, 2, 5, 7
SUMMARY, CODES = WHOLE + 4 * REGIONAL, 20


def made() -> tuple[SummarySums, Tensor]:
    luck = torch.Generator().manual_seed(0)
    chart = SummarySums(SUMMARY, REGIONAL, FEATURES, WIDTH)
    torch.nn.init.normal_(chart.weight, generator=luck)
    return chart, torch.randn(CODES, FEATURES, generator=luck)


def by_hand(chart: SummarySums, features: Tensor, block: list[int], place: int) -> Tensor:
    """What the code at a place of a block's summary enters as."""
    maps = chart.weight.unflatten(1, (WHOLE + REGIONAL, FEATURES))  # (D, W + R, F)
    terms = []
    for earlier in range(place + 1):
        if place < WHOLE:
            terms.append((earlier, earlier))
        elif earlier >= WHOLE and (place - earlier) % 4 == 0:
            terms.append((earlier, WHOLE + (earlier - WHOLE) // 4))
    parts = [maps[:, which] @ features[block[earlier]] for earlier, which in terms]
    return torch.stack(parts).sum(0) / len(parts) ** 0.5


def rows(seed: int = 1) -> tuple[Tensor, Tensor]:
    """Codes (B, L), -1 for other tokens, and slots: blocks of different lengths, some short."""
    luck = torch.Generator().manual_seed(seed)
    lengths = [[SUMMARY + 4, SUMMARY, 2], [5, SUMMARY + 1, 7], [0, 3, SUMMARY + 9]]
    made = [[-1] for _ in lengths], [[0] for _ in lengths]
    for codes, slots, blocks in zip(*made, lengths, strict=True):
        for length in blocks:
            codes += [*torch.randint(0, CODES, (length,), generator=luck).tolist(), -1, -1]
            slots += [*range(length), 0, 0]
    longest = max(map(len, made[0]))
    codes, slots = (
        [row + [fill] * (longest - len(row)) for row in part]
        for part, fill in zip(made, (-1, 0), strict=True)
    )
    return torch.tensor(codes), torch.tensor(slots)


def test_sums_by_hand() -> None:
    chart, features = made()
    codes, slots = rows()
    found = summaries_of(features, codes, slots, SUMMARY)
    seen = set()
    for row, column, got in zip(*found.at, chart(found), strict=True):
        place = int(slots[row, column])
        block = codes[row, column - place : column + 1].tolist()
        torch.testing.assert_close(got, by_hand(chart, features, block, place))
        seen.add((int(row), int(column)))
    wanted = ((codes >= 0) & (slots < SUMMARY)).nonzero().tolist()
    assert seen == {(row, column) for row, column in wanted}


@pytest.mark.parametrize("length", [1, 3, 11, 50])
def test_in_pieces_it_is_the_same(length: int) -> None:
    chart, features = made()
    codes, slots = rows()
    whole = torch.zeros(*codes.shape, WIDTH)
    found = summaries_of(features, codes, slots, SUMMARY)
    whole[found.at] = chart(found)
    earlier, parts = torch.randn(len(codes), SUMMARY, FEATURES), []  # anything: no code is read yet
    for piece, places in zip(codes.split(length, 1), slots.split(length, 1), strict=True):
        found = summaries_of(features, piece, places, SUMMARY, earlier)
        parts.append(torch.zeros(*piece.shape, WIDTH))
        parts[-1][found.at] = chart(found)
    torch.testing.assert_close(torch.cat(parts, 1), whole)


def test_what_was_read_and_taken_back_leaves_no_trace() -> None:
    chart, features = made()
    codes, slots = rows()
    earlier = torch.zeros(len(codes), SUMMARY, FEATURES)
    summaries_of(features, codes[:, :6], slots[:, :6], SUMMARY, earlier)
    again = earlier.clone()
    wrong = (codes[:, 6:9] + 1) % CODES
    summaries_of(features, wrong.where(codes[:, 6:9] >= 0, -1), slots[:, 6:9], SUMMARY, earlier)
    assert not torch.equal(earlier, again)
    one, other = (
        chart(summaries_of(features, codes[:, 6:], slots[:, 6:], SUMMARY, state))
        for state in (earlier, again)
    )
    torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_later_places_change_nothing_and_no_code_is_nothing() -> None:
    chart, features = made()
    codes, slots = rows()
    found = summaries_of(features, codes, slots, SUMMARY)
    cut = 9
    short = summaries_of(features, codes[:, :cut], slots[:, :cut], SUMMARY)
    early = found.at[1] < cut
    torch.testing.assert_close(chart(short), chart(found)[early])
    nothing = summaries_of(features, codes.clamp(max=-1), slots, SUMMARY)
    assert chart(nothing).shape == (0, WIDTH)
