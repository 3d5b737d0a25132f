"""The planner's figures against sequences that are really written, and the facts it must give."""

import json
import math
import shlex
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from data.clip import Clip
from data.writing import write_video
from kinolex import main
from lm.document import Document, Task, Text, Video
from lm.footage import read_duration, read_size
from lm.picking import choose
from lm.pieces import Pieces
from lm.plan_command import BLOCK_FRAMES, LAYOUT, Plan, plan
from lm.planning import Task as Planned
from lm.planning import Way, chunks, memory
from lm.prompting import about_video
from lm.sequence import TEXT, VIDEO, Sequence, write
from lm.tasks import Model
from lm.vocabulary import Vocabulary
from tokenizer.tokens import VideoTokens

ROOT = Path(__file__).parent.parent
PIECES = Pieces.train(["a red ball falls", "what colour is it?"], size=16)
BARE = Vocabulary(PIECES, codec_id="c", codebook_size=7, block_frames=8)
QUESTION, ANSWER = "what falls?", "a red ball"
WORDS = len(PIECES.encode(QUESTION)) + len(PIECES.encode(ANSWER))


def made_tokens(frames: int, fps: Fraction, rate: float, height: int, width: int) -> VideoTokens:
    """Codes as a codec of 8 frames a block counts them: the running total, rounded down."""
    total = [math.floor(b * 8 * Fraction(rate)) for b in range(-(-frames // 8) + 1)]
    counts = [max(1, b - a) for a, b in zip(total, total[1:], strict=False)]
    codes = tuple(torch.zeros(count, dtype=torch.int64) for count in counts)
    times = torch.tensor([float(i / fps) for i in range(frames)], dtype=torch.float64)
    return VideoTokens(codes, times, height, width, 8, 7, "c")


def spelled(tokens: VideoTokens, vocabulary: Vocabulary = BARE) -> Sequence:
    texts = Text("question", QUESTION), Text("answer", ANSWER)
    return write(Document.of(Task("watch"), Video(tokens), *texts), vocabulary)


def way(found: Plan, strategy: str) -> Way:
    (one,) = (w for w in found.ways if w.strategy.split("=")[0] == strategy)
    return one


def test_a_minute_at_four_tokens_a_frame_does_not_fit_4096_and_at_a_fifth_it_does() -> None:
    dear = plan(duration="60", fps=24, size="1080p", context=4096)
    whole = way(dear, "whole")
    assert (whole.frames, whole.largest.codes, whole.fits) == (1440, 5760, False)
    assert dear.captions.strategy == "chunks" and way(dear, "chunks").fits
    assert dear.questions.strategy == "hierarchy" and way(dear, "hierarchy").fits
    assert dear.full_tokens_per_frame == (135 * 240 * 4 + 16) / 8  # strides 8 and 2, 16 of summary
    cheap = plan(duration="60", fps=24, size="1080p", context=4096, tokens_per_frame=0.2)
    whole = way(cheap, "whole")
    assert (whole.frames, whole.largest.codes, whole.fits) == (1440, 288, True)
    assert cheap.captions.strategy == cheap.questions.strategy == "whole"
    assert whole.largest.header == 24  # a rate in place of a list of 180 numbers


@pytest.mark.parametrize(
    ("frames", "fps", "rate", "size"),
    [
        (1440, Fraction(24), 4.0, (1080, 1920)),
        (1440, Fraction(24), 0.2, (1080, 1920)),
        (61, Fraction(8), 1.3, (64, 64)),
        (4000, Fraction(30000, 1001), 2.0, (272, 640)),
        (3, Fraction(25), 0.125, (64, 64)),
        (1, Fraction(1), 4.0, (64, 64)),
    ],
)
def test_figures_are_those_of_written_sequences(
    frames: int, fps: Fraction, rate: float, size: tuple[int, int]
) -> None:
    tokens = made_tokens(frames, fps, rate, *size)
    seconds, per_second = f"{float(frames / fps):.9f}", float(fps)
    found = plan(
        duration=seconds,
        fps=per_second,
        size=f"{size[1]}x{size[0]}",
        context=1200,
        tokens_per_frame=rate,
        text=WORDS,
    )
    whole, sequence = way(found, "whole"), spelled(tokens)
    block = BARE.special("<block>")
    assert whole.tokens_each == whole.tokens == len(sequence)
    assert whole.largest.codes == int((sequence.modality == VIDEO).sum())
    assert whole.largest.blocks == int((sequence.ids == block).sum())
    assert whole.largest.text + 2 == int((sequence.modality == TEXT).sum())  # two <stop>
    assert whole.fits == (len(sequence) <= 1200)

    parts, blocks = way(found, "chunks").readings, len(tokens.codes)
    lengths = part_lengths(tokens, -(-blocks // parts))
    assert len(lengths) == parts
    assert (sum(lengths), max(lengths)) == (way(found, "chunks").tokens, max(lengths))
    assert max(lengths) == way(found, "chunks").tokens_each <= 1200
    if parts > 1:  # fewer would not fit
        assert max(part_lengths(tokens, -(-blocks // (parts - 1)))) > 1200


def test_a_context_is_full_to_the_last_token() -> None:
    length = len(spelled(made_tokens(100, Fraction(10), 1.3, 64, 64)))
    for context in (length, length - 1):
        found = plan("10", 10, "64x64", context=context, tokens_per_frame=1.3, text=WORDS)
        assert way(found, "whole").fits == (context == length)
        assert found.captions.strategy == ("whole" if context == length else "chunks")
        assert found.questions.strategy == ("whole" if context == length else "hierarchy")


def test_every_part_fits_where_blocks_and_starts_differ() -> None:
    for context in range(100, 160):
        found = plan("100", 7, "64x64", context=context, tokens_per_frame=1.3, text=WORDS)
        assert way(found, "chunks").fits, context


def part_lengths(tokens: VideoTokens, size: int) -> list[int]:
    """Lengths of the sequences of a video's parts of `size` blocks, each a clip of its own."""
    return [len(spelled(part)) for part in parts_of(tokens, size)]


def parts_of(tokens: VideoTokens, size: int) -> list[VideoTokens]:
    blocks = len(tokens.codes)
    parts = [tokens.blocks(a, min(a + size, blocks)) for a in range(0, blocks, size)]
    return [replace(part, timestamps=part.timestamps - part.timestamps[0]) for part in parts]


@pytest.mark.parametrize(("rate", "context"), [(0.5, 500), (2.0, 1200)])
def test_units_and_images_are_those_of_written_sequences(rate: float, context: int) -> None:
    found = plan("60", 24, "64x64", context=context, tokens_per_frame=rate, text=WORDS)
    joined, thinned = way(found, "aggregate"), way(found, "spread")
    step = int(joined.strategy.removeprefix("aggregate="))
    length, longer = (
        len(spelled(made_tokens(-(-1440 // every), Fraction(24, every), rate, 64, 64)))
        for every in (step, step - 1)
    )
    assert joined.tokens_each == thinned.tokens_each == length <= context < longer
    assert (joined.frames, thinned.frames) == (1440, -(-1440 // step))
    lengths = part_lengths(made_tokens(1440, Fraction(24), rate, 64, 64), parts_size(found))
    assert way(found, "keyframes").tokens == sum(lengths[::8])
    assert way(found, "hierarchy").tokens == way(found, "chunks").tokens == sum(lengths)


def parts_size(found: Plan) -> int:
    """Blocks of a part."""
    return -(-180 // way(found, "chunks").readings)


def test_a_recall_and_overlapping_parts_are_counted_reading_by_reading() -> None:
    found = plan("10:00", 24, "64x64", context=1000, text=100)
    chunks, recall, overlap = (way(found, name) for name in ("chunks", "recall", "overlap"))
    assert chunks.readings > 2 and chunks.tokens_each <= 1000
    held = recall.readings * recall.largest.codes
    assert held <= 2560 < held + recall.largest.codes  # a part more breaks the budget
    assert overlap.tokens_each <= 1000
    assert 1.8 * chunks.tokens < overlap.tokens < 2.2 * chunks.tokens


def test_what_rolls_reads_every_block_once() -> None:
    found, codes = plan("10:00", 24, "64x64", context=1000, text=100), 1800 * 32  # 4 a frame
    window, memory = way(found, "window"), way(found, "memory")
    at_once = -(-1800 // way(found, "chunks").readings)  # blocks of a part that fits
    assert window.tokens_each <= 1000
    assert window.readings == 1800 - at_once + 1 == memory.readings
    asked = 1 + 5 + 100  # `</video>`, marks of question and answer, their words
    assert window.tokens == window.tokens_each + (window.readings - 1) * (32 + 1 + asked)
    assert memory.tokens == window.tokens
    opening = 2 + window.largest.header - 1  # <begin>, <watch> and the header, once
    assert window.tokens == opening + codes + 1800 + window.readings * asked


@pytest.mark.parametrize("context", [700, 4096, 100_000])
def test_the_rate_that_fits_fits_and_the_next_does_not(context: int) -> None:
    def fits(rate: float) -> bool:
        tokens = made_tokens(1440, Fraction(24), rate, 1080, 1920)
        return len(spelled(tokens)) <= context

    rate = plan("60", context=context, text=WORDS).fitting_tokens_per_frame
    assert rate is not None and fits(rate) and not fits(rate + 1 / 8)


def test_where_nothing_fits_nothing_is_picked() -> None:
    found = plan("60", context=40)
    for each in (found.captions, found.questions):
        assert each.strategy is None and each.command is None
        assert "larger context or a lower rate" in each.reason
    assert found.fitting_tokens_per_frame is None
    assert not any(w.fits for w in found.ways)


# With a model


@pytest.fixture(scope="module")
def saved(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("planned")
    model.save(folder)
    return folder


def noise(frames: int, fps: int, height: int, width: int) -> Clip:
    luck = torch.Generator().manual_seed(0)
    shape = (frames, 3, height, width)
    return Clip.from_frames(torch.randint(0, 256, shape, dtype=torch.uint8, generator=luck), fps)


def question_cost(model: Model, tokens: VideoTokens) -> int:
    """Tokens of a document on a video, with no words."""
    prompt = about_video(model.vocabulary, tokens, "answer", QUESTION)
    return len(prompt) - len(model.vocabulary.encode_text(QUESTION)) + 2  # <stop>, <end>


@pytest.mark.parametrize("rate", [None, 2.0, 1.3])
def test_a_model_reads_what_its_plan_says(model: Model, saved: Path, rate: float | None) -> None:
    clip = noise(30, 8, 32, 48)  # twice the size and speed of the clips it was trained on
    found = plan("3.75", 8, "48x32", model=saved, tokens_per_frame=rate, text=20)
    seen = model.framing.at_rate(clip)
    assert (found.read_as.num_frames, found.read_as.height) == (len(seen), 16)
    tokens = model.codec.encode(seen, rate)
    assert way(found, "whole").tokens_each == question_cost(model, tokens) + 20
    chunks = way(found, "chunks")
    parts = parts_of(tokens, 2)
    assert chunks.readings == len(parts)  # of 4 frames, as trained
    assert chunks.tokens == sum(question_cost(model, part) + 20 for part in parts)
    with pytest.warns(UserWarning, match="brought to"):
        shown = model.encode(clip, rate)
    spread = way(found, "spread")
    assert (spread.frames, spread.tokens) == (4, question_cost(model, shown) + 20)
    assert chunks.fits and isinstance(model.ask(parts[-1], QUESTION), str)  # as it says


@pytest.mark.parametrize("long", ["chunks", "window", "memory", "recall", "overlap", "aggregate"])
def test_what_is_planned_is_what_is_spent(model: Model, saved: Path, long: str) -> None:
    clip, choices = noise(31, 4, 16, 24), ("a red ball", "a blue one")
    words = sum(len(model.vocabulary.encode_text(text)) for text in (QUESTION, *choices))
    found = plan("7.75", 4, "24x16", model=saved, text=words)  # and a second <stop> for <end>
    (planned,) = (w for w in found.ways if w.strategy.split("=")[0] == long)
    spent = model.ask(clip, QUESTION, choices, long=planned.strategy)
    assert (spent.tokens, spent.readings) == (planned.tokens, planned.readings)


def test_a_model_is_not_sent_beyond_what_it_was_trained_on(saved: Path) -> None:
    longer = plan("3", 4, "24x16", model=saved, text=20, tokens_per_frame=1)
    assert way(longer, "whole").fits and longer.captions.strategy == "chunks"
    assert "no clip of more than 4 frames" in longer.captions.reason
    as_trained = plan("1", 4, "24x16", model=saved, text=20)
    assert as_trained.captions.strategy == "whole" and as_trained.read_as == as_trained.video
    assert way(as_trained, "whole").largest.header == 3  # <video>, a preset, </video>
    assert as_trained.context == 96


def made_task(frames: int, **more: Any) -> Planned:
    times = [i / 4 for i in range(frames)]
    return Planned(times, 64, 64, 1.0, 8, 8, context=100, text=10, **more)


def test_where_no_part_fits_what_sees_most_is_picked() -> None:
    task = made_task(64)
    part = replace(chunks(task), fits=False)
    few = replace(part, strategy="spread", frames=8, tokens=50, fits=True)
    all_of_it = replace(part, strategy="aggregate=8", frames=64, tokens=50, fits=True)
    dear = replace(all_of_it, strategy="aggregate=4", tokens=90)
    found, reason = choose("questions", task, [part, few, dear, all_of_it])
    assert found == all_of_it and "nor does a part" in reason and "most frames, 64" in reason
    assert choose("captions", task, [replace(part, strategy="hierarchy", fits=True)])[0] is None


def test_a_memory_must_fit_when_it_is_full() -> None:
    """Of a model of one block it begins with half a block; a memory as long comes beside it."""
    task = made_task(64, trained_frames=8, trained_fps=4.0)
    first = memory(task).tokens_each
    held = first + 4  # 5 of the 9 tokens were there at first
    for context in range(first, held + 3):
        assert memory(replace(task, context=context)).fits == (context >= held), context


def test_the_commands_that_are_told_do_what_is_planned(
    saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "a film.mkv"
    write_video(noise(12, 4, 16, 24), file)
    found = plan(video=file, model=saved, text=20)
    assert (found.captions.strategy, found.questions.strategy) == ("chunks", "hierarchy")
    for each in (found.captions, found.questions):
        assert each.command is not None and "--long" in each.command
        assert main([*shlex.split(each.command)[1:], "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
        (said,) = told if isinstance(told, list) else [told]
        assert said["readings"] >= 1
    assert main(["plan", "--video", str(file), "--model", str(saved), "--text", "20"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    for what, each in (("captions", found.captions), ("questions", found.questions)):
        assert f"pick {what} by {each.strategy}: {each.reason} {each.command}" in printed


def test_commands_name_a_rate_where_they_can(model: Model, saved: Path) -> None:
    short = plan("1", 4, "24x16", model=saved, text=20, tokens_per_frame=1)
    expected = f"kinolex caption VIDEO --model {saved} --tokens-per-frame 1"
    assert short.captions.command == expected
    longer = plan("3", 4, "24x16", model=saved, text=20, tokens_per_frame=1)
    assert longer.questions.command is not None
    scope: dict[str, Any] = {"model": model, "clip": noise(12, 4, 16, 24)}
    exec(longer.questions.command.replace("model.ask", "said = model.ask"), scope)
    assert scope["said"].readings >= 1


def test_a_codec_alone_says_what_it_serves(run_folder: Path) -> None:
    found = plan("10", 4, "24x16", model=run_folder / "codec", tokens_per_frame=2.5)
    assert (found.block_frames, found.full_tokens_per_frame) == (2, 3.0)  # 2x3 places a block
    assert way(found, "whole").largest.codes == 100
    with pytest.raises(ValueError, match=r"serves 0.5 to 3 tokens a frame"):
        plan("10", 4, "24x16", model=run_folder / "codec", tokens_per_frame=4)


def test_the_codec_that_is_assumed_is_the_one_that_the_base_config_trains() -> None:
    base = yaml.safe_load((ROOT / "configs/tokenizer/base.yaml").read_text())["model"]
    network = base["backbone"]["init_args"]
    assert base["block_frames"] == BLOCK_FRAMES
    assert LAYOUT.time == BLOCK_FRAMES // network["time_stride"]
    assert LAYOUT.space_stride == network["patch"] * network["stride"]
    assert LAYOUT.summary == network["summary"]


# What is said


def test_a_file_says_how_long_and_large_it_is(tmp_path: Path) -> None:
    path = tmp_path / "clip.mkv"
    write_video(noise(20, 10, 32, 48), path)
    found = plan(video=path, tokens_per_frame=1)
    assert (found.video.num_frames, found.video.seconds) == (20, 2.0)
    assert (found.video.height, found.video.width) == (32, 48)
    assert way(found, "whole") == way(plan("2", 10, "48x32", tokens_per_frame=1), "whole")
    with pytest.raises(ValueError, match="fps=24.* with a video"):
        plan(video=path, fps=24)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("60", 60), ("90.5", 90.5), (".5", 0.5), ("1:30", 90), ("1:30:00", 5400), ("0:00:02.5", 2.5)],
)
def test_durations(text: str, seconds: float) -> None:
    assert read_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "-3", "1:2:3:4", "a minute", "1e3", "nan", "1:", ":30"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="give seconds"):
        read_duration(text)


@pytest.mark.parametrize("text", ["1:99", "0:99", "1:60:00", "0:60:00", "2:00:60.5"])
def test_sixty_seconds_are_a_minute(text: str) -> None:
    with pytest.raises(ValueError, match=f"duration={text}: after a colon give less than 60"):
        read_duration(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1080p", (1080, 1920)),
        ("720P", (720, 1280)),
        ("480p", (480, 854)),
        ("2160p", (2160, 3840)),
        ("64x64", (64, 64)),
        ("640x272", (272, 640)),
    ],
)
def test_sizes(text: str, size: tuple[int, int]) -> None:
    assert read_size(text) == size


@pytest.mark.parametrize("text", ["", "p", "0p", "64", "0x64", "64x", "100000x4", "-4x4"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="WIDTHxHEIGHT"):
        read_size(text)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "no video: give --duration"),
        (["--duration", "60", "--fps", "0"], "fps=0: give frames a second"),
        (["--duration", "60", "--context", "0"], "context=0"),
        (["--duration", "60", "--text=-1"], "text=-1"),
        (["--duration", "60", "--tokens-per-frame", "0.1"], "serves 0.125 to 16202"),
        (["--duration", "60", "--tokens-per-frame", "0"], "tokens_per_frame=0"),
        (["--duration", "1000:00:00"], "more than the 999,999 frames"),
        (["--video", "nothing.mp4"], "nothing.mp4: no such file"),
        (["--duration", "60", "--model", "nobody"], "no such directory"),
        (["--duration", "60", "--model", "MODEL", "--context", "97"], "this model's is 96"),
        (["--duration", "60", "--model", "MODEL", "--tokens-per-frame", "9"], "reads 0.5 to 3"),
    ],
)
def test_what_cannot_be_planned_is_one_line(
    words: list[str], message: str, saved: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", *(str(saved) if word == "MODEL" else word for word in words)]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--duration", "1:00", "--tokens-per-frame", "0.2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["video"] == {"num_frames": 1440, "seconds": 60.0, "height": 1080, "width": 1920}
    whole = found["ways"][0]
    assert whole["strategy"] == "whole" and sum(whole["largest"].values()) == whole["tokens_each"]
    assert found["captions"]["strategy"] == "whole" and found["captions"]["reason"]
    assert found["questions"]["command"] == "kinolex ask VIDEO QUESTION --model MODEL"


def test_eleven_hours_are_planned_whatever_the_context() -> None:
    """Frames that are hours apart have no header: thinning stops before."""
    for context in (40, 256, 4096):
        found = plan("11:00:00", 1, "64x64", context=context)
        assert len(found.ways) == 10
        assert found.captions.strategy == (None if context == 40 else "chunks")
