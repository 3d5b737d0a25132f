"""Perceptual distance between frames, by the features of a VGG16 whose weights the user brings.

LPIPS (arXiv 1801.03924) where the file has its linear weights too. Knows frames only: neither
codecs nor training.

Legend: S clips, T, H, W frames and pixels, N frames.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

STAGES = ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28))  # places in torchvision's VGG16
LAYOUT = (
    "a safetensors file of torchvision's VGG16 names, features.N.weight and features.N.bias for N "
    "of 0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28, with or without LPIPS's "
    "lin0.model.1.weight to lin4.model.1.weight (1, channels, 1, 1)"
)
MEAN, SPREAD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, pixels from 0 to 1


class Perceptual(nn.Module):
    """Distance of features, each normalised over its channels; it is never trained.

    Args:
        weights: What the file holds, by name; see LAYOUT.

    Raises:
        ValueError: A weight is missing or of a shape that does not fit.
    """

    def __init__(self, weights: dict[str, Tensor]) -> None:
        super().__init__()
        channels = 3
        for i in (place for stage in STAGES for place in stage):
            for name in (f"features.{i}.weight", f"features.{i}.bias"):
                value = weights.get(name)
                shape = (channels, 3, 3) if name.endswith("weight") else ()
                if value is None or tuple(value.shape[1:]) != shape:
                    found = "missing" if value is None else f"of shape {tuple(value.shape)}"
                    raise ValueError(f"{name} is {found}: give {LAYOUT}")
                self.register_buffer(name.replace(".", "_"), value.float(), persistent=False)
            channels = len(weights[f"features.{i}.weight"])
            if len(weights[f"features.{i}.bias"]) != channels:
                raise ValueError(f"features.{i}.bias has not {channels} numbers: give {LAYOUT}")
        names = [f"lin{k}.model.1.weight" for k in range(len(STAGES))]
        self.is_lpips = all(name in weights for name in names)
        if not self.is_lpips and any(name in weights for name in names):
            raise ValueError(f"some of {', '.join(names)} are missing: give all or none")
        for k, stage in enumerate(STAGES):
            width = len(weights[f"features.{stage[-1]}.weight"])
            line = weights[names[k]] if self.is_lpips else torch.full((width,), 1 / width)
            if line.numel() != width:
                raise ValueError(f"{names[k]} has not {width} numbers: give {LAYOUT}")
            self.register_buffer(f"line{k}", line.float().flatten(), persistent=False)
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("spread", torch.tensor(SPREAD).view(3, 1, 1), persistent=False)

    def features(self, frames: Tensor) -> list[Tensor]:
        """Features of each stage, of unit length over channels, of (N, 3, H, W) from -1 to 1."""
        x = ((frames + 1) / 2 - self.mean) / self.spread  # pyright: ignore
        found = []
        for k, stage in enumerate(STAGES):
            if k and min(x.shape[-2:]) < 2:
                break  # too small a picture for the deeper stages
            x = F.max_pool2d(x, 2) if k else x
            for i in stage:
                weight, bias = (
                    getattr(self, f"features_{i}_{what}") for what in ("weight", "bias")
                )
                x = F.relu(F.conv2d(x, weight, bias, padding=1))
            found.append(x / (x.square().sum(1, keepdim=True) + 1e-10).sqrt())
        return found

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Distance of each pair of frames (N,), 0 if alike.

        Args:
            a: float (N, 3, H, W), -1 black to 1 white.
            b: The same.
        """
        with torch.autocast(a.device.type, enabled=False):
            total = torch.zeros(len(a), device=a.device)
            for k, (x, y) in enumerate(
                zip(self.features(a.float()), self.features(b.float()), strict=True)
            ):
                line = getattr(self, f"line{k}").view(-1, 1, 1)
                total = total + ((x - y).square() * line).sum(1).mean((1, 2))
            return total


def load_perceptual(path: Path | str) -> Perceptual:
    """The distance whose weights stand at `path`; LAYOUT says in which layout.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not of that layout.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"perceptual weights {path}: no such file: give {LAYOUT}")
    try:
        return Perceptual(load_file(path))
    except SafetensorError as error:
        raise ValueError(f"{path}: not a safetensors file ({error}): give {LAYOUT}") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def perceptual_distance(network: Perceptual, a: Tensor, b: Tensor) -> float:
    """Mean distance of two videos' frames, both uint8 (T, 3, H, W)."""
    with torch.no_grad():
        x, y = (frames.float() / 127.5 - 1 for frames in (a, b))
        return float(network(x, y).mean())
