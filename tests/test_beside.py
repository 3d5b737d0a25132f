"""What stands beside a codec in training: discriminators, perceptual distance, prior of codes."""

from __future__ import annotations

import io
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from data.labels import ABSENT
from tokenizer.adversary import Adversary, balance
from tokenizer.backbone import ConvBackbone
from tokenizer.code_prior import CodePrior
from tokenizer.codec import Codec
from tokenizer.label_head import LabelHead
from tokenizer.learning import Learner, stand_beside, step_generator, training_losses
from tokenizer.losses import LossWeights
from tokenizer.ordering import order_grid
from tokenizer.perceptual import STAGES, Perceptual, load_perceptual, perceptual_distance
from tokenizer.quantizer import FSQ
from tokenizer.recipe import Recipe

Losses = dict[str, float]

WIDTHS = (2, 3, 4, 4, 5)


def vgg(lpips: bool = False) -> dict[str, Tensor]:
    """Random weights in the layout of a file, very narrow."""
    luck, weights, channels = torch.Generator().manual_seed(0), {}, 3
    for width, stage in zip(WIDTHS, STAGES, strict=True):
        for i in stage:
            weights[f"features.{i}.weight"] = torch.randn(width, channels, 3, 3, generator=luck)
            weights[f"features.{i}.bias"] = torch.randn(width, generator=luck)
            channels = width
    if lpips:
        for k, width in enumerate(WIDTHS):
            weights[f"lin{k}.model.1.weight"] = torch.rand(1, width, 1, 1, generator=luck)
    return weights


def small() -> Codec:
    torch.manual_seed(0)
    backbone = ConvBackbone(dim=2, channels=4, latent_channels=6, latent_blocks=1, summary=2)
    return Codec(backbone, FSQ([4, 3]), block_frames=4)


def noise(clips: int, seed: int = 0) -> Tensor:
    luck = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (clips, 4, 3, 16, 16), dtype=torch.uint8, generator=luck)


EVERYTHING = Recipe(
    weights=LossWeights(gan=0.1, prior=0.1, perceptual=0.1),
    crop=0,
    gan_from=0.3,
    gan_width=4,
    mistakes=0.5,
)


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    save_file(vgg(), tmp_path / "vgg.safetensors")
    return replace(EVERYTHING, perceptual_path=str(tmp_path / "vgg.safetensors"))


def test_a_run_with_everything_beside_resumes_to_the_bit(recipe: Recipe) -> None:
    def go(learner: Learner, steps: range) -> list[set[str]]:
        return [set(learner.step(noise(2, s), s / 6).losses) for s in steps]

    straight, first, second = (Learner(small(), recipe, seed=3) for _ in range(3))
    names = go(straight, range(6))
    assert names[0] == {"l2", "l1", "perceptual", "quantizer"}  # neither codes nor judges yet
    assert names[2] == names[0] | {"discriminator", "prior"}
    assert names[3] == names[2] | {"gan"}
    go(first, range(4))
    buffer = io.BytesIO()
    torch.save(first.state_dict(), buffer)
    buffer.seek(0)
    second.load_state_dict(torch.load(buffer, weights_only=True))
    go(second, range(4, 6))
    ours, theirs = straight.beside.state_dict(), second.beside.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
    assert not any("perceptual" in name for name in ours)
    assert second.finished().codec_id == straight.finished().codec_id


def test_codec_and_judges_do_not_train_one_another_the_wrong_way() -> None:
    judges, made = Adversary(4), torch.randn(2, 4, 3, 16, 16, requires_grad=True)
    judges.fooling(made).backward()
    assert made.grad is not None and bool(made.grad.any())
    assert all(p.grad is None for p in judges.parameters())
    made.grad = None
    judges.telling(torch.randn(2, 4, 3, 16, 16), made).backward()
    assert made.grad is None
    assert all(p.grad is not None and bool(p.grad.any()) for p in judges.parameters())


@pytest.mark.parametrize("shape", [(1, 1, 3, 1, 1), (2, 5, 3, 7, 3)])
def test_judges_take_any_size(shape: tuple[int, ...]) -> None:
    judges = Adversary(2)
    assert bool(judges.telling(torch.randn(shape), torch.randn(shape)).isfinite())


def test_judges_learn_to_tell() -> None:
    torch.manual_seed(0)
    judges, real, made = Adversary(4), torch.rand(4, 2, 3, 8, 8), -torch.rand(4, 2, 3, 8, 8)
    optimizer = torch.optim.Adam(judges.parameters(), 1e-2)
    for _ in range(30):
        optimizer.zero_grad()
        judges.telling(real, made).backward()
        optimizer.step()
    for good, bad in zip(judges(real), judges(made), strict=True):
        assert good.mean() > 0.5 and bad.mean() < -0.5
    assert bool((judges.means[:, 0] > judges.means[:, 1]).all())


