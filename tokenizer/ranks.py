"""What the processes of a distributed run tell each other about a batch.

Asked anew each time: a process group may start after a first pass, which vector_quantize_pytorch's
cached answer misses. Knows tensors, neither quantizers nor losses.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch import distributed as dist
from torch.nn import functional as F


def num_ranks() -> int:
    """Processes that train together, 1 without a process group."""
    together = dist.is_available() and dist.is_initialized()
    return dist.get_world_size() if together else 1


def own_share(drawn: Tensor) -> Tensor:
    """This rank's part of what was drawn for the clips of all ranks, which stand on the last axis.

    So a clip's luck is that of its place in the whole batch, and no two ranks' clips share it.
    """
    if num_ranks() == 1:
        return drawn
    return drawn.chunk(num_ranks(), -1)[dist.get_rank()]


def sum_over_ranks(x: Tensor) -> Tensor:
    """The sum of all ranks' numbers, without gradient."""
    if num_ranks() == 1:
        return x
    total = x.detach().clone()
    dist.all_reduce(total)
    return total


def whole(x: Tensor) -> Tensor:
    """All of a tensor that may be spread over ranks, every one of which has to ask."""
    if num_ranks() == 1:
        return x
    from torch.distributed.tensor import DTensor  # a second's import, for sharded runs only

    return x.full_tensor() if isinstance(x, DTensor) else x


def like(p: Tensor, x: Tensor) -> Tensor:
    """`x`, which every rank has all of, spread over the ranks as `p` is."""
    if num_ranks() == 1:
        return x
    from torch.distributed.tensor import DTensor, Replicate

    if not isinstance(p, DTensor):
        return x
    everywhere = DTensor.from_local(x, p.device_mesh, [Replicate()] * p.device_mesh.ndim)
    return everywhere.redistribute(placements=p.placements)


def mean_over_ranks(x: Tensor) -> Tensor:
    """The mean over all ranks, with the gradient of this rank's own share of it.

    That gradient is passed on undivided: the trainer averages the ranks' gradients, and their
    average is then the gradient of one process with the whole batch.
    """
    if num_ranks() == 1:
        return x
    return sum_over_ranks(x) / num_ranks() + (x - x.detach())


def gather_rows(rows: Tensor) -> Tensor:
    """The rows (M, ...) of all ranks in the order of ranks, without gradient; any M on each."""
    if num_ranks() == 1:
        return rows.detach()
    count = torch.tensor([len(rows)], device=rows.device)
    counts = [torch.empty_like(count) for _ in range(num_ranks())]
    dist.all_gather(counts, count)
    lengths = [int(each) for each in counts]
    missing = max(lengths) - len(rows)
    padded = F.pad(rows.detach(), (0, 0) * (rows.ndim - 1) + (0, missing)).contiguous()
    everyone = [torch.empty_like(padded) for _ in lengths]
    dist.all_gather(everyone, padded)
    return torch.cat([part[:length] for part, length in zip(everyone, lengths, strict=True)])
