"""A decoder's weights over several devices (FSDP2), and back in one place.

Knows torch's meshes and decoders. Knows no trainer.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard

from lm.model import Decoder
from tokenizer.ranks import whole


def shard(decoder: Decoder, mesh: DeviceMesh) -> None:
    """Spread a decoder's weights over a mesh of one dimension, in place.

    A block's weights are gathered while it works. Tables, head and last norm, which the loss uses
    after the forward pass, stay gathered until the backward pass is over.
    """
    for block in decoder.blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(decoder, mesh=mesh)


def whole_weights(module: nn.Module) -> dict[str, Tensor]:
    """The state of a module, sharded or not, in full on the CPU; every rank has to ask."""
    return {name: whole(value).detach().cpu() for name, value in module.state_dict().items()}
