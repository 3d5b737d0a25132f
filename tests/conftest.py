"""Tiny made-up records, vocabulary, decoder and codec that tests share."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import settings

from data.clip import Clip, Event, Question
from data.shards import ShardWriter, TokenShards
from lm.corpus import Corpus, make_vocabulary
from lm.learning import code_features, make_decoder
from lm.model import Decoder, DecoderConfig, Sizes
from lm.tasks import Model
from lm.vocabulary import Vocabulary
from tokenizer.backbone import Backbone, ConvBackbone
from tokenizer.codec import Codec
from tokenizer.encoding import TokenRecord, write_record
from tokenizer.factored import FactoredBackbone
from tokenizer.quantizer import FSQ
from tokenizer.tokens import VideoTokens
from tokenizer.transformer import TransformerBackbone

# How long an example takes says what else the machine does, nothing of the law.
settings.register_profile("laws", deadline=None)
settings.load_profile("laws")

CODES, BLOCKS, PER_BLOCK, BLOCK_FRAMES = 11, 2, 3, 2
COLOURS = ("red", "blue", "green")
PAIRS = [(colour, motion) for colour in COLOURS for motion in ("falls", "rises")]
Record = tuple[np.ndarray, dict[str, Any]]


def make_record(colour: str, motion: str, seed: int) -> Record:
    rng = np.random.default_rng(seed)
    tokens = VideoTokens(
        codes=tuple(torch.from_numpy(rng.integers(0, CODES, PER_BLOCK)) for _ in range(BLOCKS)),
        timestamps=torch.arange(BLOCKS * BLOCK_FRAMES) / 4.0,
        height=16,
        width=24,
        block_frames=BLOCK_FRAMES,
        codebook_size=CODES,
        codec_id="made-up",
    )
    questions = (
        Question("what colour is it?", colour, "colour", COLOURS),
        Question("how does it move?", motion, "motion"),
    )
    captions = (f"a {colour} ball {motion}", f"{motion}: a ball in {colour}")
    stills = tuple(
        replace(tokens.blocks(b, b + 1), timestamps=tokens.timestamps[[t]])
        for b, t in ((0, 0), (BLOCKS - 1, -1))
    )
    return write_record(
        TokenRecord(
            tokens,
            captions,
            questions,
            {"action": motion},
            events=(Event(f"the ball {motion}", 0.0, 0.5), Event("it stops", 0.6)),
            stills=stills,
        )
    )


@pytest.fixture(params=[1, 2], ids=["one thread", "two threads"])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    """Laws to the bit hold on any number of threads, each of which sums its own share."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def records() -> list[Record]:
    return [make_record(colour, motion, i) for i, (colour, motion) in enumerate(PAIRS)]


@pytest.fixture(scope="session")
def vocabulary(records: list[Record]) -> Vocabulary:
    return make_vocabulary(records, num_pieces=64, rates=(1,))


@pytest.fixture(scope="session")
def corpus(records: list[Record], vocabulary: Vocabulary) -> Corpus:
    return Corpus(records, vocabulary)


def tiny_config(vocabulary: Vocabulary, **sizes: Any) -> DecoderConfig:
    fields = {
        "num_ids": len(vocabulary),
        "video_start": vocabulary.video_start,
        "code_dim": 3,
        "width": 16,
        "layers": 2,
        "heads": 4,
        "kv_heads": 2,
        "head_dim": 4,
        "hidden": 24,
        "context": 128,
        "num_slots": 4,
        "summary": 2,
    }
    return DecoderConfig(**{**fields, **sizes})


