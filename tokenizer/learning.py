"""Learning a codec: crops, nested dropout, losses and one optimizer step, without any trainer.

`Learner` holds everything a run needs to go on; the Lightning shell and the demo both drive it or
its parts. It does not know where clips come from.

Legend: S clips, T, H, W frames and pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from tokenizer.beside import ALONE, Beside
from tokenizer.blocks import to_float
from tokenizer.codec import Codec
from tokenizer.losses import emphasis, reconstruction_losses
from tokenizer.optimisation import Average, MuonAdamW
from tokenizer.ranks import num_ranks, own_share
from tokenizer.recipe import Recipe, check_recipe
from tokenizer.running import Precision, running

SUMMARY_ONLY = 0.2  # of the clips that lose tokens, those that lose the whole grid


@dataclass(frozen=True)
class StepReport:
    """What one training step did."""

    loss: float  # weighted total
    losses: dict[str, float]  # unweighted, by name
    gradient: float  # norm before clipping
    skipped: bool  # not finite: weights were left alone


def choose_crops(frames: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """One square crop of each clip (S, T, 3, size, size), centred near what moves or stands out.

    The centre is drawn in proportion to temporal differences plus a share of local contrast, then
    jittered by a quarter of the crop.
    """
    clips, _, _, height, width = frames.shape
    tall, wide = min(size, height), min(size, width)
    if (tall, wide) == (height, width):
        return frames
    grey = frames.float().mean(2)  # (S, T, H, W)
    energy = grey.diff(dim=1).abs().mean(1) if grey.shape[1] > 1 else torch.zeros_like(grey[:, 0])
    middle = grey[:, grey.shape[1] // 2]
    near = F.avg_pool2d(middle[:, None], 5, 1, 2, count_include_pad=False)[:, 0]
    energy = energy + 0.5 * (middle - near).abs()
    energy = energy + 0.1 * energy.mean((1, 2), keepdim=True) + 1e-3
    chance = energy.flatten(1).double().cumsum(1)
    luck = own_share(torch.rand(clips * num_ranks(), generator=generator, dtype=torch.float64))
    centre = torch.searchsorted(chance, (luck * chance[:, -1])[:, None], right=True)[:, 0]
    reach = size // 4
    everyone = (2, clips * num_ranks())
    jitter = own_share(torch.randint(-reach, reach + 1, everyone, generator=generator))
    top = (centre // width + jitter[0] - tall // 2).clamp(0, height - tall)
    left = (centre % width + jitter[1] - wide // 2).clamp(0, width - wide)
    rows = top[:, None] + torch.arange(tall)  # (S, tall)
    columns = left[:, None] + torch.arange(wide)
    clip = torch.arange(clips)[:, None, None]
    picked = frames.permute(0, 3, 4, 1, 2)[clip, rows[:, :, None], columns[:, None, :]]
    return picked.permute(0, 3, 4, 1, 2)  # (S, T, 3, tall, wide)


def draw_counts(
    clips: int,
    slots: int,
    progress: float,
    recipe: Recipe,
    generator: torch.Generator,
    summary: int = 0,
) -> Tensor:
    """Tokens each clip's blocks keep, int64 (S,): all, or fewer.

    Fewer is the summary with a log-uniform number of the grid's tokens, from 1 up, or for
    SUMMARY_ONLY of these clips a part of the summary alone.
    """
    everyone = (3 if summary else 2, clips * num_ranks())
    draw = own_share(torch.rand(everyone, generator=generator))
    grid = slots - summary
    some = summary + torch.exp(draw[0] * math.log(grid)).round().long().clamp(1, grid)
    if summary:
        part = 1 + (draw[0] * summary).long()
        some = torch.where(draw[2] < SUMMARY_ONLY, part.clamp(max=summary), some)
    full = (draw[1] < recipe.full_rate) | (progress < recipe.drop_from)
    return torch.where(full, slots, some)


def training_losses(
    codec: Codec,
    frames: Tensor,
    progress: float,
    recipe: Recipe,
    generator: torch.Generator,
    told: Tensor | None = None,
    beside: Beside | None = None,
) -> dict[str, Tensor]:
    """The losses of one batch of clips uint8 (S, T, 3, H, W), with gradients.

    Args:
        codec: The codec, in training mode.
        frames: Whole clips; crops are taken here.
        progress: How much of the run is done, 0 to 1.
        recipe: How to train.
        generator: Source of all randomness: equal generators give equal losses.
        told: Labels and phrases for the codec's label head, see `LabelHead.losses`; None trains on
            pixels only.
        beside: Networks beside the codec, that `stand_beside` made; None: none.
    """
    if recipe.crop and progress < recipe.crop_until:
        frames = frames.repeat_interleave(recipe.crops_per_clip, 0)
        if told is not None:
            told = told.repeat_interleave(recipe.crops_per_clip, 0)
        frames = choose_crops(frames, recipe.crop, generator)
    elif recipe.crop:
        frames = frames[: recipe.whole_clips]
        told = None if told is None else told[: recipe.whole_clips]
    all_of_it = recipe.train == "all"
    codec.quantizer.train(all_of_it)  # in eval mode it has no loss and moves no codebook
    slots = codec.slots_per_block(*frames.shape[-2:])
    counts = draw_counts(len(frames), slots, progress, recipe, generator, codec.summary)
    rounding = progress >= recipe.round_from or not all_of_it
    change = None
    begun = progress >= ALONE + (recipe.round_from if all_of_it else 0.0)
    if beside is not None and beside.prior is not None and begun and recipe.mistakes:
        height, width = frames.shape[-2:]
        size, often = (height, width), recipe.mistakes
        change = partial(beside.with_mistakes, codec=codec, size=size, often=often, luck=generator)
    out = codec(frames, counts, rounding, change)
    target, weights = to_float(frames), recipe.weights
    weight = emphasis(target, recipe.emphasis)
    losses = reconstruction_losses(out.pixels, target, weight, weights)
    if beside is not None:
        beside.add_perceptual(losses, out.pixels, target)
        beside.add_gan(losses, out.pixels, target, progress)
    head = codec.label_head if weights.labels or weights.phrases else None
    told = told if head is not None and told is not None and told.shape[1] > 0 else None
    if beside is not None and rounding:
        said = None if head is None or told is None else told[:, len(head.sizes) :]
        beside.add_prior(losses, codec, out, said)
    if not all_of_it:
        return losses
    if weights.quantizer:
        losses["quantizer"] = out.quantizer_loss
    if head is not None and told is not None:
        found = head.losses(out.vectors, told, counts)
        losses |= {name: loss for name, loss in found.items() if getattr(weights, name)}
    return losses


def reached(codec: Codec, beside: Beside) -> Tensor:
    """Zero, with a gradient of zero for every parameter that is trained.

    Added to a loss it lets DistributedDataParallel, which waits for all gradients, take steps that
    some network has no part in yet: discriminators before their time, a codebook before rounding.
    """
    parameters = (*codec.parameters(), *beside.parameters())
    return 0 * torch.stack([p.sum() for p in parameters if p.requires_grad]).sum()


def trained_parameters(codec: Codec, recipe: Recipe) -> list[tuple[str, torch.nn.Parameter]]:
    """The named parameters that a recipe trains; the gradients of all others are switched off."""
    heads = tuple(f"backbone.{part}." for part in codec.backbone.decoder_parts)
    named = list(codec.named_parameters())
    for name, p in named:
        p.requires_grad_(recipe.train == "all" or name.startswith(heads))
    return [(name, p) for name, p in named if p.requires_grad]


def stand_beside(codec: Codec, recipe: Recipe, seed: int) -> Beside:
    """The networks beside a codec that a recipe's losses need."""
    weights = recipe.weights
    if recipe.train == "decoder":  # of what the prior hears, no draw of the grid knows
        weights = replace(weights, phrases=0.0, prior=weights.prior if recipe.mistakes else 0.0)
    return Beside(
        codec,
        weights,
        recipe.gan_from,
        recipe.gan_width,
        recipe.lecam,
        recipe.perceptual_path,
        seed,
    )


