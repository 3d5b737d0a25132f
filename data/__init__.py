"""Clips: reading, writing, sampling, sources and made worlds. Knows no codec and no vocabulary."""
