"""Probes of frozen states: nothing changes, nothing leaks, and what is there is found."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from data.clip import Clip
from kinolex import main
from lm.document import Document, Task, Video
from lm.figures import Evaluation
from lm.probe_command import Labelled, check_layers, probe_states, untrained
from lm.probing import (
    POOLINGS,
    Fitting,
    Pooling,
    States,
    class_table,
    code_states,
    fingerprint,
    fit_head,
    layer_states,
    marks_of,
    numbers_of,
)
from lm.sequence import VIDEO, write
from lm.tasks import Model

QUICK = Fitting(steps=10)


def noise(clips: int, length: int = 10, dim: int = 12, seed: int = 0) -> States:
    luck = torch.Generator().manual_seed(seed)
    values = torch.randn(clips, length, dim, generator=luck)
    return States(values, torch.ones(clips, length, dtype=torch.bool))


def share(
    train: States, labels: torch.Tensor, test: States, truth: torch.Tensor, way: Pooling
) -> float:
    head = fit_head(train, labels, int(labels.max()) + 1, way, Fitting(steps=150))
    marks = marks_of(head, test, truth)
    return sum(marks) / len(marks)


@pytest.mark.parametrize("way", POOLINGS)
def test_labels_that_depend_on_nothing_are_guessed(way: Pooling) -> None:
    luck = torch.Generator().manual_seed(1)
    labels, truth = (torch.randint(0, 4, (n,), generator=luck) for n in (300, 800))
    found = share(noise(300), labels, noise(800, seed=2), truth, way)
    assert abs(found - 0.25) < 4 * (0.25 * 0.75 / 800) ** 0.5  # four standard deviations


@pytest.mark.parametrize("way", POOLINGS)
def test_what_can_be_told_apart_is(way: Pooling) -> None:
    train, test = noise(300), noise(200, seed=2)
    labels, truth = torch.arange(300) % 3, torch.arange(200) % 3
    for states, names in ((train, labels), (test, truth)):
        states.values[:, :, :3] += 3 * torch.nn.functional.one_hot(names, 3)[:, None]
    assert share(train, labels, test, truth, way) == 1


def test_attention_finds_what_a_mean_drowns() -> None:
    """One token of 60 tells the class, and which one it is it tells, too."""
    train, test = noise(600, 60), noise(300, 60, seed=2)
    labels, truth = torch.arange(600) % 3, torch.arange(300) % 3
    luck = torch.Generator().manual_seed(3)
    for states, names in ((train, labels), (test, truth)):
        rows, place = torch.arange(len(names)), torch.randint(60, (len(names),), generator=luck)
        states.values[rows, place, 3] += 12
        states.values[rows, place, names] += 6
    found = {way: share(train, labels, test, truth, way) for way in POOLINGS}
    assert found["attention"] > 0.95 > 0.8 > found["mean"]


def test_what_is_not_there_is_not_looked_at() -> None:
    states = noise(80)
    states.there[:40, 6:] = False
    labels = torch.arange(80) % 2
    other = States(states.values.clone(), states.there)
    other.values[:40, 6:] = 99.0
    for way in POOLINGS:
        heads = [fit_head(each, labels, 2, way, QUICK) for each in (states, other)]
        for a, b in zip(
            heads[0].state_dict().values(), heads[1].state_dict().values(), strict=True
        ):
            assert torch.equal(a, b)
        assert marks_of(heads[0], states, labels) == marks_of(heads[0], other, labels)


def test_a_seed_gives_the_same_head() -> None:
    labels = torch.arange(70) % 2
    heads = [fit_head(noise(70), labels, 2, "attention", Fitting(5, seed=s)) for s in (1, 1, 2)]
    assert torch.equal(heads[0].read.weight, heads[1].read.weight)
    assert not torch.equal(heads[0].read.weight, heads[2].read.weight)


# States


def test_states_are_those_of_the_decoders_blocks(model: Model, clips: list[Clip]) -> None:
    tokens = model.encode_batch([*clips[:3], clips[3].at(torch.arange(2))])  # one of one block
    decoder = model.decoder
    found = layer_states(decoder, model.vocabulary, tokens, [1, 2])
    for i, video in enumerate(tokens):
        sequence = write(Document.of(Task("watch"), Video(video)), model.vocabulary)
        ids, slots = sequence.ids[None], sequence.slots[None]
        count, codes = video.num_tokens, sequence.modality == VIDEO
        with torch.no_grad():
            x = decoder.embed(ids, slots)
            rope = decoder.cos[: ids.shape[1]], decoder.sin[: ids.shape[1]]
            x = decoder.blocks[0](x, tuple(t[None, :, None] for t in rope), None, None, 0)
            last = decoder(ids, slots=slots)[0, codes]
        assert found[1].there[i].sum() == found[2].there[i].sum() == count
        torch.testing.assert_close(
            found[1].values[i, :count].float(), x[0, codes], rtol=2e-3, atol=2e-3
        )
        normed = decoder.norm(found[2].values[i, :count].float())
        torch.testing.assert_close(normed, last, rtol=1e-2, atol=1e-2)
    assert not any(module._forward_hooks for module in decoder.modules())
    assert torch.equal(
        code_states(model.codec, tokens).values[0, :3],
        model.codec.code_vectors()[tokens[0].codes[0][:3]],
    )


# The whole


def labelled(model: Model, clips: list[Clip]) -> Labelled:
    prints = [fingerprint(clip.frames) for clip in clips]
    return Labelled(model.encode_batch(clips), [c.labels["action"] for c in clips], prints)


def made_clips(count: int, seed: int) -> list[Clip]:
    """Bright clips fall and dark ones rise."""
    luck = torch.Generator().manual_seed(seed)
    made = []
    for i in range(count):
        frames = torch.randint(0, 80, (4, 3, 16, 24), dtype=torch.uint8, generator=luck)
        name = ("rises", "falls")[i % 2]
        made.append(Clip.from_frames(frames + 170 * (i % 2), 4, labels={"action": name}))
    return made


def values(found: Evaluation) -> list[tuple[str, float]]:
    return [(figure.name, figure.value) for figure in found.figures]


def test_a_model_is_probed_beside_its_bounds_and_stays_as_it_is(model: Model) -> None:
    before = {name: value.clone() for name, value in model.decoder.state_dict().items()}
    train, test = labelled(model, made_clips(40, 0)), labelled(model, made_clips(21, 1))
    found = probe_states(model, train, test, [1, 2], Fitting(steps=60))
    names = [f"{who}layer_{n}" for who in ("", "untrained_") for n in (1, 2)] + ["codec"]
    assert [f.name for f in found.figures] == [f"{n}_{way}" for n in names for way in POOLINGS]
    for figure in found.figures:
        assert (figure.n, figure.chance) == (21, 0.5)
        assert figure.majority in (10 / 21, 11 / 21)
        assert figure.low is not None and figure.high is not None
        assert figure.low <= figure.value <= figure.high
    assert found.value("layer_1_mean") == 1 and found.value("codec_mean") > 0.85  # codes are bright
    after = model.decoder.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert values(probe_states(model, train, test, [1, 2], Fitting(steps=60))) == values(found)


def test_no_clip_that_is_measured_on_is_learned_from(model: Model) -> None:
    train, test = made_clips(20, 0), made_clips(9, 1)
    lie = [replace(clip, labels={"action": "rises"}) for clip in test]  # would be learned by heart
    clean = probe_states(model, labelled(model, train), labelled(model, test), [1], QUICK)
    mixed = labelled(model, [*train, *lie])
    found = probe_states(model, mixed, labelled(model, test), [1], QUICK)
    assert found.protocol["left_out"] == 9 and found.protocol["clips"] == 20
    assert values(found) == values(clean)


def test_labels_that_no_training_clip_has_are_never_right(model: Model) -> None:
    classes = class_table(["a", "b", "a"])
    assert numbers_of(["b", "z", "a"], classes).tolist() == [1, -1, 0]
    with pytest.raises(ValueError, match="at least two"):
        class_table(["a", "a"])
    test = [replace(clip, labels={"action": "spins"}) for clip in made_clips(6, 1)]
    found = probe_states(
        model, labelled(model, made_clips(20, 0)), labelled(model, test), [1], QUICK
    )
    assert {figure.value for figure in found.figures} == {0.0} == {found.figures[0].majority}


def test_an_untrained_network_is_another_of_the_same_size(model: Model) -> None:
    fresh = untrained(model, 0)
    assert fresh.config == model.decoder.config
    assert not torch.equal(fresh.input_table(), model.decoder.input_table())


def test_layers(model: Model) -> None:
    assert check_layers((), model.decoder) == [1] and check_layers((2, 1, 2), model.decoder) == [
        1,
        2,
    ]
    for wrong in ([0], [3], [-1]):
        with pytest.raises(ValueError, match="give numbers from 1 to 2"):
            check_layers(wrong, model.decoder)


def test_the_command(model: Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model.save(tmp_path / "m")
    words = ["lm", "probe", "--source", "scenes:easy", "--model", str(tmp_path / "m")]
    small = ["--num-train", "24", "--num-clips", "8", "--steps", "3", "--layers", "1", "2"]
    out = tmp_path / "figures.json"
    assert main([*words, *small, "--split", "unseen", "--out", str(out), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert len(shown["figures"]) == 10 and shown["protocol"]["split"] == "unseen"
    assert json.loads(out.read_text())["layer_2_attention"]["n"] == 8
    assert main([*words, *small]) == 0
    assert "untrained" in capsys.readouterr().out
    for wrong, message in (
        (["--split", "train"], "split=train"),
        (["--layers", "7"], "give numbers from 1 to 2"),
        (["--steps", "0"], "steps=0"),
        (["--label", "breed", "--num-train", "4", "--num-clips", "4"], "no labelled clips"),
    ):
        assert main([*words, *wrong]) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