def clip_gradients(codec: Codec, beside: Beside, limit: float) -> Tensor:
    """Shorten the gradients of codec and networks beside it to `limit` each.

    Returns:
        The norm of the codec's before; not finite if any gradient is not.
    """
    norm = torch.nn.utils.clip_grad_norm_(codec.parameters(), limit)
    return norm + 0 * torch.nn.utils.clip_grad_norm_(list(beside.parameters()), limit)


def make_optimizer(codec: Codec, recipe: Recipe, beside: Beside) -> MuonAdamW:
    """Muon for the networks' kernels and matrices, AdamW for all else.

    With `recipe.train` of decoder, all else of the codec is frozen.
    """
    tables = {f"backbone.{name}.weight" for name in ("level", "hops")}
    tables |= {"label_head.read.weight", "label_head.read_quadrant.weight"}

    def is_matrix(name: str, _: Tensor) -> bool:
        other = name.startswith("quantizer.") or ".modulation." in name
        return recipe.matrices == "muon" and name not in tables and not other

    optimizer = MuonAdamW(
        trained_parameters(codec, recipe),
        matrix_lr=recipe.matrix_lr,
        lr=recipe.lr,
        weight_decay=recipe.weight_decay,
        is_matrix=is_matrix,
    )
    for network, lr, betas in (
        (beside.prior, recipe.lr, (0.9, 0.95)),
        (beside.adversary, recipe.gan_lr, (0.5, 0.9)),
    ):
        if network is not None:
            group = {"lr": lr, "peak": lr, "kind": "adamw", "betas": betas, "weight_decay": 0.0}
            optimizer.add_param_group({"params": list(network.parameters()), **group})
    return optimizer


