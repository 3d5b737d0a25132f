"""Drawing: which token comes next, by rules of temperature and cut-offs, from scores.

Knows scores and settings. Knows no streams and no network.

Shapes: A rows, V columns that are looked at.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence as List
from dataclasses import dataclass, field

import torch
from torch import Tensor

MAX_GUIDANCE = 100.0
LEAST_TEMPERATURE = 1e-4  # below it scores overflow

MIN_P = 0.1  # of codes; a high floor never begins a thing whose place is open (docs/log.md)


@dataclass(frozen=True)
class Draw:
    """How to draw one kind of token; all limits combine."""

    temperature: float = 1.0  # 0: always the likeliest
    top_k: int = 0  # of the likeliest ids to keep; 0: all
    top_p: float = 1.0  # probability mass of the likeliest ids to keep
    min_p: float = 0.0  # least probability of an id, as a share of the likeliest's

    def __post_init__(self) -> None:
        if not 0 <= self.min_p <= 1:
            raise ValueError(f"min_p={self.min_p}: give a share from 0 (all) to 1 (the likeliest)")
        if self.temperature and not LEAST_TEMPERATURE <= self.temperature < math.inf:
            raise ValueError(
                f"temperature={self.temperature}: give 0 (greedy) or {LEAST_TEMPERATURE:g} or more"
            )
        if self.top_k < 0:
            raise ValueError(f"top_k={self.top_k}: give 0 (all) or a number of ids to keep")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p={self.top_p}: give a share above 0 and at most 1")

    def warn_of_idle(self) -> None:
        """Warn where a cut-off is set that greedy choice never looks at."""
        for name, is_set in (("top_k", self.top_k > 0), ("top_p", self.top_p < 1)):
            if is_set and self.temperature == 0:
                warnings.warn(
                    f"{name}={getattr(self, name):g} has no effect at temperature=0, which takes "
                    "the likeliest: leave one of them out",
                    stacklevel=3,
                )


@dataclass(frozen=True)
class Sampling:
    """How to draw every kind of token."""

    text: Draw = field(default_factory=lambda: Draw(temperature=0.0))  # marks too
    video: Draw = field(default_factory=lambda: Draw(min_p=MIN_P))
    guidance: float = 1.0  # of video codes by words; 1: no twin without them
    context_guidance: float = 1.0  # of video codes by stills; 1: no twin without them
    rescale: float = 0.0  # of what guidance adds to the spread of logits, the share taken back
    parallel: int = 1  # codes of a block drawn in one step, see `lm.parallel`
    exact: bool = True  # draw as one by one would; else codes of a step do not see each other

    def __post_init__(self) -> None:
        for name in ("guidance", "context_guidance"):
            value = getattr(self, name)
            if not 0 <= value <= MAX_GUIDANCE:
                raise ValueError(
                    f"{name}={value:g}: give 0 (heed no prompt) to {MAX_GUIDANCE:g}; "
                    "1 is none, 2 to 4 are usual"
                )
        if not 0 <= self.rescale <= 1:
            raise ValueError(f"rescale={self.rescale}: give a share from 0 (none) to 1")
        if self.parallel < 1:
            raise ValueError(f"parallel={self.parallel}: give 1 (one by one) or more codes a step")


def draw(logits: Tensor, draws: List[Draw], luck: Tensor) -> Tensor:
    """One column for each row.

    Args:
        logits: float (A, V); -inf where not allowed.
        draws: How to draw each row.
        luck: float64 (A,) in [0, 1): the row's fate, so that equal rows with equal luck agree.

    Returns:
        int64 (A,).
    """
    greedy = logits.argmax(-1)
    if all(d.temperature == 0 for d in draws):
        return greedy
    p, order = ranked(logits, draws)
    mass = p.cumsum(-1)
    place = (mass <= luck[:, None] * mass[:, -1:]).sum(-1)  # first column beyond the luck
    last = (p > 0).sum(-1) - 1
    drawn = order.gather(1, torch.minimum(place, last)[:, None])
    cold = torch.tensor([d.temperature == 0 for d in draws], device=logits.device)
    return torch.where(cold, greedy, drawn[:, 0])


def ranked(logits: Tensor, draws: List[Draw]) -> tuple[Tensor, Tensor]:
    """Chances of the columns that each row may draw, the likeliest first, and which they are.

    Args:
        logits: float (A, V); -inf where not allowed.
        draws: How to draw each row; temperature 0 is read as 1.

    Returns:
        float64 (A, columns), not scaled to add up to 1, and int64 (A, columns): what is left out
        has no chance.
    """
    device = logits.device
    temperature = torch.tensor([d.temperature or 1.0 for d in draws], device=device)
    scores, order = _likeliest(logits / temperature[:, None], draws)
    p = scores.double().softmax(-1)  # (A, columns), largest first
    if any(d.top_k for d in draws):
        kept = torch.tensor([d.top_k or p.shape[1] for d in draws], device=device)
        p = p.masked_fill(torch.arange(p.shape[1], device=device) >= kept[:, None], 0.0)
    if any(d.top_p < 1 for d in draws):
        share = torch.tensor([d.top_p for d in draws], device=device, dtype=p.dtype)
        p = p / p.sum(-1, keepdim=True)
        before = p.cumsum(-1) - p
        p = p.masked_fill((before >= share[:, None]) & (share < 1)[:, None], 0.0)
    if any(d.min_p for d in draws):  # arXiv 2407.01082
        floor = torch.tensor([d.min_p for d in draws], device=device, dtype=p.dtype)
        p = p.masked_fill(p < floor[:, None] * p[:, :1], 0.0)
    return p, order


def _likeliest(scores: Tensor, draws: List[Draw]) -> tuple[Tensor, Tensor]:
    """Scores and columns of all that may be drawn, likeliest first, of equals the first column.

    To sort a whole vocabulary takes longer than many a product of the step; what `min_p` or `top_k`
    is sure to leave out need not be sorted.
    """
    device, width = scores.device, scores.shape[1]
    floors = [  # with top_p the mass of all counts
        math.log(d.min_p) - 1e-3 if d.min_p and d.top_p == 1 else -math.inf for d in draws
    ]
    least = scores.amax(-1, keepdim=True) + torch.tensor(floors, device=device)[:, None]
    top_ks = [1 if d.temperature == 0 else min(d.top_k, width) or width for d in draws]
    if (most := max((k for k in top_ks if k < width), default=0)) > 0:
        place = torch.tensor([min(k, most) - 1 for k in top_ks], device=device)[:, None]
        limit = scores.topk(most).values.gather(1, place)
        limited = torch.tensor([k < width for k in top_ks], device=device)[:, None]
        least = torch.where(limited, torch.maximum(least, limit), least)
    count = int((scores >= least).sum(-1).max())
    if 4 * count > width:
        return scores.sort(dim=-1, descending=True, stable=True)
    columns = scores.topk(count).indices.sort(dim=-1).values
    found, order = scores.gather(1, columns).sort(dim=-1, descending=True, stable=True)
    return found, columns.gather(1, order)
