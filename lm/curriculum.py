"""A curriculum: documents that are short, clips at low rates, or one direction more, first.

Which stage a step is in follows from the step alone, as its documents do. Knows no trainer.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence as List
from dataclasses import dataclass, replace

from lm.batches import Documents, Mixture, TooLong
from lm.corpus import Corpus
from lm.sequence import Sequence


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A first part of a run.

    until: share of the run's steps after which it is over, 0 to 1.
    tokens: most tokens of a document; one that would be longer gives way to one of the next clip.
    rates: tokens a block at which clips are shown, in place of all the mixture's; none: as there.
    generate: share of documents from caption to video, 0 to 1; None: the mixture's.
    """

    until: float
    tokens: int | None = None
    rates: tuple[int, ...] = ()
    generate: float | None = None

    def __post_init__(self) -> None:
        if self.tokens is not None and self.tokens < 1:
            raise ValueError(f"curriculum tokens={self.tokens}: give 1 or more, or leave it out")
        if any(rate < 1 for rate in self.rates):
            raise ValueError(f"curriculum rates={list(self.rates)}: give 1 token a block or more")
        if self.generate is not None and not 0 <= self.generate <= 1:
            raise ValueError(f"curriculum generate={self.generate}: give a share, 0 to 1")


def check_stages(stages: List[Stage], num_steps: int) -> None:
    """ValueError if a curriculum makes no sense for a run of this many steps, -1 for no limit."""
    ends = [stage.until for stage in stages]
    if any(not 0 < end <= 1 for end in ends) or ends != sorted(set(ends)):
        raise ValueError(f"curriculum until={ends}: give rising shares of the run, above 0 to 1")
    if stages and num_steps < 1:
        raise ValueError(
            "a curriculum without trainer.max_steps: its stages are shares of the steps, since "
            "documents must not depend on the clock: give --trainer.max_steps"
        )


class Curriculum:
    """Draws a step's documents as `Documents` does, of the stage that the step is in.

    Args:
        corpus: Examples to draw from.
        mixture: What to make of them once all stages are over.
        stages: In order; see `check_stages`.
        num_steps: Of the run; without stages any number.
        context: Most tokens a document may have.
        seed: Of all choices.
    """

    def __init__(
        self,
        corpus: Corpus,
        mixture: Mixture,
        stages: List[Stage] = (),
        num_steps: int = -1,
        *,
        context: int = 1024,
        seed: int = 0,
    ) -> None:
        check_stages(stages, num_steps)
        self.corpus, self.num_steps = corpus, num_steps
        self.last = Documents(corpus, mixture, context=context, seed=seed)
        self.stages: list[tuple[float, Documents]] = []
        films = mixture.film_full is None or not mixture.rates or mixture.generate > 0
        for stage in stages:
            some = mixture
            if stage.rates:
                some = replace(mixture, rates=stage.rates, full=0, film_full=None)
            if stage.generate is not None:
                some = replace(some, generate=stage.generate)
            limit = min(context, stage.tokens or context)
            films = films or (some.film_full is not None and some.generate > 0)
            self.stages.append((stage.until, Documents(corpus, some, context=limit, seed=seed)))

        if not films:
            warnings.warn(
                f"mixture.film_full={mixture.film_full} has no effect: no document has a video "
                "after its caption, as generate is 0",
                stacklevel=2,
            )

    def draw(self, step: int, indices: List[int], first: int = 0) -> list[Sequence]:
        """As `Documents.draw`.

        Raises:
            ValueError: no clip's video fits in a document of the stage.
        """
        for until, documents in self.stages:
            if step < until * self.num_steps:
                places = enumerate(indices, first)
                return [self._next_that_fits(documents, step, i, place) for place, i in places]
        return self.last.draw(step, indices, first)

    def _next_that_fits(self, documents: Documents, step: int, index: int, place: int) -> Sequence:
        for more in range(len(self.corpus)):
            luck = (step, place, more) if more else (step, place)
            try:
                return documents.one((index + more) % len(self.corpus), *luck)
            except TooLong:
                continue
        raise ValueError(
            f"no clip fits in the curriculum's documents of {documents.context} tokens: raise "
            "tokens, or give lower rates"
        )