class Learner:
    """A codec being trained: weights, optimizer, averaged weights and the step, to save and resume.

    Randomness comes from (seed, step), so that a resumed run equals an uninterrupted one when it is
    fed the same batches.
    """

    def __init__(
        self,
        codec: Codec,
        recipe: Recipe | None = None,
        seed: int = 0,
        precision: Precision = "fp32",
    ) -> None:
        self.codec, self.recipe, self.seed = codec, recipe or Recipe(), seed
        self.precision: Precision = precision
        check_recipe(codec, self.recipe)
        self.beside = stand_beside(codec, self.recipe, seed)
        self.optimizer = make_optimizer(codec, self.recipe, self.beside)
        self.average = Average(codec, self.recipe.average)
        self.step_number = 0
        self.num_skipped = 0  # steps whose loss or gradient was not finite

    def step(self, frames: Tensor, progress: float, told: Tensor | None = None) -> StepReport:
        """Train on clips uint8 (S, T, 3, H, W), with `progress` (0 to 1) of the run done."""
        self.codec.train()
        generator = step_generator(self.seed, self.step_number)
        with running(self.codec, self.precision):
            losses = training_losses(
                self.codec, frames, progress, self.recipe, generator, told, self.beside
            )
            total = self.recipe.weights.total(losses)
        self.optimizer.zero_grad()
        total.backward()
        norm = clip_gradients(self.codec, self.beside, self.recipe.clip)
        skipped = not bool(torch.isfinite(total) & torch.isfinite(norm))
        if skipped:
            self.num_skipped += 1
        else:
            self.optimizer.set_factor(self.recipe.schedule.factor(self.step_number, progress))
            self.optimizer.step()
            self.average.update(self.codec)
        self.step_number += 1
        values = {name: float(value.detach()) for name, value in losses.items()}
        return StepReport(float(total.detach()), values, float(norm), skipped)

    def finished(self) -> Codec:
        """The codec with its averaged weights, in eval mode; call it when training is over."""
        self.average.copy_to(self.codec)
        return self.codec.eval()

    def state_dict(self) -> dict[str, Any]:
        """Tensors and numbers from which `load_state_dict` goes on."""
        return {
            "codec": self.codec.state_dict(),
            "beside": self.beside.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average.state_dict(),
            "step": self.step_number,
            "num_skipped": self.num_skipped,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.codec.load_state_dict(state["codec"])
        self.beside.load_state_dict(state["beside"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.average.load_state_dict(state["average"])
        self.step_number, self.num_skipped = int(state["step"]), int(state["num_skipped"])


def step_generator(seed: int, step: int) -> torch.Generator:
    """The generator of one training step, the same whatever ran before."""
    return torch.Generator().manual_seed((seed * 1_000_003 + step) % 2**63)
