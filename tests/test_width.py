"""The coordinate check: with the rule, what a few steps change is as large at any width."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import pytest
import torch
from torch import Tensor

from lm.attention import Attention
from lm.batches import Batch, Documents, grouped, pad
from lm.corpus import Corpus
from lm.learning import Learner, Recipe, make_decoder, make_optimizer
from lm.model import Decoder, Sizes, SwiGLU
from lm.vocabulary import Vocabulary
from tests.conftest import CODES
from tokenizer.optimisation import Schedule

BASE, WIDTHS = 64, (64, 128, 512)


def sizes(width: int, **more: bool) -> Sizes:
    return Sizes(
        width=width,
        layers=1,
        heads=width // 16,
        kv_heads=width // 32,
        head_dim=16,
        hidden=2 * width,
        context=128,
        **more,
    )


@contextmanager
def watched(decoder: Decoder, seen: dict[str, Tensor]) -> Iterator[None]:
    """What attention and feed-forward parts put out, by name."""
    hooks = [
        part.register_forward_hook(lambda _, __, out, name=name: seen.update({name: out}))
        for name, part in decoder.named_modules()
        if isinstance(part, Attention | SwiGLU)
    ]
    yield
    for hook in hooks:
        hook.remove()


@torch.no_grad()
def activations(decoder: Decoder, probe: Batch) -> dict[str, Tensor]:
    seen: dict[str, Tensor] = {"inputs": decoder.embed(probe.ids, probe.slots)}
    with watched(decoder, seen):
        seen["logits"] = decoder.logits(decoder(probe.ids, slots=probe.slots))
    return {name: value.clone() for name, value in seen.items()}


def size(x: Tensor) -> float:
    return float(x.square().mean().sqrt())


def changes(
    corpus: Corpus,
    vocabulary: Vocabulary,
    width: int,
    matrices: Literal["muon", "adamw"],
    base: int | None,
) -> dict[str, float]:
    """How large a change of each activation three steps make."""
    documents = Documents(corpus, context=128)
    probe = pad(documents.draw(99, [0, 1, 2, 3]), vocabulary)
    luck = torch.Generator().manual_seed(0)
    features = torch.randn(CODES, 3, generator=luck)
    decoder = make_decoder(vocabulary, features, sizes(width), 0, base)
    schedule = Schedule(warmup_steps=1)
    learner = Learner(decoder, Recipe(base_width=base, matrices=matrices, schedule=schedule))
    before = activations(decoder, probe)
    for step in range(3):
        learner.step(grouped(documents.draw(step, list(range(6))), vocabulary), 0.1)
    after = activations(decoder, probe)
    return {name: size(after[name] - before[name]) for name in before}


@pytest.mark.parametrize("matrices", ["muon", "adamw"])
def test_steps_change_activations_alike_at_any_width(
    corpus: Corpus, vocabulary: Vocabulary, matrices: Literal["muon", "adamw"]
) -> None:
    found = [changes(corpus, vocabulary, width, matrices, BASE) for width in WIDTHS]
    for name in found[0]:
        low, high = min(f[name] for f in found), max(f[name] for f in found)
        assert high < 2 * low, f"{name}: {low} to {high}"


def test_without_the_rule_they_do_not(corpus: Corpus, vocabulary: Vocabulary) -> None:
    small, wide = (changes(corpus, vocabulary, width, "adamw", None) for width in (64, 512))
    assert wide["logits"] > 4 * small["logits"]


def test_first_activations_do_not_grow_with_width(vocabulary: Vocabulary, corpus: Corpus) -> None:
    probe = pad(Documents(corpus, context=128).draw(0, [0, 1]), vocabulary)
    features = torch.ones(CODES, 3)

    def first(width: int) -> dict[str, float]:
        decoder = make_decoder(vocabulary, features, sizes(width), 0, BASE)
        return {name: size(value) for name, value in activations(decoder, probe).items()}

    small, wide = first(64), first(512)
    for name in small:
        assert wide[name] < 1.5 * small[name], name


def test_at_the_base_width_nothing_changes(vocabulary: Vocabulary) -> None:
    features = torch.ones(CODES, 3)
    plain = make_decoder(vocabulary, features, sizes(64))
    ruled = make_decoder(vocabulary, features, sizes(64), base_width=64)
    for a, b in zip(plain.parameters(), ruled.parameters(), strict=True):
        assert torch.equal(a, b)
    groups = [
        [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]
        for optimizer in (
            make_optimizer(plain, Recipe()),
            make_optimizer(ruled, Recipe(base_width=64)),
        )
    ]
    assert groups[0] == groups[1]


def test_rates_by_name(vocabulary: Vocabulary) -> None:
    decoder = make_decoder(vocabulary, torch.ones(CODES, 3), sizes(256), base_width=64)
    recipe = Recipe(base_width=64, matrices="adamw", lr=1e-2, weight_decay=0.1)
    optimizer = make_optimizer(decoder, recipe)
    names = {id(p): name for name, p in decoder.named_parameters()}
    for group in optimizer.param_groups:
        assert group["kind"] == "adamw"
        for name in (names[id(p)] for p in group["params"]):
            gain = name.endswith("norm") or "norm." in name
            narrow = name.startswith(("blocks.", "head")) and not gain
            assert group["peak"] == pytest.approx(1e-2 / 4 if narrow else 1e-2), name
            decay = 0 if gain else 1e-3  # of a weight, by each step
            assert group["peak"] * group["weight_decay"] == pytest.approx(decay), name


def test_tied_tables_are_refused(vocabulary: Vocabulary) -> None:
    with pytest.raises(ValueError, match="untie them"):
        make_decoder(vocabulary, torch.ones(CODES, 3), sizes(64, tied=True), base_width=64)
