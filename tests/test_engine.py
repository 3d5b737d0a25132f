"""llama.cpp behind our sampling: the same scores, texts and films as the decoder itself."""

from __future__ import annotations

import importlib
import shlex
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

import kinolex
from lm.drawing import Draw, Sampling
from lm.engine import open_engine
from lm.grammar import Grammar
from lm.learning import code_features, make_decoder
from lm.model import Decoder, Sizes
from lm.prompting import condition, to_video
from lm.sampling import Prompt, continue_streams
from lm.tasks import Model
from lm.vocabulary import Vocabulary
from tests.conftest import CODES, tiny_config
from tokenizer.command_line import build_parser

built = find_spec("llama_cpp") is not None and find_spec("gguf") is not None
llama_cpp = pytest.mark.skipif(not built, reason="needs the extra `engine`")
EXACT = 1e-4  # of float32 scores whose spread is about 1


def widen(decoder: Decoder) -> Decoder:
    """Weights so large that scores are far apart."""
    torch.manual_seed(0)
    for parameter in decoder.parameters():
        if parameter.ndim == 2:
            torch.nn.init.normal_(parameter, std=0.3)
    return decoder.eval()


@pytest.fixture
def plain(vocabulary: Vocabulary) -> Decoder:
    """A decoder in Qwen3's layout."""
    return widen(Decoder(tiny_config(vocabulary, num_slots=0), torch.randn(CODES, 3)))


@pytest.fixture
def plain_model(model: Model) -> Model:
    sizes = Sizes(
        width=32, layers=2, heads=2, kv_heads=1, head_dim=16, hidden=64, slot_embedding=False
    )
    features = code_features(model.codec.code_vectors())
    decoder = widen(make_decoder(model.vocabulary, features, replace(sizes, context=96)))
    return Model(decoder, model.vocabulary, model.codec)


def beside(decoder: Decoder, vocabulary: Vocabulary) -> Callable[..., tuple[Any, Any]]:
    """What a function gives with the decoder's own computing, and with llama.cpp."""
    engine = open_engine("llama.cpp", decoder, vocabulary)

    def both(run: Callable[..., Any], *words: Any, **options: Any) -> tuple[Any, Any]:
        found = []
        for decoder.engine in (None, engine):
            found.append(run(*words, **options))
        decoder.engine = None
        return found[0], found[1]

    return both


def streams(vocabulary: Vocabulary, *lengths: int) -> list[list[int]]:
    luck = torch.Generator().manual_seed(1)
    return [torch.randint(len(vocabulary), (n,), generator=luck).tolist() for n in lengths]


def own_scores(decoder: Decoder, ids: list[int]) -> torch.Tensor:
    """Scores after a stream, read at once and alone, without a cache."""
    with torch.inference_mode():
        return decoder.logits(decoder(torch.tensor([ids]))[0, -1])


@llama_cpp
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize(("heads", "kv_heads", "head_dim"), [(4, 2, 4), (2, 2, 16), (3, 1, 6)])
def test_scores_are_those_of_the_decoder(
    vocabulary: Vocabulary, tied: bool, heads: int, kv_heads: int, head_dim: int
) -> None:
    """Rows of different lengths, tokens pushed, rows dropped: always as if read alone."""
    sizes = {"heads": heads, "kv_heads": kv_heads, "head_dim": head_dim, "tied": tied}
    decoder = Decoder(tiny_config(vocabulary, num_slots=0, **sizes), torch.randn(CODES, 3))
    engine = open_engine("llama.cpp", widen(decoder), vocabulary)
    assert engine is not None
    rows = streams(vocabulary, 5, 40, 1, 17, 9)
    reading = engine.read([(ids, [0] * len(ids)) for ids in rows], room=20)
    for kept in (None, [1, 3, 4], [0, 1, 2], [0, 2], [1], [0]):
        if kept is not None:
            reading.keep(kept)
            more = streams(vocabulary, len(kept))[0]
            reading.push(more, [0] * len(kept))
            rows = [[*rows[i], token] for i, token in zip(kept, more, strict=True)]
        expected = torch.stack([own_scores(decoder, ids) for ids in rows])
        assert expected.std() > 0.5  # else closeness says nothing
        given = reading.scores(3, len(vocabulary) - 2)
        torch.testing.assert_close(given, expected[:, 3:-2], rtol=0, atol=EXACT)


@llama_cpp
def test_two_readings_do_not_meddle(plain: Decoder, vocabulary: Vocabulary) -> None:
    engine = open_engine("llama.cpp", plain, vocabulary)
    assert engine is not None
    one, other = streams(vocabulary, 6, 11)
    first = engine.read([(one, [0] * 6)], room=4)
    second = engine.read([(other, [0] * 11)], room=4)
    first.push([7], [0])
    for reading, ids in ((first, [*one, 7]), (second, other)):
        expected = own_scores(plain, ids)[None]
        given = reading.scores(0, len(vocabulary))
        torch.testing.assert_close(given, expected, rtol=0, atol=EXACT)


@llama_cpp
@pytest.mark.parametrize("guidance", [1.0, 2.5])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_streams_are_the_same(
    plain: Decoder, vocabulary: Vocabulary, guidance: float, temperature: float
) -> None:
    """Documents of any items and lengths, some of which end long before others."""
    grammar, begin = Grammar(vocabulary), vocabulary.special("<begin>")
    said = [vocabulary.special("<talk>"), vocabulary.special("<text>")]
    prompts = [
        Prompt([begin, *said], [begin]),
        Prompt([begin], [begin]),
        Prompt([begin, *said, *vocabulary.encode_text("a red ball")], [begin, *said]),
    ]
    kind = Draw(temperature)
    sampling = Sampling(text=kind, video=kind, guidance=guidance)
    both = beside(plain, vocabulary)

    def write() -> list[Any]:
        return [
            (repr(state.items), state.mode)
            for state in continue_streams(
                plain, grammar, prompts * 3, sampling=sampling, max_new=60
            )
        ]

    own, other = both(write)
    assert own == other
    assert len(set(own)) > 2