def test_what_is_not_finite_leaves_means_and_codec_alone() -> None:
    judges = Adversary(2)
    judges.telling(torch.full((1, 2, 3, 8, 8), math.nan), torch.zeros(1, 2, 3, 8, 8))
    assert not judges.means.any()
    learner = Learner(small(), replace(EVERYTHING, weights=LossWeights(gan=0.1), mistakes=0.0))
    before = learner.codec.codec_id
    assert learner.beside.adversary is not None
    with torch.no_grad():
        next(learner.beside.adversary.parameters()).fill_(math.nan)
    assert learner.step(noise(1), 0.9).skipped and learner.codec.codec_id == before


def test_balanced_pulls_are_equal() -> None:
    pixels = torch.randn(10, requires_grad=True)
    wanted, fooling = pixels.square().sum(), 1000 * pixels.sum()
    scale = balance(wanted, fooling, pixels)
    pull = torch.autograd.grad(scale * fooling, pixels)[0].norm()
    assert float(pull) == pytest.approx(float(2 * pixels.detach().norm()), rel=1e-4)


@pytest.mark.parametrize("lpips", [False, True])
def test_perceptual_distance_is_one_and_reads_its_file(lpips: bool, tmp_path: Path) -> None:
    save_file(vgg(lpips), tmp_path / "vgg.safetensors")
    network = load_perceptual(tmp_path / "vgg.safetensors")
    assert network.is_lpips == lpips and not list(network.parameters())
    a, b = noise(2)
    assert perceptual_distance(network, a, a) == 0
    assert perceptual_distance(network, a, b) == pytest.approx(perceptual_distance(network, b, a))
    assert perceptual_distance(network, a, b) > 0
    x = a.float() / 127.5 - 1
    near, far = (network(x, x + s * torch.randn_like(x)).mean() for s in (0.01, 0.3))
    assert near < far
    alone = torch.cat([network(x[i : i + 1], x[:1]) for i in range(len(x))])
    assert torch.allclose(network(x, x[:1].expand_as(x)), alone, atol=1e-6)
    assert network(torch.rand(1, 3, 1, 1), torch.rand(1, 3, 1, 1)).shape == (1,)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features.5.bias": None}, "features.5.bias is missing: give a safetensors file"),
        ({"features.0.weight": torch.ones(2, 4, 3, 3)}, r"features.0.weight is of shape \(2, 4"),
        ({"lin0.model.1.weight": torch.ones(1, 2, 1, 1)}, "give all or none"),
        ({"features.7.bias": torch.ones(9)}, "features.7.bias has not 3 numbers"),
    ],
)
def test_a_wrong_layout_is_told(change: dict[str, Tensor | None], message: str) -> None:
    weights = {k: v for k, v in {**vgg(), **change}.items() if v is not None}
    with pytest.raises(ValueError, match=message):
        Perceptual(weights)


def test_a_wrong_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"no weights")
    with pytest.raises(ValueError, match="not a safetensors file"):
        load_perceptual(tmp_path / "x")
    with pytest.raises(FileNotFoundError, match="no such file: give a safetensors"):
        load_perceptual(tmp_path / "y")


def test_the_prior_is_told_of_what_is_read_before() -> None:
    torch.manual_seed(0)
    prior = CodePrior(2, 3, 8)
    told, placed = torch.randn(1, 2, 3, 2), torch.randn(1, 4, 3, 3, 2)  # two blocks of 2x3x3
    before = torch.cat(prior.foretell(told, placed), 1)
    # As they are read: summary and grid of the first block, then of the second.
    read = torch.tensor([0, 1, 2, *range(6, 24), 3, 4, 5, *range(24, 42)])
    for step, place in enumerate(read.tolist()):
        other, moved = told.clone(), placed.clone()
        (other.view(-1, 2)[place] if place < 6 else moved.view(-1, 2)[place - 6]).add_(1.0)
        after = torch.cat(prior.foretell(other, moved), 1)
        changed = (after != before).any(1)[read]
        assert not changed[: step + 1].any()
        assert changed.any() or step == len(read) - 1
        if place in (0, 3):  # a summary reaches the later ones and all of its block's grid
            later = [at for at in read[step + 1 :].tolist() if at < 6]
            own = read.tolist()[3:21] if place == 0 else read.tolist()[24:]
            after_of = set(read[changed].tolist())
            assert after_of >= {*later, *own}


