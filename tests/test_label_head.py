"""The label head: its loss ignores what clips lack, its evidence comes with the codec."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from data.clip import Clip
from data.folder import Folder
from data.folder_writing import write_folder
from data.labels import ABSENT, class_numbers, label_classes, labels_of
from data.phrases import (
    captions_of,
    common_phrases,
    phrase_numbers,
    phrases_in,
    words_of,
)
from data.scenes import Scenes
from tokenizer.codec import Codec
from tokenizer.factored import FactoredBackbone
from tokenizer.label_head import LabelHead
from tokenizer.learning import Learner
from tokenizer.recipe import Recipe

CLASSES = {"colour": ["blue", "red"], "shape": ["circle", "ring", "star"]}


class Few:
    """Clips with labels, one of which names each clip."""

    name, skipped = "few", []

    def __len__(self) -> int:
        return 70

    def __getitem__(self, index: int) -> Clip:
        kind = "even" if index % 2 == 0 else "odd"
        labels = {"kind": kind, "name": str(index), "all": "same"}
        return Clip.from_frames(torch.zeros(1, 3, 4, 4, dtype=torch.uint8), 1, labels=labels)


def test_classes_leave_out_labels_that_tell_nothing() -> None:
    assert label_classes(Few()) == {"kind": ["even", "odd"]}


def test_scenes_labels_are_those_of_their_clips() -> None:
    source = Scenes("standard", num_frames=2, height=16, width=16, num_clips=40)
    numbers = list(range(40))
    assert labels_of(source, numbers) == [clip.labels for clip in source.batch(numbers)]
    assert any("colour" in labels for labels in labels_of(source, numbers))


def test_absent_and_unknown_labels_do_not_count() -> None:
    torch.manual_seed(0)
    head = LabelHead(3, 4, CLASSES)
    vectors = torch.randn(2, 2, 5, 4)  # clips, blocks, tokens of which 3 are the summary
    numbers = class_numbers([{"colour": "red", "shape": "hexagon"}, {"weather": "fine"}], CLASSES)
    assert numbers.tolist() == [[1, ABSENT], [ABSENT, ABSENT]]
    alone = torch.nn.functional.cross_entropy(head(vectors[:1])[:, :2], torch.tensor([1]))
    assert set(head.losses(vectors, numbers)) == {"labels"}
    torch.testing.assert_close(head.losses(vectors, numbers)["labels"], alone)
    cut = vectors.clone()
    cut[:, :, 2:] = 0
    few = head.losses(vectors, numbers, torch.tensor([2, 5]))
    torch.testing.assert_close(few, head.losses(cut[:1], numbers[:1]))
    vectors[:, :, 3:] = torch.nan  # the grid's codes are not read
    torch.testing.assert_close(head.losses(vectors, numbers)["labels"], alone)
    nothing = head.losses(vectors, torch.full((2, 2), ABSENT))["labels"]
    assert nothing.item() == 0 and torch.isfinite(nothing)


def test_quadrants_are_read_alike_and_any_of_them_counts() -> None:
    torch.manual_seed(0)
    head = LabelHead(9, 4, CLASSES, ["ring"], regional=2)
    vectors = torch.randn(3, 2, 12, 4)  # clips, blocks, tokens of which 9 are the summary
    scores = head(vectors)
    swapped = vectors.clone()
    swapped[:, :, 1:9] = vectors[:, :, [4, 3, 2, 1, 8, 7, 6, 5]]
    torch.testing.assert_close(head(swapped), scores)
    mixed = vectors.clone()
    mixed[:, :, 5:9] = vectors[:, :, [8, 7, 6, 5]]  # second tokens with another quadrant's first
    assert not torch.allclose(head(mixed), scores)


@pytest.mark.parametrize("regional", [0, 1])
def test_a_codec_learns_labels_and_keeps_its_head(regional: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    summary = 2 + 4 * regional
    head = LabelHead(summary, 4, CLASSES, ["dark", "bright"], regional)
    codec = Codec(FactoredBackbone(summary=summary, regional=regional), label_head=head)
    assert codec.label_head is not None
    learner = Learner(codec, Recipe(crop=0, round_from=0.0, average=0.0))
    frames = torch.zeros(8, 8, 3, 16, 16, dtype=torch.uint8)
    frames[4:, :, 0] = 200
    labels = class_numbers([{"colour": c} for c in ["blue"] * 4 + ["red"] * 4], CLASSES)
    said = phrase_numbers([["it is dark"]] * 4 + [["it is bright"]] * 4, head.phrases)
    told = torch.cat([labels, said], 1)
    losses = [learner.step(frames, 0.4, told).losses for _ in range(80)]
    for name in ("labels", "phrases"):
        assert losses[-1][name] < 0.1 < 0.5 < losses[0][name]
    codec = learner.finished()
    codec.save(tmp_path)
    again = Codec.load(tmp_path)
    assert again.label_head is not None and again.label_head.classes == CLASSES
    assert again.label_head.phrases == ["dark", "bright"]
    assert again.codec_id == codec.codec_id
    tokens = [again.encode(clip) for clip in frames]
    vectors = torch.stack([again.quantizer.vectors(torch.stack(t.codes)) for t in tokens])
    assert again.label_head.right(vectors, told) == {"colour": 1.0, "phrases": 1.0}


def test_phrases_are_words_and_pairs_within_a_clause() -> None:
    assert phrases_in(["A red ring; it's big", "Ärger"]) == {
        *("a", "red", "ring", "it's", "big", "ärger"),
        *("a red", "red ring", "a ring", "it's big"),
    }
    assert phrases_in([]) == phrases_in(["..., !"]) == phrases_in(["- ' --"]) == set()
    far = phrases_in(["ring slowly turns to the left"])
    assert {"ring slowly", "ring the", "slowly left"} <= far and "ring left" not in far
    assert words_of("the 'big' one - it's a well-known_thing") == [
        ["the", "big", "one", "it's", "a", "well-known"],
        ["thing"],
    ]


def test_words_of_other_scripts_stay_whole() -> None:
    assert words_of("लाल वृत्त, حَمراء") == [["लाल", "वृत्त"], ["حَمراء"]]
    assert words_of("cafe\u0301") == words_of("café") == [["café"]]
    assert words_of("红色的圆。向左") == [["红", "色", "的", "圆"], ["向", "左"]]


def test_phrases_leave_out_what_all_or_hardly_any_say() -> None:
    class Told(Few):
        def captions(self, indices: Sequence[int]) -> list[tuple[str, ...]]:
            said = [("a ring",) if i % 3 else ("a star",) for i in indices]
            return [() if i == 5 else said[n] for n, i in enumerate(indices)]

    assert common_phrases(Told(), 10) == ["ring", "star"]  # all have "a", also in pairs
    assert common_phrases(Told(), 1) == ["ring"]
    said = phrase_numbers(Told().captions([3, 4, 5]), ["ring", "star"])
    assert said.tolist() == [[0, 1], [1, 0], [ABSENT, ABSENT]]


def test_pairs_say_what_belongs_together() -> None:
    class Told(Few):
        def captions(self, indices: Sequence[int]) -> list[tuple[str, ...]]:
            said = [("a red ring", "a blue star"), ("a red star", "a blue ring"), ("a leaf",)]
            return [said[i % 3] for i in indices]

    common = common_phrases(Told(), 20)
    assert {"red ring", "blue star", "red star", "blue ring"} < set(common)
    apart = phrase_numbers(Told().captions([0, 1]), ["red", "ring", "red ring"])
    assert apart.tolist() == [[1, 1, 1], [1, 1, 0]]


def test_captions_are_read_without_pixels(tmp_path: Path) -> None:
    scenes = Scenes("standard", num_frames=2, height=16, width=16, num_clips=6)
    told = [clip.captions for clip in scenes.batch(range(6))]
    assert captions_of(scenes, range(6)) == told
    write_folder(scenes, tmp_path / "f")
    assert captions_of(Folder(tmp_path / "f", "all"), [2, 4]) == [told[2], told[4]]


def test_phrases_of_clips_without_captions_do_not_count() -> None:
    torch.manual_seed(0)
    head = LabelHead(3, 4, {"colour": ["blue", "red"]}, ["ring", "star", "big"])
    vectors = torch.randn(3, 2, 5, 4)
    told = torch.tensor([[1, 1, 0, 0], [0, 1, 1, 0], [ABSENT] * 4])
    scores = head(vectors)[:2, 2:].sigmoid()
    said = torch.tensor([[1.0, 0, 0], [1, 1, 0]])
    each = -(said * scores.log() + (1 - said) * (1 - scores).log())
    torch.testing.assert_close(head.losses(vectors, told)["phrases"], each.sum() / 3)
    vectors[2] = torch.nan
    assert set(head.right(vectors, told)) == {"colour", "phrases"}


@pytest.mark.parametrize("classes", [{}, {"colour": ["red"]}])
def test_labels_need_two_classes(classes: dict[str, list[str]]) -> None:
    with pytest.raises(ValueError, match="two classes"):
        LabelHead(2, 4, classes)
