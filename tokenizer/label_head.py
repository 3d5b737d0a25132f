"""`LabelHead`: reads labels and phrases off a clip's summary, so that this says what clips show.

Which phrases of its captions a clip has is a weaker and wider teacher than labels: a scene of
several things has no one label, and everything said of it is in its captions. (Words of captions
as classes: Joulin et al., arXiv 1511.02251.) The losses stand beside the pixels' in training
(docs/log.md has what they gain a language model); afterwards the head only tells how well codes
keep what it reads. It knows names of labels, classes and phrases, not where they come from.

Legend: S clips, K summary tokens of a block, R of each quadrant, D dimensions of a code vector, F
classes in all, P phrases.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from data.labels import ABSENT
from tokenizer.ranks import num_ranks, sum_over_ranks
from tokenizer.summary import QUADRANTS, check_regional, kept_of, quadrants_of


def _share(counted: Tensor) -> Tensor:
    """How many are true on a rank, on average of all: losses are means over all ranks' clips."""
    return (sum_over_ranks(counted.sum()) / num_ranks()).clamp(min=1 / num_ranks())


def _times(told: Tensor) -> Tensor:
    """What blocks say, (S, blocks, ..., E): the first, the last and their mean, (S, ..., 3 E)."""
    return torch.cat([told[:, 0], told[:, -1], told.mean(1)], -1)


class LabelHead(nn.Module):
    """A linear map of the summaries of a clip's first and last block and of the mean of all.

    Linear, so that a language model finds what it reads as easily; first and last, since labels
    may say what comes first and what then. Quadrants are read alike, each by itself, and of their
    scores the highest counts, softly (log-sum-exp, as in learning from bags of which some instance
    is what is said of the bag): words of one thing stand together where it is.

    Args:
        summary: Summary tokens of a block.
        dim: Dimensions of a code vector.
        classes: The classes of each label, by its name.
        phrases: Of captions.
        regional: Of the summary, tokens of each quadrant.
    """

    def __init__(
        self,
        summary: int,
        dim: int,
        classes: Mapping[str, Sequence[str]],
        phrases: Sequence[str] = (),
        regional: int = 0,
    ) -> None:
        super().__init__()
        nothing = not classes and not phrases
        if nothing or any(len(names) < 2 for names in classes.values()):
            raise ValueError(f"classes={dict(classes)}: labels of at least two classes are needed")
        if summary < 1:
            raise ValueError(f"summary={summary}: labels are read off summary tokens, give some")
        check_regional(summary, regional)
        self.summary = summary
        self.classes = {label: list(names) for label, names in classes.items()}
        self.phrases = list(phrases)
        self.sizes = [len(names) for names in self.classes.values()]
        self.regional, self.whole = regional, summary - QUADRANTS * regional
        told = sum(self.sizes) + len(self.phrases)
        self.read = nn.Linear(3 * self.whole * dim, told)
        self.read_quadrant = nn.Linear(3 * regional * dim, told) if regional else None

    def forward(self, vectors: Tensor, counts: Tensor | None = None) -> Tensor:
        """Scores of all classes and phrases, float (S, F + P).

        Args:
            vectors: float (S, blocks, N, D) of codes, the summary's first.
            counts: int64 (S,), tokens kept of each block; None: all.
        """
        clips, blocks = vectors.shape[:2]
        flat = vectors[:, :, : self.summary].flatten(0, 1)
        if counts is not None:
            flat = flat * kept_of(flat, counts.repeat_interleave(blocks))
        each = flat.unflatten(0, (clips, blocks))  # (S, blocks, K, D)
        scores = self.read(_times(each[:, :, : self.whole].flatten(2)))
        if self.read_quadrant is None:
            return scores
        parts = quadrants_of(each, self.regional).flatten(3)  # (S, blocks, 4, R * D)
        return scores + self.read_quadrant(_times(parts)).logsumexp(1)

    def losses(
        self, vectors: Tensor, told: Tensor, counts: Tensor | None = None
    ) -> dict[str, Tensor]:
        """The losses `labels` and `phrases`, in nats, of what the head has of them.

        Of labels it is the mean cross-entropy over those that clips have, 0 where none has any. Of
        phrases it is the binary cross-entropy of them all, over the number of phrases that are said
        of the clips: whatever share of the phrases a clip has, both are of one size.

        Args:
            vectors: As for `forward`.
            told: int64 (S, number of labels + P): class numbers or ABSENT, then 1 for a phrase that
                is said of a clip and 0 for one that is not, ABSENT for clips without captions.
            counts: As for `forward`.
        """
        labels, said = told.split((len(self.sizes), len(self.phrases)), 1)
        *scores, likely = self(vectors, counts).split((*self.sizes, len(self.phrases)), 1)
        losses = {}
        if self.sizes:
            parts = [
                F.cross_entropy(part, labels[:, i], ignore_index=ABSENT, reduction="sum")
                for i, part in enumerate(scores)
            ]
            losses["labels"] = torch.stack(parts).sum() / _share(labels != ABSENT)
        if self.phrases:
            each = F.binary_cross_entropy_with_logits(
                likely, said.clamp(min=0).to(likely.dtype), reduction="none"
            )
            losses["phrases"] = (each * (said != ABSENT)).sum() / _share(said == 1)
        return losses

    @torch.no_grad()
    def right(self, vectors: Tensor, told: Tensor) -> dict[str, float]:
        """The share of clips whose label is read rightly, by label; those without it do not count.

        `phrases` is the area under precision and recall of all phrases of all clips: 1 where every
        phrase that is said is held likelier than any that is not.

        Args:
            vectors: As for `forward`.
            told: As for `losses`.
        """
        shares = {}
        *scores, likely = self(vectors).split((*self.sizes, len(self.phrases)), 1)
        for i, (name, part) in enumerate(zip(self.classes, scores, strict=True)):
            there = told[:, i] != ABSENT
            if bool(there.any()):
                shares[name] = float((part.argmax(1) == told[:, i])[there].float().mean())
        said = told[:, len(self.sizes) :]
        known = said != ABSENT
        if bool((said == 1).any()):
            hits = said[known][likely[known].argsort(descending=True)] == 1
            precision = hits.cumsum(0) / torch.arange(1, len(hits) + 1, device=hits.device)
            shares["phrases"] = float(precision[hits].mean())
        return shares