def test_the_prior_hears_what_is_said_where_it_foretells_summaries() -> None:
    torch.manual_seed(0)
    prior = CodePrior(2, 3, 8, phrases=4)
    told, placed = torch.randn(2, 2, 3, 2), torch.randn(2, 4, 3, 3, 2)
    said = torch.tensor([[1, 0, 0, 1], [ABSENT] * 4])
    heard = [torch.cat(prior.foretell(told, placed, each), 1) for each in (said, 0 * said, None)]
    first = torch.arange(len(heard[0])) < 6  # the summaries of the first clip
    assert torch.equal((heard[0] != heard[1]).any(1), first)
    assert torch.equal(heard[1], heard[2])  # nothing is known of clips without captions
    deaf = CodePrior(2, 3, 8)
    assert torch.equal(*(deaf.foretell(told, placed, each)[0] for each in (said, None)))


def test_the_priors_loss_is_the_cross_entropy_and_reaches_read_and_foretold() -> None:
    torch.manual_seed(0)
    codec = small()
    prior, table = CodePrior(2, 2, 8), codec.code_vectors()
    codes = torch.randint(12, (2, 2, codec.slots_per_block(16, 16)))
    vectors = table[codes].requires_grad_()
    order, grid = codec.ordering(16, 16), codec.grid(16, 16)
    loss = prior(codes, vectors, table, order, grid)
    told, placed = codes.split((2, codes.shape[2] - 2), 2)
    placed = placed[:, :, order.rank].reshape(2, 2 * grid[0], *grid[1:])
    aim, sure = prior.foretell(table[told], table[placed])
    far = (sure[:, None] * (table - aim[:, None]).square()).sum(2)
    true = torch.cat([told.flatten(), placed.flatten()])
    torch.testing.assert_close(loss, torch.nn.functional.cross_entropy(-far, true))
    loss.backward()
    assert vectors.grad is not None and bool(vectors.grad.any(3).all())
    moved = table + 0.1 * torch.randn_like(table)  # as codebooks move that learn by averages
    loss = prior(codes, table[codes], moved, order, grid)
    far = (sure[:, None] * (moved - aim[:, None]).square()).sum(2)
    torch.testing.assert_close(loss, torch.nn.functional.cross_entropy(-far, true))


def test_the_prior_learns_what_follows_what() -> None:
    torch.manual_seed(0)
    prior, table, order = CodePrior(2, 0, 16), torch.randn(5, 2), order_grid("interlaced", 1, 2, 3)
    steps = torch.arange(4)[:, None] + torch.arange(6)  # a block's code at a place is the next of
    codes = (steps[None] + torch.arange(5)[:, None, None]) % 5  # the one before it
    tokens = codes[:, :, order.permutation]
    optimizer = torch.optim.Adam(prior.parameters(), 3e-2)
    for _ in range(60):
        optimizer.zero_grad()
        loss = prior(tokens, table[tokens], table, order, (1, 2, 3))
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.5 * math.log(5)
    luck = torch.rand(5, 4, 6, generator=torch.Generator().manual_seed(0))
    drawn = prior.draw(table[tokens], table, order, (1, 2, 3), luck)
    right = (drawn == table[tokens]).all(-1).float().mean()
    assert right > 0.75  # as they are drawn, each where it belongs


def test_codes_are_drawn_as_often_as_the_prior_expects_them() -> None:
    torch.manual_seed(0)
    prior, table = CodePrior(2, 1, 8), 2 * torch.randn(5, 2)
    order, grid, blocks = order_grid("interlaced", 1, 1, 2), (1, 1, 2), 1
    vectors = table[torch.randint(5, (1, blocks, 3))]
    told, placed = vectors[:, :, :1], vectors[:, :, 1:][:, :, order.rank].view(1, 1, 1, 2, 2)
    aim, sure = (each[1:] for each in prior.foretell(told, placed))
    chance = (-(sure[:, None] * (table - aim[:, None]).square()).sum(2)).softmax(1)  # (2, 5)
    draws = torch.linspace(0, 1, 1001)[:-1]  # evenly
    found = torch.stack(
        [prior.draw(vectors, table, order, grid, each.expand(1, 1, 2)) for each in draws]
    )
    share = (found[:, 0, 0, :, None] == table).all(-1).float().mean(0)
    torch.testing.assert_close(share, chance[order.permutation], rtol=0, atol=2e-3)


