"""A codec learns: crops, dropping, losses, and steps that resume bit for bit."""

from __future__ import annotations

import io
import math

import pytest
import torch

from tokenizer.backbone import ConvBackbone
from tokenizer.codec import Codec
from tokenizer.learning import SUMMARY_ONLY, Learner, choose_crops, draw_counts
from tokenizer.losses import LossWeights, emphasis, reconstruction_losses
from tokenizer.optimisation import Schedule
from tokenizer.recipe import Recipe


def squares(clips: int, seed: int = 0, length: int = 4, size: int = 24) -> torch.Tensor:
    """Clips of one small moving square on black."""
    generator = torch.Generator().manual_seed(seed)
    frames = torch.zeros(clips, length, 3, size, size, dtype=torch.uint8)
    start = torch.randint(0, size - 8, (clips, 2), generator=generator)
    colour = torch.randint(64, 256, (clips, 3, 1, 1), generator=generator).to(torch.uint8)
    for i in range(clips):
        for t in range(length):
            y, x = int(start[i, 0]), min(int(start[i, 1]) + t, size - 4)
            frames[i, t, :, y : y + 4, x : x + 4] = colour[i]
    return frames


def small() -> Codec:
    torch.manual_seed(0)
    return Codec(ConvBackbone(channels=12, latent_channels=16, latent_blocks=1), block_frames=4)


def test_crops_follow_what_moves() -> None:
    frames = squares(64)
    crops = choose_crops(frames, 16, torch.Generator().manual_seed(0))
    assert crops.shape == (64, 4, 3, 16, 16)
    lit = (crops.flatten(1).amax(1) > 0).float().mean()
    assert lit > 0.95
    kept = crops.float().sum() / frames.float().sum()
    assert kept > 0.85
    assert choose_crops(frames, 32, torch.Generator()).shape == frames.shape
    assert choose_crops(frames[..., :9], 16, torch.Generator()).shape == (64, 4, 3, 16, 9)


def test_counts_are_full_before_and_mixed_after() -> None:
    recipe, generator = Recipe(drop_from=0.5, full_rate=0.5), torch.Generator().manual_seed(0)
    assert set(draw_counts(50, 64, 0.49, recipe, generator).tolist()) == {64}
    counts = draw_counts(4000, 64, 0.5, recipe, generator)
    assert 1 <= int(counts.min()) and int(counts.max()) == 64
    assert 0.45 < (counts == 64).float().mean() < 0.6
    lower = counts[counts < 64].float().log()
    assert abs(float(lower.mean()) - math.log(64) / 2) < 0.2  # log-uniform


def test_counts_with_a_summary_mostly_keep_all_of_it() -> None:
    recipe, generator = Recipe(drop_from=0.0, full_rate=0.0), torch.Generator().manual_seed(0)
    counts = draw_counts(4000, 80, 0.5, recipe, generator, summary=16)
    assert 1 <= int(counts.min()) and int(counts.max()) == 80
    alone = (counts <= 16).float().mean()
    assert abs(alone - SUMMARY_ONLY) < 0.03
    assert set(counts[counts <= 16].tolist()) == set(range(1, 17))


def test_emphasis_has_mean_one_and_favours_what_moves() -> None:
    frames = squares(4).float() / 127.5 - 1
    weight = emphasis(frames, 1.0)
    assert weight.shape == (4, 4, 1, 24, 24)
    assert float(weight.mean()) == pytest.approx(1.0, abs=1e-5)
    lit = frames.amax(2, keepdim=True) > -0.9
    assert weight[lit].mean() > 4 * weight[~lit].mean()
    assert torch.equal(emphasis(frames, 0.0), torch.ones_like(weight))


def test_losses_by_name() -> None:
    a, b = torch.zeros(1, 1, 3, 2, 2), torch.full((1, 1, 3, 2, 2), 0.5)
    losses = reconstruction_losses(a, b, torch.ones(1, 1, 1, 2, 2), LossWeights())
    assert float(losses["l2"]) == 0.25 and float(losses["l1"]) == 0.5
    assert float(LossWeights(l2=2.0, l1=0.3).total(losses)) == pytest.approx(0.65)


def test_one_clip_is_learned_by_heart() -> None:
    codec, frames = small(), squares(1, size=16)
    recipe = Recipe(crop=0, drop_from=1.0, average=0.0, schedule=Schedule(warmup_steps=5))
    learner = Learner(codec, recipe)
    for step in range(120):
        learner.step(frames, step / 120)
    learner.finished()
    again = codec.decode(codec.encode(frames[0])).frames
    error = (again.float() - frames[0].float()).square().mean()
    assert 10 * math.log10(255**2 / float(error)) > 30


def test_a_resumed_learner_equals_an_uninterrupted_one() -> None:
    recipe = Recipe(crop=8, round_from=0.2, drop_from=0.4)
    batches = [squares(3, seed) for seed in range(6)]
    straight = Learner(small(), recipe, seed=7)
    for i, batch in enumerate(batches):
        straight.step(batch, i / 6)
    first = Learner(small(), recipe, seed=7)
    for i in range(3):
        first.step(batches[i], i / 6)
    buffer = io.BytesIO()
    torch.save(first.state_dict(), buffer)
    buffer.seek(0)
    second = Learner(small(), recipe, seed=7)
    second.load_state_dict(torch.load(buffer, weights_only=True))
    for i in range(3, 6):
        second.step(batches[i], i / 6)
    assert second.finished().codec_id == straight.finished().codec_id


def test_a_step_that_is_not_finite_changes_nothing() -> None:
    learner = Learner(small())
    before = learner.codec.codec_id
    with torch.no_grad():
        bias = dict(learner.codec.named_parameters())["backbone.head.bias"]
        old, bias[0] = bias[0].clone(), math.nan
    report = learner.step(squares(1), 0.0)
    with torch.no_grad():
        bias[0] = old
    assert report.skipped and learner.num_skipped == 1
    assert learner.codec.codec_id == before
