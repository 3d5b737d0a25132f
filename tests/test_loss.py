"""Laws of the loss: how documents are laid into rows, passes and devices changes nothing."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from lm.batches import Batch, Documents, Mixture, Pass, grouped, pack, pad, passes, weight_totals
from lm.corpus import Corpus
from lm.learning import Recipe, recompute_blocks, training_loss
from lm.loss import language_loss
from lm.model import Decoder, SwiGLU
from lm.sequence import Sequence
from lm.vocabulary import Vocabulary

RECIPE = Recipe(structure=0.3, video=0.5, z_loss=1e-2)


@pytest.fixture
def exact(decoder: Decoder) -> Decoder:
    """A decoder whose rounding is far below what a broken law would change."""
    return decoder.double()


@pytest.fixture
def sequences(corpus: Corpus) -> list[Sequence]:
    """Documents in both directions, with branches, lower rates and weights of all kinds."""
    mixture = Mixture(prompt_text=0.5, prompt_video=0.25, branch=0.5, captions=2, rates=(1,))
    documents = Documents(corpus, mixture, context=128, seed=3)
    drawn = [s for step in range(2) for s in documents.draw(step, list(range(len(corpus))))]
    branched = [bool(s.segments.any()) for s in drawn]
    assert any(branched) and not all(branched)
    return drawn


def learned(decoder: Decoder, steps: list[Pass] | list[Batch]) -> dict[str, Tensor]:
    """Losses, and the gradient of every parameter, of one step in passes or all at once."""
    decoder.zero_grad()
    found: dict[str, Tensor] = {}
    for each in steps if isinstance(steps[0], Pass) else [steps]:
        loss = training_loss(decoder, each, RECIPE)  # pyright: ignore[reportArgumentType]
        loss.total.backward()
        for name in ("total", "structure", "text", "video"):
            found[name] = found.get(name, torch.zeros(())) + getattr(loss, name).detach()
    for name, parameter in decoder.named_parameters():
        assert parameter.grad is not None and parameter.grad.any(), name
        found[name] = parameter.grad.clone()
    return found


def assert_same(got: dict[str, Tensor], want: dict[str, Tensor]) -> None:
    assert got.keys() == want.keys()
    for name in want:
        torch.testing.assert_close(got[name], want[name], rtol=1e-5, atol=1e-9, msg=name)


ROWS: dict[str, Callable[[list[Sequence], Vocabulary], list[Batch]]] = {
    "packed": lambda s, v: [pack(s, v, 128)],
    "tightly packed": lambda s, v: [pack(s, v, max(map(len, s)))],
    "grouped": grouped,
    "one by one": lambda s, v: [pad([x], v) for x in s],
}


@pytest.mark.parametrize("rows", ROWS)
def test_packing_changes_neither_loss_nor_gradients(
    exact: Decoder, sequences: list[Sequence], vocabulary: Vocabulary, rows: str
) -> None:
    want = learned(exact, [pad(sequences, vocabulary)])
    assert_same(learned(exact, ROWS[rows](sequences, vocabulary)), want)


@pytest.mark.parametrize("row", [None, 128])
@pytest.mark.parametrize("parts", [1, 2, 5])
def test_passes_add_up_to_their_step(
    exact: Decoder, sequences: list[Sequence], vocabulary: Vocabulary, parts: int, row: int | None
) -> None:
    made = passes(sequences, vocabulary, parts=parts, row=row)
    assert len(made) == parts
    want = learned(exact, [pad(sequences, vocabulary)])
    assert_same(learned(exact, made), want)


def test_means_of_passes_would_not(
    exact: Decoder, sequences: list[Sequence], vocabulary: Vocabulary
) -> None:
    """What most trainers do: the mean of each pass's own means, here off by much."""
    made = passes(sequences, vocabulary, parts=5)
    alone = [training_loss(exact, each.batches, RECIPE).total.detach() for each in made]
    whole = training_loss(exact, [pad(sequences, vocabulary)], RECIPE).total.detach()
    assert abs(float(sum(alone)) / 5 - float(whole)) > 1e-3


