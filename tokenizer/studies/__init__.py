"""Token compression studies: curves of rate against distortion, ours and classical, compared."""
