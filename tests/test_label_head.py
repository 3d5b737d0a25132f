"""The label head: its loss ignores what clips lack, its evidence comes with the codec."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from data.clip import Clip
from data.labels import ABSENT, class_numbers, label_classes, labels_of
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
    torch.testing.assert_close(head.loss(vectors, numbers), alone)
    cut = vectors.clone()
    cut[:, :, 2:] = 0
    few = head.loss(vectors, numbers, torch.tensor([2, 5]))
    torch.testing.assert_close(few, head.loss(cut[:1], numbers[:1]))
    vectors[:, :, 3:] = torch.nan  # the grid's codes are not read
    torch.testing.assert_close(head.loss(vectors, numbers), alone)
    nothing = head.loss(vectors, torch.full((2, 2), ABSENT))
    assert nothing.item() == 0 and torch.isfinite(nothing)


def test_a_codec_learns_labels_and_keeps_its_head(tmp_path: Path) -> None:
    torch.manual_seed(0)
    codec = Codec(FactoredBackbone(summary=2), label_head=LabelHead(2, 4, CLASSES))
    assert codec.label_head is not None
    learner = Learner(codec, Recipe(crop=0, round_from=0.0, average=0.0))
    frames = torch.zeros(8, 8, 3, 16, 16, dtype=torch.uint8)
    frames[4:, :, 0] = 200
    labels = class_numbers([{"colour": c} for c in ["blue"] * 4 + ["red"] * 4], CLASSES)
    losses = [learner.step(frames, 0.4, labels).losses["labels"] for _ in range(80)]
    assert losses[-1] < 0.1 < 0.5 < losses[0]
    codec = learner.finished()
    codec.save(tmp_path)
    again = Codec.load(tmp_path)
    assert again.label_head is not None and again.label_head.classes == CLASSES
    assert again.codec_id == codec.codec_id
    tokens = [again.encode(clip) for clip in frames]
    vectors = torch.stack([again.quantizer.vectors(torch.stack(t.codes)) for t in tokens])
    assert again.label_head.right(vectors, labels) == {"colour": 1.0}


@pytest.mark.parametrize("classes", [{}, {"colour": ["red"]}])
def test_labels_need_two_classes(classes: dict[str, list[str]]) -> None:
    with pytest.raises(ValueError, match="two classes"):
        LabelHead(2, 4, classes)
