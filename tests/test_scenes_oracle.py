"""The oracle reads true renderings right, blurred ones nearly, and noise not at all."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from data.scenes import Oracle, Reading, Scenes, check_oracle
from data.scenes.score import compare, total_score
from data.scenes.seeing import connect


def test_oracle_is_right_on_true_renderings() -> None:
    small = check_oracle("easy", 100, num_frames=8, height=32, width=32)
    assert min(small.accuracies.values()) >= 0.98, str(small)
    standard = check_oracle("standard", 70)
    assert min(standard.accuracies.values()) >= 0.98, str(standard)
    assert "scenes:standard/heldout 16x64x64, n=70, seed=0: colour 1.0" in str(standard)


@pytest.mark.parametrize(("num_frames", "height", "width"), [(8, 32, 48), (17, 96, 64)])
def test_oracle_reads_other_sizes_and_lengths(num_frames: int, height: int, width: int) -> None:
    check = check_oracle("easy", 20, num_frames=num_frames, height=height, width=width)
    assert check.accuracies["exact"] >= 0.9, str(check)


def test_oracle_stands_blur_and_noise() -> None:
    world, oracle = Scenes("easy", num_frames=8, height=32, width=32), Oracle("easy")
    luck = torch.Generator().manual_seed(0)
    scores = []
    for clip in world.batch(range(40)):
        soft = torch.nn.functional.avg_pool2d(clip.frames.float(), 3, 1, 1)
        noisy = soft + 8 * torch.randn(soft.shape, generator=luck)
        scores.append(oracle.score_video(noisy.clamp(0, 255).byte(), clip.truth or {}))
    assert total_score(scores).accuracy("colour") >= 0.95
    assert total_score(scores).exact_rate >= 0.85


def test_noise_earns_next_to_nothing() -> None:
    luck = np.random.default_rng(0)
    truth = Scenes("easy").plans([0])[0].reading
    oracle = Oracle("easy")
    scores = [
        oracle.score_video(luck.integers(0, 256, (8, 3, 32, 32)).astype(np.uint8), truth)
        for _ in range(5)
    ]
    patches = np.kron(luck.integers(0, 2, (8, 3, 4, 4)) * 255, np.ones((8, 8))).astype(np.uint8)
    total = total_score([*scores, oracle.score_video(patches, truth)])
    assert total.exact == 0 and total.accuracy("motion") < 0.2


def test_empty_clip_shows_nothing() -> None:
    black = np.zeros((4, 3, 16, 16), dtype=np.uint8)
    assert Oracle().read(black) == Reading()
    assert Oracle().score_video(black, "a red circle moves left").exact == 0


def test_wrong_colour_lowers_the_score() -> None:
    world = Scenes("easy", num_frames=8, height=32, width=32)
    clip = next(
        c for c in world.batch(range(20)) if c.truth and c.truth["objects"][0]["colour"] == "red"
    )
    assert clip.truth
    right = Oracle("easy").score_video(clip.frames, clip.truth)
    wrong = Oracle("easy").score_video(clip.frames[:, [2, 0, 1]], clip.truth)
    assert right.exact == 1
    assert wrong.exact == 0 and wrong.accuracy("colour") == 0 and wrong.accuracy("shape") == 1


def test_video_is_scored_by_what_a_prompt_says() -> None:
    world = Scenes("standard", num_frames=16, height=64, width=64)
    for clip in world.batch(range(12)):
        for caption in clip.captions:
            assert Oracle().score_video(clip.frames, caption).exact == 1, caption
    reverse = Oracle().score_video(clip.frames.flip(0), clip.captions[0])
    assert set(reverse.total) >= {"colour", "shape", "motion", "count"}


def test_extra_objects_cost_precision() -> None:
    frames = np.zeros((8, 3, 48, 48), dtype=np.uint8)
    frames[:, 0, 4:14, 4:14] = 230
    one = Oracle().score_video(frames, "a red square stays still")
    frames[:, 1, 30:40, 30:40] = 220
    two = Oracle().score_video(frames, "a red square stays still")
    assert one.exact == 1 and two.exact == 0
    assert two.precision("colour") == 0.5 and two.recall("colour") == 1


def test_oracle_explains_bad_input() -> None:
    with pytest.raises(ValueError, match="give uint8"):
        Oracle().read(np.zeros((3, 8, 8), dtype=np.uint8))
    with pytest.raises(ValueError, match="choose one of easy"):
        Oracle("tiny")


def test_pieces_connect_within_a_frame_and_a_colour() -> None:
    labels = np.zeros((2, 5, 6), dtype=np.int16)
    labels[0, 1:4, 1] = labels[0, 3, 1:4] = labels[0, 1:4, 3] = 1  # a U: one piece
    labels[0, 1, 2] = 2  # another colour in its mouth
    labels[1, 3, 3] = 1  # the next frame
    pieces, count = connect(labels)
    assert count == 3 and len(np.unique(pieces[labels > 0])) == 3
    assert pieces[0, 1, 1] == pieces[0, 1, 3] != pieces[1, 3, 3]
    assert (pieces[labels == 0] == 0).all()


def test_readings_survive_json_and_match_themselves() -> None:
    for plan in Scenes("hard").plans(range(60)):
        again = Reading.from_json(plan.reading.to_json())
        assert again == plan.reading and compare(again, plan.reading).exact == 1
    with pytest.raises(ValueError, match="objects"):
        Reading.from_json({"colour": "red"})
