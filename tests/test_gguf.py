"""GGUF: gguf's own reader and name tables find our weights and tokens where they should be."""

from __future__ import annotations

import errno
import json
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

from kinolex import main
from lm.gguf_writing import write_gguf
from lm.model import Decoder
from lm.tasks import Model
from lm.vocabulary import SPECIALS, Vocabulary
from tests.conftest import CODES, tiny_config

pytestmark = pytest.mark.skipif(find_spec("gguf") is None, reason="needs the extra `gguf`")


def made(vocabulary: Vocabulary, **sizes: Any) -> Decoder:
    torch.manual_seed(0)
    decoder = Decoder(tiny_config(vocabulary, num_slots=0, **sizes), torch.randn(CODES, 3))
    for parameter in decoder.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return decoder.eval()


def read(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    import gguf

    reader = gguf.GGUFReader(path)
    found = {
        tensor.name: torch.from_numpy(gguf.dequantize(tensor.data, tensor.tensor_type).copy())
        for tensor in reader.tensors
    }
    return found, {name: field.contents() for name, field in reader.fields.items()}


def named(layers: int, theirs: str) -> str:
    """What gguf calls a weight that transformers' Qwen3 calls `theirs`."""
    import gguf

    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.QWEN3, layers)
    found = names.get_name(theirs, try_suffixes=(".weight",))
    assert found is not None
    return found


@pytest.mark.parametrize("tied", [False, True])
def test_weights_stand_where_qwen3_has_them(
    vocabulary: Vocabulary, tmp_path: Path, tied: bool
) -> None:
    decoder = made(vocabulary, tied=tied)
    told = write_gguf(decoder, vocabulary, tmp_path / "a.gguf")
    found, _ = read(tmp_path / "a.gguf")
    assert told.num_tensors == len(found) == 2 + (not tied) + 2 * 11
    assert ("output.weight" in found) == (not tied)

    def weight(theirs: str) -> torch.Tensor:
        return found[named(2, theirs + ".weight")]

    hidden = torch.randn(3, 16)
    scores = hidden @ weight("model.embed_tokens" if tied else "lm_head").T
    torch.testing.assert_close(scores, decoder.logits(hidden), rtol=0, atol=1e-4)
    ids = torch.arange(len(vocabulary))
    torch.testing.assert_close(weight("model.embed_tokens"), decoder.embed(ids[None], None)[0])
    assert torch.equal(weight("model.norm"), decoder.norm.weight)
    for layer, block in enumerate(decoder.blocks):
        theirs, attention, mlp = f"model.layers.{layer}.", block.attention, block.feed_forward
        x = torch.randn(16)
        parts = [weight(f"{theirs}self_attn.{name}_proj") @ x for name in "qkv"]
        assert [len(part) for part in parts] == [4 * 4, 2 * 4, 2 * 4]
        torch.testing.assert_close(torch.cat(parts), attention.qkv(x))
        parts = [weight(f"{theirs}mlp.{name}_proj") @ x for name in ("gate", "up")]
        torch.testing.assert_close(torch.cat(parts), mlp.gate_up(x))
        for name, own in (
            ("input_layernorm", block.attention_norm.weight),
            ("post_attention_layernorm", block.feed_forward_norm.weight),
            ("self_attn.q_norm", attention.query_norm),
            ("self_attn.k_norm", attention.key_norm),
            ("self_attn.o_proj", attention.out.weight),
            ("mlp.down_proj", mlp.down.weight),
        ):
            assert torch.equal(weight(theirs + name), own), name


def test_facts(vocabulary: Vocabulary, tmp_path: Path) -> None:
    write_gguf(made(vocabulary, rope_theta=5e4), vocabulary, tmp_path / "a.gguf")
    _, facts = read(tmp_path / "a.gguf")
    expected = {
        "general.architecture": "qwen3",
        "qwen3.block_count": 2,
        "qwen3.context_length": 128,
        "qwen3.embedding_length": 16,
        "qwen3.feed_forward_length": 24,
        "qwen3.attention.head_count": 4,
        "qwen3.attention.head_count_kv": 2,
        "qwen3.attention.key_length": 4,
        "qwen3.attention.value_length": 4,
        "qwen3.attention.layer_norm_rms_epsilon": pytest.approx(1e-6),
        "qwen3.rope.freq_base": pytest.approx(5e4),
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.add_space_prefix": False,
        "tokenizer.ggml.bos_token_id": SPECIALS.index("<begin>"),
        "tokenizer.ggml.eos_token_id": SPECIALS.index("<end>"),
    }
    assert {name: facts.get(name) for name in expected} == expected


