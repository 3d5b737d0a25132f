"""`kinolex lm probe`: actions read off frozen states, beside guessing and an untrained network.

Knows sources, models and figures. How states are taken and heads learn is probing's affair.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from data.atomic import check_writable
from data.clip import Clip
from lm.corpus import label_of
from lm.figures import Evaluation, write_results
from lm.judging import Tally
from lm.learning import make_decoder
from lm.model import Decoder, Sizes
from lm.probing import (
    POOLINGS,
    ROWS,
    Fitting,
    States,
    class_table,
    code_states,
    fingerprint,
    fit_head,
    layer_states,
    marks_of,
    numbers_of,
)
from lm.tasks import Model
from lm.watching import open_known
from tokenizer.progress import RunningCount, progress_bar
from tokenizer.tokens import VideoTokens

Tick = Callable[[int], None]


@dataclass(frozen=True)
class Labelled:
    """Clips as codes, with what they are called."""

    videos: list[VideoTokens]
    labels: list[str]
    prints: list[bytes]  # fingerprints of their pictures

    def without(self, prints: set[bytes]) -> Labelled:
        """Those whose pictures are not among these."""
        kept = [i for i, each in enumerate(self.prints) if each not in prints]
        return Labelled(
            [self.videos[i] for i in kept],
            [self.labels[i] for i in kept],
            [self.prints[i] for i in kept],
        )


def probe(
    source: str,
    model: Path,
    layers: Sequence[int] = (),
    split: str = "heldout",
    num_train: int = 2000,
    num_clips: int = 500,
    label: str | None = None,
    steps: int = 1000,
    seed: int = 0,
    out: Path | None = None,
) -> Evaluation:
    """Measure how well the action of a clip can be read off a model's frozen states.

    A linear head learns on the source's training clips, after mean pooling and after attention
    pooling by learned queries; the same heads learn on an untrained decoder and on the codec's own
    vectors. The model does not change.

    Example: kinolex lm probe --source scenes:easy --model runs/demo/model --split unseen

    Args:
        source: A folder of clips, scenes:easy|standard|hard, or hub:NAME.
        model: Folder of a model.
        layers: Blocks after which to look, from 1; the middle one if left out.
        split: Where accuracy is measured: heldout, unseen (scenes), or a folder's own.
        num_train: At most so many clips to learn from.
        num_clips: At most so many clips to measure on.
        label: Name of the label to read; `action`, or the first, if left out.
        steps: Of 64 clips each, that heads learn in.
        seed: Of the heads, of the untrained decoder and of clips of made worlds.
        out: JSON file to write the figures to as well.
    """
    if split == "train":
        raise ValueError("split=train: heads learn on it, give another such as heldout")
    if out is not None:
        check_writable(out)
    fitting, loaded = Fitting(steps, seed=seed), Model.load(model)
    chosen = check_layers(layers, loaded.decoder)
    with progress_bar("probing") as tell:
        clips = num_train + num_clips
        count = RunningCount(tell, 3 * clips + (2 * len(chosen) + 1) * len(POOLINGS) * steps)
        parts = [
            read_labelled(loaded, source, name, number, label, seed, count)
            for name, number in (("train", num_train), (split, num_clips))
        ]
        found = probe_states(loaded, parts[0], parts[1], chosen, fitting, count)
    found.protocol.update(source=source, split=split)
    if out is not None:
        write_results(out, found.figures, found.protocol)
    return found


def probe_states(
    model: Model,
    train: Labelled,
    test: Labelled,
    layers: Sequence[int],
    fitting: Fitting,
    progress: Tick | None = None,
) -> Evaluation:
    """Figures of every layer and pooling, of the model, of an untrained one and of the codec.

    Args:
        model: The model; it is not changed.
        train: Clips to learn from; those that `test` holds, too, are left out.
        test: Clips to measure on.
        layers: Numbers of blocks, from 1.
        fitting: How heads learn.
        progress: Called with how much more is done.

    Raises:
        ValueError: no clips to measure on, or fewer than two labels to learn.
    """
    if not test.videos:
        raise ValueError("no labelled clips to measure on: give a source whose clips have labels")
    fresh = train.without(set(test.prints))
    classes = class_table(fresh.labels)
    known = numbers_of(fresh.labels, classes)
    wanted = numbers_of(test.labels, classes)
    commonest = Counter(fresh.labels).most_common(1)[0][0]
    majority = test.labels.count(commonest) / len(test.labels)
    figures = []
    for name, seen in _seen(model, [*fresh.videos, *test.videos], layers, fitting.seed, progress):
        split = len(fresh.videos)
        learned = States(seen.values[:split], seen.there[:split])
        measured = States(seen.values[split:], seen.there[split:])
        for pooling in POOLINGS:
            tick = None if progress is None else lambda: progress(1)
            head = fit_head(learned, known, len(classes), pooling, fitting, tick)
            tally = Tally()
            for right in marks_of(head, measured, wanted):
                tally.add(f"{name}_{pooling}", right)
            guess = 1 / len(classes)
            figures.append(tally.figure(f"{name}_{pooling}", chance=guess, majority=majority))
    protocol = {
        "clips": len(fresh.videos),
        "left_out": len(train.videos) - len(fresh.videos),
        "classes": len(classes),
        "steps": fitting.steps,
        "seed": fitting.seed,
    }
    return Evaluation(figures, protocol)


def _seen(
    model: Model,
    videos: Sequence[VideoTokens],
    layers: Sequence[int],
    seed: int,
    progress: Tick | None,
) -> Iterator[tuple[str, States]]:
    """What heads look at, one after the other, by name."""
    for name, decoder in (("", model.decoder), ("untrained_", untrained(model, seed))):
        found = layer_states(decoder, model.vocabulary, videos, layers, progress)
        for layer in layers:
            yield f"{name}layer_{layer}", found.pop(layer)
    yield "codec", code_states(model.codec, videos)


def untrained(model: Model, seed: int) -> Decoder:
    """The same network with fresh weights."""
    config = model.decoder.config
    sizes = Sizes(**{name: getattr(config, name) for name in Sizes.__dataclass_fields__})
    features = model.decoder.code_features.cpu()
    return make_decoder(model.vocabulary, features, sizes, seed).eval()


def check_layers(layers: Sequence[int], decoder: Decoder) -> list[int]:
    """The layers that are there, the middle one where none is named."""
    count = decoder.config.layers
    chosen = sorted(set(layers)) or [-(-count // 2)]
    if not 1 <= chosen[0] <= chosen[-1] <= count:
        raise ValueError(f"layers={list(layers)}: give numbers from 1 to {count}")
    return chosen


def read_labelled(
    model: Model,
    source: str,
    split: str,
    most: int,
    label: str | None,
    seed: int,
    progress: Tick | None = None,
) -> Labelled:
    """Clips of a source in the model's format, as codes; those without the label are left out."""
    clips = open_known(model.framing, source, split=split, num_clips=most, seed=seed)
    found = Labelled([], [], [])
    for numbers in torch.arange(min(most, len(clips))).split(ROWS):
        some = [clip for clip in (clips[i] for i in numbers.tolist()) if _name(clip, label)]
        found.videos.extend(model.encode_batch(some))
        found.labels.extend(_name(clip, label) for clip in some)
        found.prints.extend(fingerprint(clip.frames) for clip in some)
        if progress is not None:
            progress(len(numbers))
    return found


def _name(clip: Clip, label: str | None) -> str:
    return label_of(clip.labels) if label is None else clip.labels.get(label, "")