def blocks_of_six(
    vocabulary: Vocabulary, places: torch.Tensor, luck: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and slots of tokens at these places of streams that are a word, six codes, a word, ..."""
    words = torch.randint(0, vocabulary.video_start, places.shape, generator=luck)
    codes = torch.randint(vocabulary.video_start, len(vocabulary), places.shape, generator=luck)
    slots = places % 7 - 1
    return torch.where(slots < 0, words, codes), slots.clamp(min=0)


@pytest.fixture
def decoder(vocabulary: Vocabulary) -> Decoder:
    """Random weights, large enough that its samples are far from uniform."""
    torch.manual_seed(0)
    made = Decoder(tiny_config(vocabulary), torch.randn(CODES, 3))
    for parameter in made.parameters():
        if parameter.ndim == 2:
            torch.nn.init.normal_(parameter, std=0.5)
    return made.eval()


@pytest.fixture
def codec() -> Codec:
    """A tiny codec of random weights: 2 latents in time per block of 4 frames, 8 pixels a side."""
    torch.manual_seed(0)
    backbone = ConvBackbone(channels=8, latent_channels=8, blocks=1, latent_blocks=1)
    made = Codec(backbone, FSQ((8, 5, 5, 5)), block_frames=4)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return made.eval()


def tiny_transformer(**choices: Any) -> Backbone:
    return TransformerBackbone(dim=2, width=8, heads=2, blocks=1, **choices)


# A new backbone is put under the laws of streaming by its line here.
STREAMING: dict[str, Callable[[], Backbone]] = {
    "convolution": lambda: ConvBackbone(
        dim=2, patch=4, time_stride=2, stride=2, channels=4, latent_channels=4, latent_blocks=1
    ),
    "factored": lambda: FactoredBackbone(
        dim=2, patch=4, time_stride=2, stride=2, channels=4, latent_channels=8, summary=2
    ),
    "quadrants": lambda: FactoredBackbone(
        dim=2, time_stride=2, channels=4, latent_channels=8, summary=6, regional=1
    ),
    "folded": lambda: FactoredBackbone(
        dim=2,
        patch=4,
        time_stride=2,
        stride=1,
        channels=8,
        latent_channels=8,
        rate_conditioned=True,
        patch_frames=2,
        coarser=2,
    ),
    "full attention": lambda: tiny_transformer(reach=4, summary=2),
    "factored attention": lambda: tiny_transformer(attention="factored", reach=4),
    "window": lambda: tiny_transformer(attention="window", reach=2),
    "queries": lambda: tiny_transformer(attention="queries", reach=2),
    "past only": lambda: tiny_transformer(sees="past", reach=4),
    "blocks alone": lambda: tiny_transformer(reach=0),
}


@pytest.fixture(scope="session", params=STREAMING)
def streaming_codec(request: pytest.FixtureRequest) -> Codec:
    """A tiny codec of random weights for each backbone that streams."""
    torch.manual_seed(0)
    backbone = STREAMING[request.param]()
    made = Codec(backbone, FSQ([4, 3]), block_frames=2 * backbone.time_stride)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return made.eval()


@pytest.fixture(scope="session")
def tiny_codec() -> Codec:
    """A codec with random weights: 2 frames a block, 16x24 pixels are 2x3 places."""
    torch.manual_seed(0)
    backbone = ConvBackbone(
        dim=2, patch=4, time_stride=2, stride=2, channels=4, latent_channels=4, latent_blocks=0
    )
    return Codec(backbone, FSQ([4, 3]), block_frames=2, trained_size=(16, 24)).eval()


@pytest.fixture(scope="session")
def clips() -> list[Clip]:
    luck = torch.Generator().manual_seed(0)
    made = []
    for i, (colour, motion) in enumerate(PAIRS):
        frames = torch.randint(0, 256, (4, 3, 16, 24), dtype=torch.uint8, generator=luck)
        questions = (Question("what colour is it?", colour, "colour", COLOURS),)
        captions, labels = (f"a {colour} ball {motion}",), {"action": motion}
        events = (Event(f"the ball {motion}", 0.0, 0.5), Event("it stops", 0.6))
        words = {"captions": captions, "questions": questions, "labels": labels, "events": events}
        made.append(Clip.from_frames(frames, 4, source=f"clip {i}", **words))
    return made


@pytest.fixture(scope="session")
def run_folder(
    tiny_codec: Codec, clips: list[Clip], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A folder with `codec` and `tokens` (shards), as a run leaves it."""
    return left_by(tiny_codec, clips, tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="session")
def summary_folder(clips: list[Clip], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same of a codec with a summary and quadrants."""
    torch.manual_seed(0)
    backbone = FactoredBackbone(
        dim=2, channels=4, latent_channels=4, latent_blocks=0, summary=6, regional=1
    )
    made = Codec(backbone, FSQ([4, 3]), block_frames=2, trained_size=(16, 24)).eval()
    folder, layout = tmp_path_factory.mktemp("summary"), made.layout.to_json()
    return left_by(made, clips, folder, layout=layout)


def left_by(codec: Codec, clips: list[Clip], folder: Path, **told: Any) -> Path:
    codec.save(folder / "codec")
    with ShardWriter(folder / "tokens", {"kind": "video-tokens", **told}) as writer:
        for clip in clips:
            stills = [codec.encode(clip.at(torch.tensor([i]))) for i in (0, len(clip) - 1)]
            writer.write(*write_record(TokenRecord.of(codec.encode(clip), clip, stills)))
    return folder


@pytest.fixture(scope="session")
def model(tiny_codec: Codec, run_folder: Path) -> Model:
    """A model with random weights."""
    vocabulary = make_vocabulary(
        TokenShards(run_folder / "tokens"), tiny_codec.layout, num_pieces=32, rates=(3,)
    )
    sizes = Sizes(width=16, layers=2, heads=2, kv_heads=1, head_dim=8, hidden=24, context=96)
    decoder = make_decoder(vocabulary, code_features(tiny_codec.code_vectors()), sizes)
    torch.manual_seed(0)
    for parameter in decoder.parameters():
        if parameter.ndim == 2:
            torch.nn.init.normal_(parameter, std=0.3)
    return Model(decoder, vocabulary, tiny_codec)


@pytest.fixture(autouse=True)
def heard_interrupts() -> None:
    """Ctrl-C as a terminal has it: what a script starts in the background ignores it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