def test_every_id_is_a_token_and_text_can_spell_pieces_alone(
    vocabulary: Vocabulary, tmp_path: Path
) -> None:
    from gguf import TokenType

    write_gguf(made(vocabulary), vocabulary, tmp_path / "a.gguf")
    _, facts = read(tmp_path / "a.gguf")
    tokens, types = facts["tokenizer.ggml.tokens"], facts["tokenizer.ggml.token_type"]
    first, last = vocabulary.text_start, vocabulary.video_start
    assert len(set(tokens)) == len(types) == len(vocabulary)
    assert set(types[:first]) == set(types[last:]) == {TokenType.CONTROL}
    assert set(types[first : first + 256]) == {TokenType.BYTE}
    assert set(types[first + 256 : last]) == {TokenType.NORMAL}
    for i in vocabulary.encode_text("a red ball falls"):
        shown = tokens[i].replace("\u2581", " ")
        assert shown == vocabulary.decode_text([i])
    # llama.cpp merges characters into any token whose spelling they make up, control or not.
    assert all("\n" in token for token in tokens[:first] + tokens[last:])
    assert not any("\n" in token for token in tokens[first:last])


@pytest.mark.parametrize(("weights", "error"), [("f16", 2**-11), ("bf16", 2**-8), ("q8_0", 2**-7)])
def test_smaller_weights(
    vocabulary: Vocabulary, tmp_path: Path, weights: Any, error: float
) -> None:
    decoder = made(vocabulary, width=32, hidden=24)
    write_gguf(decoder, vocabulary, tmp_path / "a.gguf", weights)
    found, _ = read(tmp_path / "a.gguf")
    for name, own in (
        ("output_norm.weight", decoder.norm.weight),
        ("blk.1.attn_output.weight", decoder.blocks[1].attention.out.weight),  # rows of 16
        ("blk.1.ffn_down.weight", decoder.blocks[1].feed_forward.down.weight),  # rows of 24
        ("token_embd.weight", decoder.input_table().detach()),
    ):
        off = (found[name].float() - own).abs().max() / own.abs().max()
        assert off <= error, name
        assert (off == 0) == (own.ndim == 1), name


def test_the_command_says_what_it_wrote(
    model: Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = replace(model.decoder.config, num_slots=0, slot_embedding=False)
    without = Model(Decoder(config), model.vocabulary, model.codec)
    without.save(tmp_path / "model")
    out = tmp_path / "folder" / "a.gguf"
    words = ["--model", str(tmp_path / "model"), "--out", str(out), "--weights", "f16", "--json"]
    assert main(["lm", "export-gguf", *words]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["out"] == str(out) and told["weights"] == "f16"
    assert told["megabytes"] == pytest.approx(out.stat().st_size / 1e6, abs=1e-3)


def test_refusals(model: Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model.save(tmp_path / "model")
    words = ["lm", "export-gguf", "--model", str(tmp_path / "model"), "--out"]
    assert main([*words, str(tmp_path / "a.gguf")]) == 2
    assert "--model.sizes.slot_embedding false" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [tmp_path / "model"]
    with pytest.raises(ValueError, match="weights='q3'"):
        write_gguf(model.decoder, model.vocabulary, tmp_path / "a.gguf", "q3")  # type: ignore


@pytest.mark.parametrize(
    ("odd", "named"),
    [({"qk_norm": False}, "no qk_norm"), ({"rope_scaling": [8.0, 1.0, 4.0, 64]}, "rope_scaling")],
)
def test_models_that_are_no_qwen3_are_refused(
    vocabulary: Vocabulary, tmp_path: Path, odd: dict[str, Any], named: str
) -> None:
    config = replace(made(vocabulary).config, **odd)
    with pytest.raises(ValueError, match=f"{named}.*kinolex lm export"):
        write_gguf(Decoder(config), vocabulary, tmp_path / "a.gguf")


def test_a_full_disk_is_told_as_such(
    vocabulary: Vocabulary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import gguf

    def cut_short(*_: Any) -> None:
        raise OSError("235648 requested and 4184 written")  # all that NumPy says

    monkeypatch.setattr(gguf.GGUFWriter, "write_tensors_to_file", cut_short)
    path = tmp_path / "a.gguf"
    with pytest.raises(OSError, match="a.gguf") as raised:
        write_gguf(made(vocabulary), vocabulary, path)
    assert raised.value.errno == errno.ENOSPC and not list(tmp_path.iterdir())
