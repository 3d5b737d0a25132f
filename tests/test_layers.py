"""Layers whose outcome may not depend on what stands beside a row or a block."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from tokenizer.layers import Linear, silu


@pytest.mark.parametrize("inputs", [1, 6, 8, 13, 384, 1152])
@pytest.mark.parametrize("outputs", [1, 3, 8, 16])
def test_rows_of_a_linear_map_come_out_alike(inputs: int, outputs: int) -> None:
    """Long rows are summed in parts, which depend on the number of rows where torch chooses."""
    torch.manual_seed(0)
    layer, row = Linear(inputs, outputs), torch.randn(1, inputs)
    with torch.no_grad():
        alone = layer(row)
        for count in (2, 3, 5, 11, 14, 40, 1100):
            found = layer(row.expand(count, -1).contiguous().unflatten(0, (1, count)))
            assert torch.equal(found, alone.expand(1, count, -1))
            lying = row.T.expand(-1, count).contiguous()
            assert torch.equal(layer(lying.T), alone.expand(count, -1))
    exact = F.linear(row.double(), layer.weight.double(), layer.bias.double())
    assert torch.allclose(alone.double(), exact, atol=1e-6)


def test_a_blocks_activation_is_its_own() -> None:
    torch.manual_seed(0)
    for shape in ((5, 3, 7), (4, 1), (9, 2, 13)):
        x = torch.randn(shape) * 3
        expected = F.silu(x)
        assert torch.equal(silu(x), expected)  # with gradients, x is left as it was
        with torch.no_grad():
            alone = torch.cat([silu(block.clone()) for block in x.split(1)])
            assert torch.equal(silu(x), alone)
        assert torch.allclose(alone, expected, atol=1e-6)
