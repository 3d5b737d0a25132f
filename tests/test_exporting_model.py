"""Exported models: transformers computes what we compute, its tokenizer spells what we spell."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kinolex import main
from lm.exporting import export_model, tokenizer_json
from lm.model import Decoder
from lm.pieces import Pieces
from lm.tasks import Model
from lm.vocabulary import Vocabulary

transformers = pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")


def lively(decoder: Decoder, tied: bool) -> Decoder:
    """One of random weights, gains too, without places."""
    config = replace(decoder.config, num_slots=0, tied=tied)
    decoder = Decoder(config, decoder.code_features)
    torch.manual_seed(0)
    for parameter in decoder.parameters():
        torch.nn.init.normal_(parameter, mean=parameter.ndim == 1, std=0.3)
    return decoder.eval()


@pytest.mark.parametrize("tied", [False, True])
def test_transformers_gives_our_logits(
    decoder: Decoder, vocabulary: Vocabulary, tmp_path: Path, tied: bool
) -> None:
    decoder = lively(decoder, tied)
    export_model(decoder, vocabulary, tmp_path)
    theirs, info = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path, output_loading_info=True, local_files_only=True, dtype=torch.float32
    )
    assert type(theirs).__name__ == "Qwen3ForCausalLM"
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    ids = torch.arange(len(vocabulary))[None, -100:]  # pieces and all codes
    with torch.no_grad():
        ours = decoder.logits(decoder(ids))
        assert (theirs(ids).logits - ours).abs().max() < 1e-4
    assert ours.std() > 0.1
    assert theirs.generation_config.eos_token_id == vocabulary.special("<end>")


@pytest.mark.parametrize("scaling", [None, [8.0, 1.0, 4.0, 32.0]])
def test_without_qk_norm_it_is_a_llama(
    decoder: Decoder, vocabulary: Vocabulary, tmp_path: Path, scaling: list[float] | None
) -> None:
    config = replace(decoder.config, qk_norm=False, rope_scaling=scaling)
    plain = lively(Decoder(config, decoder.code_features), tied=False)
    export_model(plain, vocabulary, tmp_path)
    theirs, info = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path, output_loading_info=True, local_files_only=True, dtype=torch.float32
    )
    assert type(theirs).__name__ == "LlamaForCausalLM"
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    ids = torch.arange(len(vocabulary))[None, -100:]
    with torch.no_grad():
        assert (theirs(ids).logits - plain.logits(plain(ids))).abs().max() < 1e-4


def test_a_full_disk_leaves_no_empty_folder(
    decoder: Decoder, vocabulary: Vocabulary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("lm.exporting.write_atomically", full)
    plain = lively(decoder, tied=False)
    with pytest.raises(OSError, match="No space left"):
        export_model(plain, vocabulary, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_a_model_with_places_is_refused(
    decoder: Decoder, vocabulary: Vocabulary, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="slot_embedding false"):
        export_model(decoder, vocabulary, tmp_path)


PIECES = Pieces.train(
    ["a red square moves left", "two  spaces", "aaaa aaaaa abab ababab", "<video> <0x41> <pad>"] * 3
)
VOCABULARY = Vocabulary(PIECES, codec_id="x", codebook_size=7, block_frames=2)
TEXTS = st.text() | st.text("ab <>▁videopad0x41é日\n\0", max_size=60)


@pytest.fixture(scope="module")
def spelling(tmp_path_factory: pytest.TempPathFactory):
    import json

    folder = tmp_path_factory.mktemp("tokenizer")
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(tokenizer_json(VOCABULARY, PIECES)), encoding="utf-8")
    return tokenizers.Tokenizer.from_file(str(path))


@given(text=TEXTS)
def test_their_tokenizer_gives_our_ids(spelling, text: str) -> None:
    ids = VOCABULARY.encode_text(text)
    assert spelling.encode(text).ids == ids
    assert spelling.decode(ids) == text


def test_no_text_becomes_control_or_video(spelling) -> None:
    for i in range(len(VOCABULARY)):
        name = spelling.id_to_token(i)
        for text in (name, name.strip("▁"), VOCABULARY.name(i)):
            got = spelling.encode(text).ids
            assert all(VOCABULARY.text_start <= j < VOCABULARY.video_start for j in got), name
    assert spelling.get_vocab_size() == len(VOCABULARY)


def test_the_command_writes_a_tokenizer_that_transformers_loads(
    model: Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    without = replace(model.decoder.config, num_slots=0)
    torch.manual_seed(0)
    decoder = Decoder(without, model.decoder.code_features)
    Model(decoder, model.vocabulary, model.codec).save(tmp_path / "model")
    words = ["--model", str(tmp_path / "model"), "--out", str(tmp_path / "out")]
    assert main(["lm", "export", *words]) == 0
    assert "Qwen3ForCausalLM" in capsys.readouterr().out
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "out", local_files_only=True)
    for text in ("a red ball", " lead", "<video> ▁<end>", "e\u0301 ﬁ  two", ""):
        assert theirs(text)["input_ids"] == model.vocabulary.encode_text(text)
        assert theirs.decode(model.vocabulary.encode_text(text)) == text
    assert len(theirs) == len(model.vocabulary)
