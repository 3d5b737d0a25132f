"""`Adversary`: discriminators of frames (2D) and of clips (3D) that codec training is judged by.

One backward pass trains both sides: the codec sees the discriminators' weights as constants, the
discriminators see the codec's pixels as constants. So one optimizer holds all of it and a resumed
run equals an uninterrupted one. It knows pixels, not codecs.

Legend: S clips, T, H, W frames and pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from tokenizer.ranks import mean_over_ranks, num_ranks

MOST = 1e4  # largest adaptive weight (VQGAN)


def judge(space_only: bool, width: int) -> nn.Sequential:
    """A patch discriminator of three strides: (S, 3, T, H, W) to a score of each place.

    Without norm layers: those over a batch would make a clip's score depend on its neighbours.
    """
    time = 1 if space_only else 3
    layers: list[nn.Module] = []
    for inputs, outputs in ((3, width), (width, 2 * width), (2 * width, 4 * width)):
        kernel, stride = (time, 4, 4), (1 if space_only else 2, 2, 2)
        padding = (time // 2, 2, 2)  # of 2: even one pixel leaves a place
        layers += [nn.Conv3d(inputs, outputs, kernel, stride, padding), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, nn.Conv3d(4 * width, 1, 1))


class Adversary(nn.Module):
    """Hinge losses of two patch discriminators with LeCam regularisation (arXiv 2104.03310).

    Args:
        width: Channels of the first layer of each discriminator.
        lecam: Weight of the regularisation, which holds scores near their opposites' means.
        decay: Of the moving means of scores.
    """

    means: Tensor  # (2, 2): of each discriminator, its mean score of real and of made clips

    def __init__(self, width: int = 16, lecam: float = 0.001, decay: float = 0.99) -> None:
        super().__init__()
        if width < 1 or lecam < 0:
            raise ValueError(f"width={width}, lecam={lecam}: give a width of 1 and lecam of 0 up")
        self.frames, self.clips = judge(True, width), judge(False, width)
        self.lecam, self.decay = lecam, decay
        self.register_buffer("means", torch.zeros(2, 2))

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """Scores of both discriminators of pixels float (S, T, 3, H, W); higher is more real."""
        x = pixels.transpose(1, 2)
        return [self.frames(x), self.clips(x)]

    def fooling(self, made: Tensor) -> Tensor:
        """What the codec lowers: minus the mean score of its pixels, weights held constant."""
        weights = {k: v.detach() for k, v in self.named_parameters()}
        scores = functional_call(self, {**weights, **dict(self.named_buffers())}, (made,))
        return -torch.stack([score.mean() for score in scores]).mean()

    def telling(self, real: Tensor, made: Tensor) -> Tensor:
        """What the discriminators lower, pixels held constant; moves the means of scores."""
        real_scores, made_scores = self(real.detach()), self(made.detach())
        losses = []
        for good, bad, mean in zip(real_scores, made_scores, self.means.clone(), strict=True):
            hinge = F.relu(1 - good).mean() + F.relu(1 + bad).mean()
            held = F.relu(good - mean[1]).square().mean() + F.relu(mean[0] - bad).square().mean()
            losses.append(hinge / 2 + self.lecam * held)
        with torch.no_grad():
            now = torch.stack(
                [torch.stack([s.mean() for s in x]) for x in (real_scores, made_scores)]
            )
            now = mean_over_ranks(now)
            if bool(now.isfinite().all()):
                self.means.lerp_(now.T.to(self.means.dtype), 1 - self.decay)
        return torch.stack(losses).mean()


def balance(wanted: Tensor, fooling: Tensor, pixels: Tensor) -> Tensor:
    """By how much to scale `fooling` so that it pulls at the pixels as strongly as `wanted`.

    VQGAN (arXiv 2012.09841) compares gradients at the last layer's weights; at that layer's output
    the ratio needs no pass through the codec, and no knowledge of its layers.
    """
    pulls = (
        torch.autograd.grad(loss, pixels, retain_graph=True)[0].float()
        for loss in (wanted, fooling)
    )
    ours, theirs = ((mean_over_ranks(p.square().sum()) / num_ranks()).sqrt() for p in pulls)
    ratio = (ours / (theirs + 1e-4)).clamp(max=MOST)
    return torch.where(ratio.isfinite(), ratio, torch.zeros_like(ratio)).detach()
