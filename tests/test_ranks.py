"""Two processes with half a batch each learn what one learns from the whole batch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn

from data.labels import ABSENT
from tokenizer.codec import Codec
from tokenizer.factored import FactoredBackbone
from tokenizer.label_head import LabelHead
from tokenizer.learning import (
    reached,
    stand_beside,
    step_generator,
    training_losses,
)
from tokenizer.losses import LossWeights
from tokenizer.quantizer import BSQ, FSQ, LFQ, VQ, Quantizer, ResidualVQ, SimVQ
from tokenizer.ranks import gather_rows, mean_over_ranks
from tokenizer.recipe import Recipe

RANKS, STEPS = 2, 3
Result = dict[str, Any]


def quantizers() -> dict[str, Quantizer]:
    torch.manual_seed(0)
    made = (VQ(6, 3), ResidualVQ(4, 2, 3), SimVQ(6, 3), LFQ(4, temperature=3), BSQ(4))
    return {type(quantizer).__name__: quantizer.train() for quantizer in made}


def learn(quantizer: Quantizer, rank: int, ranks: int) -> Result:
    """What a few training passes on this rank's part of the same batches leave behind."""
    torch.manual_seed(1)
    encoder = nn.Linear(5, quantizer.dim)
    losses = []
    for _ in range(STEPS):
        batch = torch.randn(4, 7, 5)
        out = quantizer(encoder(batch.chunk(ranks)[rank]))
        loss = out.loss + out.quantized.square().mean()
        loss.backward()
        losses.append(loss.detach())
    gradients = [p.grad for p in (*encoder.parameters(), *quantizer.parameters())]
    return {
        "losses": torch.stack(losses),
        "gradients": [gradient for gradient in gradients if gradient is not None],
        "state": {k: v.clone() for k, v in quantizer.state_dict().items()},
    }


RECIPES = {
    "crops, emphasis, tokens dropped": Recipe(crop=16, round_from=0.0, drop_from=0.0),
    "discriminators later": Recipe(
        LossWeights(l2=0, l1=0, log_mse=1, gan=0.5), crop=0, round_from=0.5, gan_from=0.5
    ),
    "a prior that draws mistakes": Recipe(
        LossWeights(l2=0, l1=0, log_mse=1, prior=0.1), crop=0, round_from=0.3, mistakes=0.7
    ),
}


def train(recipe: Recipe, rank: int, ranks: int) -> Result:
    """Codec and discriminators after some steps, gradients averaged as a strategy would."""
    torch.manual_seed(0)
    backbone = FactoredBackbone(channels=8, latent_channels=8, summary=2, dim=2)
    head = LabelHead(2, 2, {"colour": ["blue", "red"]}, ["ring", "star"])
    codec = Codec(backbone, FSQ((4, 4)), label_head=head).train()
    beside = stand_beside(codec, recipe, 0)
    networks = nn.ModuleList([codec, beside])
    # Plain descent: Muon and Adam step as far where a gradient is nothing but rounding.
    optimizer = torch.optim.SGD(networks.parameters(), lr=0.1)
    for step in range(2 * STEPS):
        frames = torch.randint(0, 256, (4, 8, 3, 32, 32), dtype=torch.uint8).chunk(ranks)[rank]
        told = torch.tensor([[1, 1, 0], [ABSENT, 1, 1], [ABSENT, 0, 1], [ABSENT] * 3])
        told = told.roll(step, 0).chunk(ranks)[rank]  # ranks have more of them and fewer
        progress, luck = step / (2 * STEPS), step_generator(0, step)
        losses = training_losses(codec, frames, progress, recipe, luck, told, beside)
        (recipe.weights.total(losses) + reached(codec, beside)).backward()
        for p in networks.parameters():
            assert p.grad is not None, "a strategy would wait for it"
            if ranks > 1:
                dist.all_reduce(p.grad)
                p.grad /= ranks
        optimizer.step()
        optimizer.zero_grad()
    return {k: v.clone() for k, v in networks.state_dict().items()}


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    for quantizer in quantizers().values():  # passes before the group exists must not matter
        learn(quantizer, 0, 1)
    store = f"file://{folder}/store"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=RANKS)
    results: Result = {name: learn(each, rank, RANKS) for name, each in quantizers().items()}
    results |= {name: train(recipe, rank, RANKS) for name, recipe in RECIPES.items()}
    rows = torch.full((rank + 1, 2), float(rank), requires_grad=True)
    mean = mean_over_ranks(rows.sum())
    mean.backward()
    results["helpers"] = {"gathered": gather_rows(rows), "mean": mean.detach(), "own": rows.grad}
    torch.save(results, f"{folder}/{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def halves(tmp_path_factory: pytest.TempPathFactory) -> list[Result]:
    """What each of two processes says."""
    folder = tmp_path_factory.mktemp("ranks")
    mp.spawn(work, (str(folder),), nprocs=RANKS)
    return [torch.load(folder / f"{rank}.pt") for rank in range(RANKS)]


@pytest.mark.slow  # starts two interpreters
@pytest.mark.parametrize("name", ["VQ", "ResidualVQ", "SimVQ", "LFQ", "BSQ"])
def test_halves_on_two_ranks_equal_the_whole_on_one(halves: list[Result], name: str) -> None:
    whole = learn(quantizers()[name], 0, 1)
    for rank in halves:
        for key, value in whole["state"].items():
            assert torch.equal(rank[name]["state"][key], value), key
    parts = torch.stack([rank[name]["losses"] for rank in halves])
    assert torch.allclose(parts.mean(0), whole["losses"], rtol=1e-6)
    for i, gradient in enumerate(whole["gradients"]):
        averaged = torch.stack([rank[name]["gradients"][i] for rank in halves]).mean(0)
        assert torch.allclose(averaged, gradient, rtol=1e-5, atol=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_a_codec_learns_the_same_on_two_ranks(halves: list[Result], name: str) -> None:
    whole = train(RECIPES[name], 0, 1)
    for key, value in whole.items():
        assert torch.equal(halves[0][name][key], halves[1][name][key]), key
        # Discriminators see pixels that differ by rounding: 2e-6 in the end, of 4e-3 they move.
        near = 4e-6 if key.startswith("1.adversary") else 1e-6
        assert torch.allclose(halves[0][name][key], value, rtol=0, atol=near), key


@pytest.mark.slow
def test_rows_of_any_number_are_gathered_and_means_are_over_all_ranks(halves: list[Result]) -> None:
    for rank, result in enumerate(halves):
        said: dict[str, Tensor] = result["helpers"]
        assert said["gathered"].tolist() == [[0, 0], [1, 1], [1, 1]]
        assert said["mean"] == 2 and said["own"].tolist() == [[1, 1]] * (rank + 1)


def test_alone_nothing_is_gathered() -> None:
    rows = torch.randn(3, 2)
    assert torch.equal(gather_rows(rows), rows) and mean_over_ranks(rows) is rows
