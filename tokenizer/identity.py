"""What tells one trained network from another: a hash of its design and weights.

Knows modules and bytes only.
"""

from __future__ import annotations

import hashlib

from torch import nn


def weights_hash(module: nn.Module, design: str) -> str:
    """SHA-256, in hexadecimal, of a module's design and of all its weights as float32."""
    digest = hashlib.sha256(design.encode())
    for name, value in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def weights_version(module: nn.Module) -> int:
    """A number that changes when a weight (or codebook) is changed in place or replaced."""
    weights = [*module.parameters(), *module.buffers()]
    return hash((sum(w._version for w in weights), tuple(w.data_ptr() for w in weights)))
