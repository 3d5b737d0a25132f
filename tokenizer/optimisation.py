"""Optimisation shared by codec and language model: Muon with AdamW, schedules, averaged weights.

Pure torch: knows parameters and numbers, neither Lightning nor what the parameters belong to.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from tokenizer.ranks import like, whole

PORTION = 2**26  # numbers of matrices that Muon updates together, each whole on every rank


@dataclass(frozen=True)
class Schedule:
    """Learning rate over a run, as a factor of its peak.

    It rises over the first `warmup_steps`, stays flat until the fraction `flat` of the run, then
    falls along `shape` to `floor`.
    """

    warmup_steps: int = 30
    flat: float = 0.5  # fraction of the run, 0 to 1
    shape: Literal["linear", "cosine"] = "linear"
    floor: float = 0.02  # fraction of the peak at the end

    def __post_init__(self) -> None:
        if self.warmup_steps < 0:
            raise ValueError(f"schedule.warmup_steps={self.warmup_steps}: give 0 or more")
        for name in ("flat", "floor"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"schedule.{name}={getattr(self, name)}: give a share, 0 to 1")

    def factor(self, step: int, progress: float) -> float:
        """The factor at optimizer step `step` from 0, with `progress` (0 to 1) of the run done."""
        warm = min(1.0, (step + 1) / max(1, self.warmup_steps))
        if progress <= self.flat or self.flat >= 1:
            return warm
        x = min(1.0, (progress - self.flat) / (1 - self.flat))
        fall = 1 - x if self.shape == "linear" else (1 + math.cos(math.pi * x)) / 2
        return warm * (self.floor + (1 - self.floor) * fall)


def orthogonalised(matrices: Sequence[Tensor], steps: int = 5) -> list[Tensor]:
    """Matrices (rows, columns) of any shapes with their singular values pushed to about 1.

    Newton-Schulz with Muon's coefficients (https://kellerjordan.github.io/posts/muon/), iterated
    on the Gram matrices of the short sides: those of one size go together, and the long sides are
    multiplied only twice.
    """
    flat = [(x if x.shape[0] <= x.shape[1] else x.mT).float() for x in matrices]
    by_side: dict[int, list[int]] = {}
    for i, x in enumerate(flat):
        by_side.setdefault(x.shape[0], []).append(i)
    done: list[Tensor] = list(flat)
    for side, members in by_side.items():
        gram = torch.stack([flat[i] @ flat[i].mT for i in members])  # (M, side, side)
        norm = gram.diagonal(dim1=1, dim2=2).sum(1).clamp(min=1e-14).sqrt().view(-1, 1, 1)
        gram = gram / norm.square()
        total = torch.eye(side, device=gram.device).expand_as(gram) / norm
        for step in range(steps):
            factor = torch.baddbmm(gram, gram, gram, beta=-4.7750, alpha=2.0315)
            factor.diagonal(dim1=1, dim2=2).add_(3.4445)
            total = factor @ total
            if step < steps - 1:
                gram = factor @ gram @ factor
        for i, part in zip(members, total, strict=True):
            done[i] = part @ flat[i]
    return [y if x.shape[0] <= x.shape[1] else y.mT for x, y in zip(matrices, done, strict=True)]


def _portions(matrices: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Matrices in turn, as many together as memory for their updates allows."""
    portion: list[Tensor] = []
    for matrix in matrices:
        if portion and sum(p.numel() for p in portion) + matrix.numel() > PORTION:
            yield portion
            portion = []
        portion.append(matrix)
    if portion:
        yield portion


