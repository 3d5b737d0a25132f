"""Batches of clips."""

import pytest
import torch

from data.clip import Clip
from data.collation import collate


def clip_of(value, num_frames=2, height=4, width=6):
    frames = torch.full((num_frames, 3, height, width), value, dtype=torch.uint8)
    return Clip.from_frames(frames, 8.0, captions=(str(value),), source=f"{value}.mp4")


def test_clips_of_one_size_stack_and_share_memory():
    batch = collate([clip_of(1), clip_of(2), clip_of(3)])
    assert len(batch) == 3 and batch.frames.shape == (3, 2, 3, 4, 6)
    assert batch.frames[:, 0, 0, 0, 0].tolist() == [1, 2, 3]
    assert batch.timestamps.dtype == torch.float64 and batch.timestamps.shape == (3, 2)
    assert [clip.caption for clip in batch.clips] == ["1", "2", "3"]
    assert batch.clips[1].frames.data_ptr() == batch.frames[1].data_ptr()
    moved = batch.to(torch.device("cpu"), non_blocking=True)
    assert (moved.frames == batch.frames).all() and moved.clips == batch.clips


@pytest.mark.parametrize("other", [{"num_frames": 3}, {"height": 5}, {"width": 7}])
def test_different_sizes_are_named(other):
    with pytest.raises(ValueError, match=r"1.mp4 \(2 frames of 4x6\) and 2.mp4 \("):
        collate([clip_of(1), clip_of(2, **other)])
    with pytest.raises(ValueError, match="at least one"):
        collate([])
