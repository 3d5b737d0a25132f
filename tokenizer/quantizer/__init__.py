"""Quantizers behind one face: vectors in, codes and what the decoder sees out.

`face` holds what all share, `scalar`, `codebook` and `binary` the families. They know nothing of
grids, time or pixels.
"""

from tokenizer.quantizer.binary import BSQ, LFQ
from tokenizer.quantizer.codebook import VQ, ResidualVQ, SimVQ
from tokenizer.quantizer.face import Quantized, Quantizer, Unquantized
from tokenizer.quantizer.scalar import FSQ, ResidualFSQ

QUANTIZERS: dict[str, type[Quantizer]] = {
    kind.__name__: kind for kind in (FSQ, ResidualFSQ, VQ, ResidualVQ, SimVQ, LFQ, BSQ, Unquantized)
}

__all__ = [
    "BSQ",
    "FSQ",
    "LFQ",
    "QUANTIZERS",
    "VQ",
    "Quantized",
    "Quantizer",
    "ResidualFSQ",
    "ResidualVQ",
    "SimVQ",
    "Unquantized",
]