class MuonAdamW(torch.optim.Optimizer):
    """Muon for matrices and flattened convolution kernels, AdamW for all other parameters.

    `torch.optim.Muon` takes plain matrices only and computes in bf16, which many CPUs lack; this
    one works in fp32 and treats equal sizes together. Steps of matrices are scaled by
    sqrt(max(1, rows / columns)).

    Args:
        parameters: Named parameters; those without gradient are left out.
        matrix_lr: Peak learning rate of Muon.
        lr: Peak learning rate of AdamW.
        betas: AdamW's averaging; also of Muon's momentum in the first place.
        weight_decay: Decoupled, of matrices only.
        is_matrix: Tells which parameters of two or more dimensions go to Muon, by name.
        scale: Factor by name on AdamW's learning rate of what has two or more dimensions.
    """

    def __init__(
        self,
        parameters: Iterable[tuple[str, nn.Parameter]],
        matrix_lr: float = 0.02,
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.9, 0.95),
        weight_decay: float = 0.01,
        momentum: float = 0.95,
        is_matrix: Callable[[str, Tensor], bool] | None = None,
        scale: Callable[[str], float] | None = None,
    ) -> None:
        named = [(name, p) for name, p in parameters if p.requires_grad]
        chosen = is_matrix or (lambda name, p: True)
        matrices = [p for name, p in named if p.ndim >= 2 and chosen(name, p)]
        taken = {id(p) for p in matrices}
        rest = [(name, p) for name, p in named if id(p) not in taken]
        scaled: dict[float, list[nn.Parameter]] = {}
        for name, p in rest:
            if p.ndim >= 2:
                scaled.setdefault(1.0 if scale is None else scale(name), []).append(p)
        groups: list[dict[str, Any]] = [
            {
                "params": matrices,
                "lr": matrix_lr,
                "peak": matrix_lr,
                "kind": "muon",
                "momentum": momentum,
                "weight_decay": weight_decay,
            },
            *(
                {
                    "params": some,
                    "lr": lr * factor,
                    "peak": lr * factor,
                    "kind": "adamw",
                    "betas": betas,
                    "weight_decay": weight_decay / factor,  # what is left each step stays the same
                }
                for factor, some in scaled.items()
            ),
            {
                "params": [p for _, p in rest if p.ndim < 2],
                "lr": lr,
                "peak": lr,
                "kind": "adamw",
                "betas": betas,
                "weight_decay": 0.0,
            },
        ]
        super().__init__([group for group in groups if group["params"]], {})

    def set_factor(self, factor: float) -> None:
        """Scale every group's learning rate to `factor` of its peak."""
        for group in self.param_groups:
            group["lr"] = group["peak"] * factor

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # pyright: ignore
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            (self._muon if group["kind"] == "muon" else self._adamw)(group)
        return loss

    def _muon(self, group: dict[str, Any]) -> None:
        for members in _portions([p for p in group["params"] if p.grad is not None]):
            self._muon_portion(group, members)

    def _muon_portion(self, group: dict[str, Any], members: list[Tensor]) -> None:
        lr, beta, decay = group["lr"], group["momentum"], group["weight_decay"]
        ahead = []
        for p in members:
            assert p.grad is not None
            if not self.state[p]:
                self.state[p]["momentum"] = torch.zeros_like(p)
            average = self.state[p]["momentum"].lerp_(p.grad, 1 - beta)
            ahead.append(whole(p.grad.lerp(average, beta)).flatten(1))  # Nesterov
        updates = orthogonalised(ahead)
        for p, update in zip(members, updates, strict=True):
            scale = lr * math.sqrt(max(1.0, update.shape[0] / update.shape[1]))
            step = like(p, update.reshape(p.shape).to(p.dtype))
            p.mul_(1 - lr * decay).add_(step, alpha=-scale)

    def _adamw(self, group: dict[str, Any]) -> None:
        lr, (beta1, beta2), decay = group["lr"], group["betas"], group["weight_decay"]
        for p in group["params"]:
            if p.grad is None:
                continue
            state = self.state[p]
            if not state:
                state["step"] = torch.zeros(())
                state["mean"], state["square"] = torch.zeros_like(p), torch.zeros_like(p)
            state["step"] += 1
            count = float(state["step"])
            state["mean"].lerp_(p.grad, 1 - beta1)
            state["square"].mul_(beta2).addcmul_(p.grad, p.grad, value=1 - beta2)
            scale = (state["square"] / (1 - beta2**count)).sqrt_().add_(1e-8)
            p.mul_(1 - lr * decay)
            p.addcdiv_(state["mean"], scale, value=-lr / (1 - beta1**count))


class Average(nn.Module):
    """Exponential moving average of a module's parameters, young averages weighing less.

    A module itself, so that it moves to devices and is spread over them as what it follows.

    Args:
        module: The module followed; its buffers are not averaged.
        decay: Weight of the past, 0 to below 1, once enough steps were seen; 0 follows exactly.
    """

    def __init__(self, module: nn.Module, decay: float = 0.99) -> None:
        super().__init__()
        if not 0 <= decay < 1:
            raise ValueError(f"decay={decay}: the average's decay lies in [0, 1)")
        self.decay = decay
        self.names = [name for name, _ in module.named_parameters()]
        kept = [nn.Parameter(p.detach().clone(), False) for p in module.parameters()]
        self.kept = nn.ParameterList(kept)
        self.register_buffer("num_updates", torch.zeros((), dtype=torch.int64))
        self.num_updates: Tensor

    @property
    def weights(self) -> dict[str, Tensor]:
        """The averaged weights by name."""
        return dict(zip(self.names, self.kept, strict=True))

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Take the module's present weights into the average."""
        seen = int(self.num_updates)
        decay = min(self.decay, (1 + seen) / (10 + seen))
        self.num_updates += 1
        for kept, p in zip(self.kept, module.parameters(), strict=True):
            kept.lerp_(p, 1 - decay)

    @torch.no_grad()
    def copy_to(self, module: nn.Module) -> None:
        """Write the averaged weights into a module."""
        for kept, p in zip(self.kept, module.parameters(), strict=True):
            p.copy_(kept)

    @torch.no_grad()
    def swap(self, module: nn.Module) -> None:
        """Let the module have the averaged weights and keep its own, or the other way round."""
        for kept, p in zip(self.kept, module.parameters(), strict=True):
            own = p.clone()
            p.copy_(kept)
            kept.copy_(own)

    @contextmanager
    def applied_to(self, module: nn.Module) -> Iterator[None]:
        """Within the block the module has the averaged weights, afterwards its own again."""
        self.swap(module)
        try:
            yield
        finally:
            self.swap(module)
