"""Token files under a language model: the same tokens back, at the price the model names."""

from __future__ import annotations

import copy
import json
import math
import shlex
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from data.clip import Clip
from data.reading import read_clip
from data.shards import TokenShards
from data.writing import write_video
from kinolex import main
from lm.corpus import make_vocabulary
from lm.document import Document, Nothing, Task, Video
from lm.learning import code_features, make_decoder
from lm.loss import token_losses
from lm.model import Sizes
from lm.model_prior import ModelPrior, to_frequencies
from lm.sequence import VIDEO, write
from lm.tasks import Model
from tokenizer.codec import Codec
from tokenizer.entropy import TOTAL, Expectation, decode_codes, encode_codes
from tokenizer.file_commands import decode
from tokenizer.file_encoding import encode
from tokenizer.file_reading import TokenReader
from tokenizer.file_writing import TokenWriter
from tokenizer.files import load_tokens, save_tokens
from tokenizer.records import PACKED, UNDER_PRIOR
from tokenizer.studies.curve import load_curve
from tokenizer.studies.plan import read_plan
from tokenizer.tokens import VideoTokens


@pytest.fixture(scope="module")
def prior(model: Model) -> ModelPrior:
    return ModelPrior(model)


@pytest.fixture(scope="module")
def forgetful(model: Model) -> ModelPrior:
    """A prior whose context holds the opening and 11 codes."""
    sizes = Sizes(width=8, layers=1, heads=2, kv_heads=1, head_dim=4, hidden=8, context=16)
    torch.manual_seed(1)
    decoder = make_decoder(model.vocabulary, code_features(model.codec.code_vectors()), sizes)
    for parameter in decoder.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return ModelPrior(Model(decoder, model.vocabulary, model.codec))


def some_tokens(
    prior: ModelPrior, counts: list[int], seed: int, height: int = 16, width: int = 24
) -> VideoTokens:
    """Of each three blocks two that the prior finds likely, decoded from random bytes."""
    luck, expectation = np.random.default_rng(seed), prior.start(height, width)
    codes = []
    for number, count in enumerate(counts):
        if number % 3 == 1:
            codes.append(luck.integers(0, prior.codebook_size, count))
            encode_codes(codes[-1], expectation)
        else:
            content = b"\x55" + luck.bytes(2 * count + 9)
            codes.append(decode_codes(content, count, expectation))
    return VideoTokens(
        codes=tuple(map(torch.from_numpy, codes)),
        timestamps=torch.arange(2 * len(counts), dtype=torch.float64) / 4,
        height=height,
        width=width,
        block_frames=2,
        codebook_size=prior.codebook_size,
        codec_id=prior.codec_id,
    )


def same_codes(a: VideoTokens, b: VideoTokens) -> bool:
    return len(a.codes) == len(b.codes) and all(map(torch.equal, a.codes, b.codes))


class Priced:
    """An expectation that adds up its own cross-entropy, in bits."""

    def __init__(self, expectation: Expectation) -> None:
        self.expectation, self.bits = expectation, 0.0

    def start_block(self, count: int) -> np.ndarray:
        return self.expectation.start_block(count)

    def frequencies(self) -> np.ndarray:
        return self.expectation.frequencies()

    def see(self, code: int) -> None:
        self.bits -= math.log2(self.frequencies()[code] / TOTAL)
        self.expectation.see(code)


@settings(max_examples=12)
@given(
    counts=st.lists(st.integers(1, 6), min_size=1, max_size=7),
    group=st.integers(1, 4),
    data=st.data(),
)
def test_any_rates_round_trip_and_are_read_anywhere(
    prior: ModelPrior, counts: list[int], group: int, data: st.DataObject
) -> None:
    made = some_tokens(prior, counts, len(counts))
    first = data.draw(st.integers(0, len(counts) - 1))
    stop = data.draw(st.integers(first + 1, len(counts)))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "a.kvt"
        save_tokens(made, file, prior, group_blocks=group)
        with TokenReader(file, prior) as reader:
            assert same_codes(reader.read(), made)
            assert same_codes(reader.read_blocks(first, stop), made.blocks(first, stop))


def test_packed_blocks_stand_between_coded_ones(prior: ModelPrior, tmp_path: Path) -> None:
    made = some_tokens(prior, [6] * 6, seed=3)
    save_tokens(made, tmp_path / "a.kvt", prior)
    with TokenReader(tmp_path / "a.kvt", prior) as reader:
        assert {block.coding for block in reader.blocks()} == {PACKED, UNDER_PRIOR}
        assert same_codes(reader.read(), made)


def test_a_file_gone_on_with_is_that_of_one_run(prior: ModelPrior, tmp_path: Path) -> None:
    made, file = some_tokens(prior, [6, 6, 2, 6, 6], seed=0), tmp_path / "a.kvt"
    save_tokens(made, tmp_path / "whole.kvt", prior, group_blocks=4)
    sizes = made.codec_id, made.height, made.width, made.block_frames, made.codebook_size
    times = made.timestamps.split(2)
    with TokenWriter(file, *sizes, prior, group_blocks=4) as writer:
        for codes, covered in zip(made.codes[:3], times, strict=False):
            writer.append(codes, covered)
    writer, taken = TokenWriter.reopen(file, prior)
    assert taken is None
    with writer:
        for codes, covered in zip(made.codes[3:], times[3:], strict=True):
            writer.append(codes, covered)
    assert file.read_bytes() == (tmp_path / "whole.kvt").read_bytes()


