"""The benchmark of drift by laws: what stays as it is does not drift, what fades does."""

import numpy as np
import pytest
import torch

from benchmarks.drift import (
    distances,
    measure,
    prompts_of,
    seconds_of,
    slots_right,
    statistics,
    to_and_fro,
)
from data.scenes import Oracle, Scenes
from lm.judging import Tally
from tokenizer.codec import Codec


def test_seconds_are_whole_and_in_order() -> None:
    frames = torch.arange(21)
    assert [part.tolist() for part in seconds_of(frames, 10)] == [
        list(range(10)),
        list(range(10, 20)),
    ]
    lengths = [len(part) for part in seconds_of(torch.arange(30), 7.5)]
    assert len(lengths) == 4 and sum(lengths) == 30


def test_to_and_fro_has_no_cuts() -> None:
    played = to_and_fro(torch.arange(3), 8)
    assert played.tolist() == [0, 1, 2, 2, 1, 0, 0, 1]


def test_true_clips_are_one_from_themselves() -> None:
    true = np.random.default_rng(0).normal(3, 2, (50, 6))
    assert distances(true, true).mean() == pytest.approx(1)
    moved = true.mean(0, keepdims=True) + 2 * true.std(0)
    assert distances(moved, true)[0] == pytest.approx(4)


def test_true_pixels_have_all_slots_and_fading_ones_lose_them(codec: Codec) -> None:
    world = Scenes("easy", split="unseen", num_frames=16, height=64, width=64)
    clips = prompts_of(world, 3)
    films = [to_and_fro(clip.frames, 40) for clip in clips]
    with torch.no_grad():
        true = statistics(codec, [part for film in films for part in seconds_of(film, 8)])
    prompts, tally = [clip.caption for clip in clips], Tally()
    measure(codec, films, prompts, 8, true, "true", tally)
    assert all(tally.share(f"true/slots/{second}") == 1 for second in range(5))
    dark = [film.clone() for film in films]
    for film in dark:
        film[24:] //= 8
    measure(codec, dark, prompts, 8, true, "dark", tally)
    for second in range(5):
        slots, far = (f"{name}/{second}" for name in ("slots", "distance"))
        if second < 3:
            assert tally.share(f"dark/{slots}") == 1
            assert tally.rights[f"dark/{far}"] == tally.rights[f"true/{far}"]
        else:
            assert tally.share(f"dark/{slots}") < 0.5
            assert tally.share(f"dark/{far}") > tally.share(f"true/{far}")
    with pytest.raises(ValueError, match="ask for fewer prompts"):
        prompts_of(Scenes("easy", split="unseen", num_clips=2), 3)


def test_motions_are_not_asked_of_each_second() -> None:
    clip = Scenes("easy", num_frames=16, height=64, width=64)[0]
    still = clip.frames[:1].repeat(8, 1, 1, 1)  # moves not at all
    right, total = slots_right(Oracle(), still, clip.caption)
    assert right == total > 0
