"""The video codec: clips to tokens and back, at any rate. Knows no text (pieces are in lm/)."""
