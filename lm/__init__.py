"""The language model over interleaved text and video tokens. Knows no pixels."""