def test_more_passes_than_documents_are_refused(
    sequences: list[Sequence], vocabulary: Vocabulary
) -> None:
    with pytest.raises(ValueError, match="raise data.batch_size"):
        passes(sequences[:2], vocabulary, parts=3)


def test_blocks_computed_again_give_the_same(
    exact: Decoder, sequences: list[Sequence], vocabulary: Vocabulary
) -> None:
    batches = [pack(sequences, vocabulary, 128)]
    want, calls = learned(exact, batches), []
    for part in exact.modules():
        if isinstance(part, SwiGLU):
            part.register_forward_pre_hook(lambda *_: calls.append(1))
    recompute_blocks(exact)
    assert_same(learned(exact, batches), want)
    assert len(calls) == 2 * len(exact.blocks)  # forward, and again in the backward pass


def test_loss_and_z_loss_are_those_of_the_definition(
    exact: Decoder, sequences: list[Sequence], vocabulary: Vocabulary
) -> None:
    """One token after the other, by softmax over what may stand there."""
    weights, z_weight = (0.3, 1.0, 0.5), 0.01
    sums = torch.zeros(3, 2, dtype=torch.float64)
    table = exact.output_table()
    for sequence in sequences:
        hidden = exact(
            sequence.ids[None],
            slots=sequence.slots[None],
            positions=sequence.positions[None],
            segments=sequence.segments[None],
        )[0]
        for i in range(1, len(sequence)):
            kind, weight = int(sequence.modality[i]), float(sequence.weights[i])
            if not weight:
                continue
            target, start = int(sequence.ids[i]), vocabulary.video_start
            low, high = (0, start) if target < start else (start, len(vocabulary))
            chances = (table[low:high] @ hidden[i - 1]).exp()
            log_sum = chances.sum().log()
            loss = -(chances[target - low] / chances.sum()).log() + z_weight * log_sum**2
            sums[kind] += torch.stack([weight * loss.detach(), torch.tensor(weight).double()])
    want = sum(w * total / count for w, (total, count) in zip(weights, sums, strict=True))
    got = language_loss(exact, [pad(sequences, vocabulary)], weights, z_weight)
    torch.testing.assert_close(got.total.detach(), want, rtol=1e-6, atol=0)
    torch.testing.assert_close(
        weight_totals([pad(sequences, vocabulary)]).double(), sums[:, 1], rtol=1e-6, atol=0
    )


def test_what_has_no_weight_has_no_say(
    exact: Decoder, sequences: list[Sequence], vocabulary: Vocabulary
) -> None:
    """Neither padding nor prompts enter cross-entropy or z-loss as targets."""
    batch = pad(sequences, vocabulary)
    other = batch.ids.clone()
    last = batch.weights.cumsum(1).argmax(1)  # ids after the last weighted one are only padding
    for row, end in enumerate(last.tolist()):
        other[row, end + 1 :] = vocabulary.special("<begin>")
    assert not torch.equal(batch.ids, other)
    for z in (0.0, 1e-2):
        a = language_loss(exact, [batch], z_weight=z)
        b = language_loss(exact, [replace(batch, ids=other)], z_weight=z)
        assert torch.equal(a.total, b.total)


def test_modalities_are_means_of_their_own(
    exact: Decoder, sequences: list[Sequence], vocabulary: Vocabulary
) -> None:
    batches = [pad(sequences, vocabulary)]
    parts = language_loss(exact, batches)
    for k, part in enumerate((parts.structure, parts.text, parts.video)):
        weights = [0.0, 0.0, 0.0]
        weights[k] = 2.0
        only = language_loss(exact, batches, (weights[0], weights[1], weights[2]))
        torch.testing.assert_close(only.total.detach(), 2 * part)
        assert parts.tokens[k] > 0