def test_blocks_longer_than_the_context(forgetful: ModelPrior) -> None:
    made = some_tokens(forgetful, [30, 1, 20], seed=5, height=64, width=64)
    writing, reading = (forgetful.start(64, 64) for _ in range(2))
    for codes in made.codes:
        payload = encode_codes(codes.numpy(), writing)
        assert decode_codes(payload, len(codes), reading).tolist() == codes.tolist()


def test_coding_costs_what_the_model_expects(prior: ModelPrior) -> None:
    luck, expectation = np.random.default_rng(7), prior.start(80, 80)
    for count in (88, 70):
        priced = Priced(expectation)
        coded = 8 * len(encode_codes(luck.integers(0, prior.codebook_size, count), priced))
        assert 100 < priced.bits - 1 <= coded <= 1.001 * priced.bits + 8


@pytest.mark.parametrize("kept", [3, 6])
def test_the_price_is_the_language_models_own_loss(
    model: Model, prior: ModelPrior, clips: list[Clip], kept: int
) -> None:
    """Of a clip about which nothing is said, in float32 and all at once, as training has it."""
    tokens = model.codec.encode(clips[0]).keep(kept)
    assert [len(codes) for codes in tokens.codes] == [kept, kept]
    spelled = write(Document.of(Task("film"), Nothing(), Video(tokens)), model.vocabulary)
    with torch.inference_mode():
        hidden = model.decoder(spelled.ids[None, :-1], slots=spelled.slots[None, :-1])[0]
        video = spelled.modality[1:] == VIDEO
        loss, _ = token_losses(model.decoder, hidden[video], spelled.ids[1:][video])
    priced = Priced(prior.start(tokens.height, tokens.width))
    for codes in tokens.codes:
        encode_codes(codes.numpy(), priced)
    assert priced.bits == pytest.approx(float(loss.sum()) / math.log(2), rel=2e-3)


def test_frequencies_do_not_depend_on_how_sums_are_made(prior: ModelPrior) -> None:
    """Code by code, all at once and within a codec's bfloat16: the very same whole numbers."""
    ids, _ = prior.opening(16, 24, 6)
    ids, places = [*ids, *(prior.first_code + code for code in (3, 0, 9, 11, 3, 5))], [0] * 11
    read, cache = prior.read(ids[:5], places[:5], None, 6)
    for number in range(5, 11):
        read, cache = prior.read([ids[number]], [0], cache, 0)
        with torch.autocast("cpu", torch.bfloat16):
            at_once, _ = prior.read(ids[: number + 1], places[: number + 1], None, 0)
        assert read.tolist() == at_once.tolist()


def test_summaries_are_read_code_by_code_as_at_once(summary_folder: Path) -> None:
    codec = Codec.load(summary_folder / "codec")
    vocabulary = make_vocabulary(
        TokenShards(summary_folder / "tokens"), codec.layout, num_pieces=32, rates=(3,)
    )
    sizes = Sizes(width=8, layers=1, heads=2, kv_heads=1, head_dim=4, hidden=8, context=96)
    decoder = make_decoder(vocabulary, code_features(codec.code_vectors()), sizes)
    assert decoder.summary_sums is not None
    for parameter in decoder.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    prior = ModelPrior(Model(decoder, vocabulary, codec))
    ids, _ = prior.opening(16, 24, 9)
    begun, codes = len(ids), [prior.first_code + code for code in (3, 0, 9, 11, 3, 5, 7, 7, 2)]
    ids, places = [*ids, *codes], [*[0] * begun, *range(len(codes))]
    read, cache = prior.read(ids[:begun], places[:begun], None, 9)
    for number in range(begun, len(ids)):
        read, cache = prior.read([ids[number]], [places[number]], cache, 0)
        at_once, _ = prior.read(ids[: number + 1], places[: number + 1], None, 0)
        assert read.tolist() == at_once.tolist()
    other = [*ids[:-4], ids[-4] + 1, *ids[-3:]]
    assert prior.read(other, places, None, 0)[0].tolist() != read.tolist()


@given(st.lists(st.floats(-60, 60), min_size=1, max_size=40))
def test_frequencies_are_the_models_probabilities(scores: list[float]) -> None:
    logits = torch.tensor(scores, dtype=torch.float64)
    found = to_frequencies(logits)
    assert found.sum() == TOTAL and found.min() >= 1
    wanted = logits.softmax(0).numpy()
    assert np.all(np.abs(found / TOTAL - wanted) <= 0.045 * wanted + 2 * len(scores) / TOTAL)