@llama_cpp
def test_captions_answers_and_films_are_the_same(plain_model: Model, clips: list[Any]) -> None:
    both = beside(plain_model.decoder, plain_model.vocabulary)
    for run, words, options in (
        (plain_model.caption_batch, (clips,), {"beams": 1}),
        (plain_model.captions, (clips[0], 4), {"temperature": 1.0, "seed": 5}),
        (plain_model.ask_batch, (clips[:2], ["what colour is it?", "how?"]), {}),
    ):
        own, other = both(run, *words, **options)
        assert own == other and any(own)
    prompts = ["a red ball falls", None, "a blue ball rises slowly"]
    for guidance in (1.0, 2.0):
        sampling = Sampling(guidance=guidance)
        own, other = both(plain_model.generate_batch, prompts, sampling=sampling)
        for mine, theirs in zip(own, other, strict=True):
            assert torch.equal(mine.frames, theirs.frames)


@llama_cpp
def test_batch_equals_alone(plain: Decoder, vocabulary: Vocabulary) -> None:
    grammar = Grammar(vocabulary)
    plain.engine = open_engine("llama.cpp", plain, vocabulary)
    shown = condition(vocabulary, "a red ball falls"), condition(vocabulary, None)
    fmt = vocabulary.presets[0]
    prompts = [Prompt(to_video(vocabulary, span, fmt)) for span in shown]

    def film(chosen: list[Prompt], seeds: list[int]) -> list[Any]:
        states = continue_streams(plain, grammar, chosen, seeds=seeds, num_items=1)
        return [[block.tolist() for block in state.items[-1].tokens.codes] for state in states]  # type: ignore[union-attr]

    together = film(prompts, [3, 4])
    assert together == film(prompts[:1], [3]) + film(prompts[1:], [4])


@llama_cpp
@pytest.mark.parametrize("weights", ["bf16", "q8_0"])
def test_smaller_weights_are_near(plain_model: Model, weights: str) -> None:
    decoder, vocabulary = plain_model.decoder, plain_model.vocabulary
    engine = open_engine(f"llama.cpp:{weights}", decoder, vocabulary)
    assert engine is not None
    ids = streams(vocabulary, 30)[0]
    expected = own_scores(decoder, ids)
    given = engine.read([(ids, [0] * 30)], room=1).scores(0, len(vocabulary))[0]
    error = (given - expected).square().mean().sqrt() / expected.std()
    assert 1e-5 < error < 0.05


@llama_cpp
def test_llama_cpp_reads_text_as_we_do(
    plain: Decoder, vocabulary: Vocabulary, tmp_path: Path
) -> None:
    import llama_cpp

    from lm.gguf_writing import write_gguf

    write_gguf(plain, vocabulary, tmp_path / "a.gguf")
    model = llama_cpp.Llama(str(tmp_path / "a.gguf"), vocab_only=True, verbose=False)
    for text in (
        "a red ball falls",
        " two  spaces ",
        "new\nline",
        "Grüße, 日本 🎬",
        "<video><stop> <code 3>",
        "<0x41>",
    ):
        found = model.tokenize(text.encode(), add_bos=False, special=False)
        assert found == vocabulary.encode_text(text), text


def test_load_takes_an_engine(plain_model: Model, tmp_path: Path) -> None:
    plain_model.save(tmp_path / "model")
    assert kinolex.load(tmp_path / "model").decoder.engine is None
    with pytest.raises(
        ValueError, match="engine='llama': give torch, torch:bf16, torch:int8, llama.cpp or"
    ):
        kinolex.load(tmp_path / "model", engine="llama")
    with pytest.raises(ValueError, match="llama.cpp:q3"):
        kinolex.load(tmp_path / "model", engine="llama.cpp:q3")


@llama_cpp
def test_commands_take_an_engine(
    plain_model: Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain_model.save(tmp_path / "model")
    words = ["generate", "a red ball", "--model", str(tmp_path / "model"), "--temperature", "0"]
    written = []
    for engine in ("torch", "llama.cpp"):
        out = tmp_path / f"{engine}.png"
        assert kinolex.main([*words, "--out", str(out), "--engine", engine]) == 0
        written.append(out.read_bytes())
    assert written[0] == written[1]


def test_commands_of_the_guide_parse() -> None:
    guide = (Path(__file__).parent.parent / "docs" / "engine.md").read_text()
    lines = [line for line in guide.splitlines() if line.startswith("kinolex ")]
    assert len(lines) >= 4
    for line in lines:
        name, rest = kinolex._split([kinolex._underscored(word) for word in shlex.split(line)[1:]])
        assert name is not None, line
        command = kinolex.COMMANDS[name]
        if not command.takes_argv:
            module, _, function = command.target.partition(":")
            run = getattr(importlib.import_module(module), function)
            build_parser(name, command, run).parse_args(rest)


def test_a_missing_package_is_named(
    plain: Decoder, vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "llama_cpp", None)
    with pytest.raises(ValueError, match=r"needs llama_cpp: pip install 'kinolex\[engine\]'"):
        open_engine("llama.cpp", plain, vocabulary)


@llama_cpp
def test_other_layouts_are_refused(decoder: Decoder, vocabulary: Vocabulary) -> None:
    with pytest.raises(ValueError, match="--model.sizes.slot_embedding false"):
        open_engine("llama.cpp", decoder, vocabulary)