def test_mistakes_are_of_the_grid_of_some_clips() -> None:
    codec = small()
    learner = Learner(codec, Recipe(weights=LossWeights(prior=0.1)))
    codes = torch.randint(12, (64, 2, codec.slots_per_block(16, 16)))
    vectors = codec.code_vectors()[codes].requires_grad_()

    def seen(often: float) -> Tensor:
        luck = torch.Generator().manual_seed(0)
        return learner.beside.with_mistakes(vectors, codec, (16, 16), often, luck)

    assert torch.equal(seen(0.0), vectors)
    wrong = (seen(0.5) != vectors).any(-1)
    assert not wrong[:, :, :2].any()
    assert 16 < int(wrong.any(2).any(1).sum()) < 48
    shares = (seen(1.0) != vectors).any(-1)[:, :, 2:].float().mean((1, 2))
    assert shares.min() < 0.1 and shares.max() > 0.6
    seen(1.0).sum().backward()
    assert vectors.grad is not None
    assert bool((vectors.grad[:, :, :2] == 1).all())
    other = (seen(1.0) != vectors).any(-1, keepdim=True)
    assert torch.equal(vectors.grad != 0, ~other.expand_as(vectors))  # the right code keeps its own


def losses_of(codec: Codec, recipe: Recipe, told: list[list[int]], progress: float) -> Losses:
    beside = stand_beside(codec.train(), recipe, 0)
    clips, luck = noise(len(told)), step_generator(0, 0)
    found = training_losses(codec, clips, progress, recipe, luck, torch.tensor(told), beside)
    return {name: float(value.detach()) for name, value in found.items()}


def test_the_prior_of_a_training_hears_phrases_where_they_are_taught_and_nothing_else() -> None:
    codec = small()
    codec.label_head = LabelHead(2, 2, {"colour": ["blue", "red"]}, ["ring", "star"])

    def prior(told: list[int], **weights: float) -> float:
        recipe = Recipe(LossWeights(**{"prior": 0.1, "phrases": 0.1, **weights}), crop=0)
        return losses_of(codec, recipe, [told], 0.4)["prior"]

    assert prior([0, 1, 0]) == prior([1, 1, 0])  # labels are not heard
    assert len({prior([0, *said]) for said in ((0, 0), (0, 1), (1, 0), (1, 1))}) == 4
    assert prior([0, 0, 0]) == prior([ABSENT] * 3)
    assert prior([0, 1, 0], phrases=0.0, labels=0.1) == prior([0, 0, 1], phrases=0.0, labels=0.1)


def test_the_decoder_alone_sees_mistakes_once_the_prior_has_learned_a_while() -> None:
    codec = small()
    codec.label_head = LabelHead(2, 2, {"colour": ["blue", "red"]})
    right, told = Recipe(LossWeights(prior=0.1, labels=0.1), crop=0), [[0], [1]]
    wrong = replace(right, mistakes=1.0)
    for progress in (0.1, 0.17):  # nothing is rounded yet; the prior has just begun
        assert losses_of(codec, wrong, told, progress) == losses_of(codec, right, told, progress)
    some, none = losses_of(codec, wrong, told, 0.4), losses_of(codec, right, told, 0.4)
    assert {name for name in some if some[name] != none[name]} == {"l2", "l1"}


def test_a_decoder_alone_learns_with_mistakes() -> None:
    codec = small()
    codec.train(False)
    clip = noise(1, 5)
    before = codec(clip).codes
    how = Recipe(LossWeights(prior=0.1), crop=0, train="decoder", mistakes=0.5, average=0.0)
    learner = Learner(codec, how)
    assert learner.beside.prior is not None
    start = {k: v.clone() for k, v in learner.beside.prior.state_dict().items()}
    names = [set(learner.step(noise(4, s), s / 3).losses) for s in range(3)]
    assert names == [{"l2", "l1", "prior"}] * 3
    assert any(not torch.equal(v, start[k]) for k, v in learner.beside.prior.state_dict().items())
    assert torch.equal(learner.finished()(clip).codes, before)


def test_losses_that_cannot_be_had_are_refused() -> None:
    with pytest.raises(ValueError, match="without recipe.perceptual_path"):
        Learner(small(), Recipe(weights=LossWeights(perceptual=1.0)))
    wide = Codec(ConvBackbone(dim=2), FSQ([200, 200]))
    with pytest.raises(ValueError, match="40000 codes"):
        Learner(wide, Recipe(weights=LossWeights(prior=1.0)))
    with pytest.warns(UserWarning, match="lecam=1 has no effect: weights.gan is 0"):
        Learner(small(), Recipe(lecam=1))
    with pytest.warns(UserWarning, match="mistakes=0.5 has no effect: weights.prior is 0"):
        Learner(small(), Recipe(mistakes=0.5))
    never = Recipe(weights=LossWeights(prior=0.1), round_from=1, mistakes=0.5)
    with pytest.warns(UserWarning) as told:
        Learner(small(), never)
    assert [str(each.message).split(" has no")[0] for each in told] == [
        "recipe.mistakes=0.5",
        "weights.prior=0.1",
    ]
    with pytest.raises(ValueError, match="mistakes=2: give a share, 0 to 1"):
        Learner(small(), Recipe(mistakes=2))