def test_names_tell_models_apart(model: Model, prior: ModelPrior, tmp_path: Path) -> None:
    model.save(tmp_path / "model")
    assert ModelPrior.load(tmp_path / "model").name == prior.name
    other = copy.deepcopy(model.decoder)
    with torch.no_grad():
        other.norm.weight[0] += 1e-3
    assert ModelPrior(Model(other, model.vocabulary, model.codec)).name != prior.name
    other.norm.weight.data[0] = math.nan
    with pytest.raises(ValueError, match="weights that are no numbers"):
        ModelPrior(Model(other, model.vocabulary, model.codec))
    sizes = Sizes(width=8, layers=1, heads=1, kv_heads=1, head_dim=4, hidden=8, context=6)
    short = make_decoder(model.vocabulary, code_features(model.codec.code_vectors()), sizes)
    with pytest.raises(ValueError, match="a context of 6 tokens cannot"):
        ModelPrior(Model(short, model.vocabulary, model.codec))
    with pytest.raises(ValueError, match="priors know at most"):
        prior.start(2**20, 2**20)


def test_commands_find_the_model_or_refuse_by_name(
    model: Model,
    prior: ModelPrior,
    clips: list[Clip],
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
) -> None:
    video = write_video(clips[1], tmp_path / "clip.mkv")
    folder, bare, file = tmp_path / "model", tmp_path / "model" / "codec", tmp_path / "a.kvt"
    model.save(folder)
    foreign = Codec.load(bare)
    torch.nn.init.zeros_(next(foreign.parameters()))
    foreign.save(tmp_path / "other")

    def run(line: str) -> tuple[int, str, str]:
        status = main([*shlex.split(line), "--json"])
        return status, *capsys.readouterr()

    words = f"encode {video} --out {file} --coding model --model"
    status, shown, _ = run(f"{words} {folder}")
    assert status == 0 and json.loads(shown)[0]["coding"] == "model"
    whole = model.codec.encode(read_clip(video))
    assert same_codes(load_tokens(file, prior), whole)
    assert json.loads(run(f"info {file}")[1])["prior"] == prior.name
    written = file.read_bytes()
    assert run(f"{words} {bare} --prior {folder}")[0] == 0
    assert file.read_bytes() == written
    back = f"decode {file} --out {tmp_path / 'b.mkv'} --model"
    for given_by in (f"{folder}", f"{bare} --prior {folder}"):
        assert run(f"{back} {given_by}")[0] == 0
        again = read_clip(tmp_path / "b.mkv")
        assert torch.equal(again.frames, model.codec.decode(whole).frames)
    changed = copy.deepcopy(model.decoder)
    changed.norm.weight.data[0] += 1
    stranger = Model(changed, model.vocabulary, model.codec)
    stranger.save(tmp_path / "stranger")
    for line, told in (
        (f"{words} {bare}", "coding model needs a language model: give the folder"),
        (f"{words} {tmp_path / 'other'} --prior {folder}", f"not of {foreign.codec_id}"),
        (f"{words} {folder} --prior {video}", "clip.mkv: not a model directory"),
        (f"{back} {bare}", f"a.kvt: coded under the prior {prior.name}: give the folder of"),
        (f"{back} {tmp_path / 'stranger'}", f"{prior.name}, not {ModelPrior(stranger).name}"),
    ):
        status, _, error = run(line)
        assert status == 2 and told in error and error.count("\n") == 1
    assert file.read_bytes() == written
    with pytest.raises(ValueError, match="use the kinolex command"):
        encode([video], folder, file, coding="model")
    with pytest.raises(ValueError, match="give the folder of that language model with --prior"):
        load_tokens(file)
    assert run(f"encode {video} --out {file} --model {bare} --coding adaptive")[0] == 0
    with pytest.warns(UserWarning, match="has no effect: .* is adaptive"):
        decode(file, tmp_path / "b.mkv", bare, folder)


def test_a_study_codes_under_the_model_in_the_codecs_folder(
    model: Model, prior: ModelPrior, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model.save(tmp_path / "model")
    curve = {"name": "model", "codec": str(tmp_path / "model"), "coding": "model"}
    clips = {"source": "scenes:easy", "num_clips": 2, "num_frames": 4, "height": 16, "width": 24}
    file, out = tmp_path / "study.yaml", tmp_path / "out"
    file.write_text(json.dumps({"name": "small", "clips": clips, "curves": [curve]}))
    assert main(["study", str(file), "--out", str(out)]) == 0
    measured = load_curve(out / "curves" / "model.json")
    assert measured.protocol["prior"] == [prior.name]
    (coded,), (packed,) = measured.metric("bpp-coded"), measured.metric("bpp-packed")
    assert 0 < coded <= packed
    curve["codec"] = str(tmp_path / "model" / "codec")
    file.write_text(json.dumps({"name": "small", "clips": clips, "curves": [curve]}))
    capsys.readouterr()
    assert main(["study", str(file), "--out", str(out)]) == 2
    assert "coding model needs a language model" in capsys.readouterr().err
    with pytest.raises(ValueError, match="is for codecs in folders of language models"):
        train = {"config": ["configs/tokenizer/base.yaml"], "steps": 1}
        curve = {"name": "model", "train": train, "coding": "model"}
        file.write_text(json.dumps({"name": "small", "clips": clips, "curves": [curve]}))
        read_plan(file)
