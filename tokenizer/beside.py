"""`Beside`: networks that stand beside a codec in training and are not part of it.

Discriminators, a prior of its codes, a perceptual distance: each there only where its loss has a
weight. It does not know how a codec is trained otherwise.

Legend: S clips, T, H, W frames and pixels.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor, nn

from tokenizer.adversary import Adversary, balance
from tokenizer.blocks import Reconstruction
from tokenizer.code_prior import MOST_CODES, CodePrior
from tokenizer.codec import Codec
from tokenizer.losses import LossWeights
from tokenizer.perceptual import load_perceptual
from tokenizer.ranks import num_ranks, own_share

ALONE = 0.05  # of the run: discriminators and prior learn before the codec heeds what they say


class Beside(nn.Module):
    """The networks that the weights of a codec's losses ask for.

    Args:
        codec: The codec that is trained.
        weights: Of the losses.
        gan_from: Moment of the run, 0 to 1, from which discriminators learn.
        gan_width: Their width.
        lecam: Weight of their regularisation.
        perceptual_path: File of the perceptual distance's weights.
        seed: Of the networks' initial weights.

    Raises:
        ValueError: A loss cannot be had with this codec or without a file.
    """

    def __init__(
        self,
        codec: Codec,
        weights: LossWeights,
        gan_from: float = 0.8,
        gan_width: int = 16,
        lecam: float = 0.001,
        perceptual_path: str | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.weights, self.gan_from = weights, gan_from
        if weights.perceptual and perceptual_path is None:
            raise ValueError(
                f"weights.perceptual={weights.perceptual:g} without recipe.perceptual_path: give "
                "the file of a VGG16 (tokenizer/perceptual.py says in which layout)"
            )
        if weights.prior and not 1 < codec.codebook_size <= MOST_CODES:
            raise ValueError(
                f"weights.prior={weights.prior:g} with {codec.codebook_size} codes: the prior "
                f"scores every code, it can be had for 2 to {MOST_CODES}"
            )
        if weights.prior:
            codec.code_vectors()  # raises where codes have none
        self.prior: CodePrior | None = None
        self.stand_prior(codec, seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.adversary = Adversary(gan_width, lecam) if weights.gan else None
        self.perceptual = None
        if weights.perceptual and perceptual_path is not None:
            self.perceptual = load_perceptual(perceptual_path)

    def stand_prior(self, codec: Codec, seed: int) -> None:
        """A new prior, if any, that hears the phrases the codec's label head is taught."""
        if not self.weights.prior:
            return
        head = codec.label_head if self.weights.phrases else None
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            phrases = 0 if head is None else len(head.phrases)
            self.prior = CodePrior(codec.quantizer.dim, codec.summary, phrases=phrases)

    def add_perceptual(self, losses: dict[str, Tensor], made: Tensor, target: Tensor) -> None:
        """Add the perceptual distance of pixels float (S, T, 3, H, W) to losses."""
        if self.perceptual is not None:
            frames = made.flatten(0, 1), target.flatten(0, 1)
            losses["perceptual"] = self.perceptual(*frames).mean()

    def add_gan(
        self, losses: dict[str, Tensor], made: Tensor, target: Tensor, progress: float
    ) -> None:
        """Add the discriminators' loss and, once they have learned a while, that of fooling them.

        `losses` so far are those of pixels, whose pull on the codec `gan` is made to match.
        """
        if self.adversary is None or progress < self.gan_from:
            return
        if progress >= self.gan_from + ALONE:
            fooling = self.adversary.fooling(made)
            losses["gan"] = balance(self.weights.total(losses), fooling, made) * fooling
        losses["discriminator"] = self.adversary.telling(target, made)

    def add_prior(
        self, losses: dict[str, Tensor], codec: Codec, out: Reconstruction, said: Tensor | None
    ) -> None:
        """Add the prior's cross-entropy of the codes of a training pass, in nats a token.

        `said`, int64 (S, P): the label head's phrases that are said of the clips; None: unknown.
        """
        if self.prior is not None:
            table = codec.code_vectors()
            height, width = out.pixels.shape[-2:]
            order, grid = codec.ordering(height, width), codec.grid(height, width)
            losses["prior"] = self.prior(out.codes, out.vectors, table, order, grid, said)

    def with_mistakes(
        self, vectors: Tensor, codec: Codec, size: tuple[int, int], often: float, luck: Generator
    ) -> Tensor:
        """Vectors (S, blocks, N, D) with codes of the grid that the prior drew in place of some.

        Args:
            vectors: Of the clips' codes.
            codec: Theirs.
            size: Pixels of height and width.
            often: Share of clips that have some; each of these any share of its codes.
            luck: Source of the draws.
        """
        assert self.prior is not None
        clips, blocks, tokens, _ = vectors.shape
        draw = own_share(torch.rand(2, clips * num_ranks(), generator=luck))
        places = (2, blocks, tokens - codec.summary, clips * num_ranks())
        draws = own_share(torch.rand(places, generator=luck))
        some = (draw[0] < often).nonzero()[:, 0]
        if not len(some):
            return vectors
        which, what = draws[..., some].permute(0, 3, 1, 2).to(vectors.device)  # (some, B, N') each
        wrong = which < draw[1][some, None, None].to(vectors.device)
        order, grid = codec.ordering(*size), codec.grid(*size)
        some = some.to(vectors.device)
        seen = vectors[some]
        told, placed = seen.split((codec.summary, tokens - codec.summary), 2)
        drawn = self.prior.draw(seen, codec.code_vectors(), order, grid, what).to(placed.dtype)
        wrong &= ~drawn.isclose(placed).all(-1)  # the right code keeps its gradient
        placed = torch.where(wrong[..., None], drawn, placed)
        return vectors.index_copy(0, some, torch.cat([told, placed], 2))
