"""Starting from pretrained text models: their logits and ids on text, before any training."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lm.importing import fill, pretrained_sizes
from lm.kept_pieces import pieces_of
from lm.learning import make_decoder
from lm.model import Sizes
from lm.vocabulary import Vocabulary

transformers = pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")

TINY = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "vocab_size": 320,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 6,
        "max_position_embeddings": 64, "initializer_range": 0.4}  # fmt: skip
LLAMA3 = {"rope_type": "llama3", "rope_theta": 100.0, "factor": 4.0, "low_freq_factor": 1.0,
          "high_freq_factor": 4.0, "original_max_position_embeddings": 32}  # fmt: skip


def save_tokenizer(folder: Path) -> "tokenizers.Tokenizer":
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.normalizer = tokenizers.normalizers.NFC()
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=300,
        show_progress=False,
        special_tokens=["<|end|>"],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
    )
    made.train_from_iterator(["a red ball falls", "a blue ball rises"] * 4, trainer)
    made.save(str(folder / "tokenizer.json"))
    return made


@pytest.mark.parametrize("kind", ["llama", "llama3", "qwen3", "tied"])
def test_logits_on_text_are_those_of_transformers(kind: str, tmp_path: Path) -> None:
    name = "Llama" if kind.startswith("llama") else "Qwen3"
    more = {"rope_parameters": LLAMA3} if kind == "llama3" else {}
    config = getattr(transformers, f"{name}Config")(
        **TINY, **more, rms_norm_eps=1e-5, tie_word_embeddings=kind == "tied"
    )
    torch.manual_seed(0)
    theirs = getattr(transformers, f"{name}ForCausalLM")(config).eval()
    for key, weight in theirs.named_parameters():
        if "norm" in key:
            torch.nn.init.normal_(weight, 1.0, 0.3)
    theirs.save_pretrained(tmp_path, max_shard_size="20KB" if kind == "qwen3" else "1GB")
    tokenizer = save_tokenizer(tmp_path)
    pieces = pieces_of(tmp_path)
    vocabulary = Vocabulary(pieces, codec_id="x", codebook_size=7, block_frames=2)
    sizes = pretrained_sizes(tmp_path, replace(Sizes(), context=64))
    decoder = make_decoder(vocabulary, torch.randn(7, 3), sizes)
    fill(decoder, vocabulary, tmp_path)
    text = "a red ball falls, and a blue ball rises: é"
    ids = torch.tensor([tokenizer.encode(text).ids])
    assert vocabulary.encode_text(text) == [vocabulary.text_start + i for i in ids[0].tolist()]
    with torch.no_grad():
        want = theirs(ids).logits[..., : len(pieces)]
        hidden = decoder(ids + vocabulary.text_start)
        got = decoder.logits(hidden, vocabulary.text_start, vocabulary.video_start)
    assert want.std() > 0.1 and (got - want).abs().max() < 1e-4


def test_a_kept_vocabulary_is_exact_and_saved(tmp_path: Path) -> None:
    save_tokenizer(tmp_path)
    vocabulary = Vocabulary(pieces_of(tmp_path), codec_id="x", codebook_size=7, block_frames=2)
    (tmp_path / "saved").mkdir()
    vocabulary.save(tmp_path / "saved")
    again = Vocabulary.load(tmp_path / "saved")
    for text in ("", " a  red", "e\u0301 ▁ \0", "<|end|>", "日本"):
        ids = vocabulary.encode_text(text)
        assert vocabulary.decode_text(ids) == text and again.encode_text(text) == ids
        assert vocabulary.text_start not in ids  # <|end|>, the first piece


def test_what_cannot_be_exact_is_refused(tmp_path: Path) -> None:
    for kind, more in (("gpt2", {}), ("llama", {"rope_parameters": {"rope_type": "yarn"}})):
        text = transformers.LlamaConfig(**TINY).to_dict() | {"model_type": kind, **more}
        import json

        (tmp_path / "config.json").write_text(json.dumps(text, default=str))
        with pytest.raises(ValueError, match="not supported"):
            pretrained_sizes(tmp_path, Sizes(context=64))


def test_a_run_starts_from_a_sentencepiece_llama(run_folder: Path, tmp_path: Path) -> None:
    import io

    import sentencepiece

    from lm.tasks import Model
    from lm.training import LanguageTraining, ShardData
    from tokenizer.fitting import fit

    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["a red ball falls", "it stops"] * 4), model_writer=out,
        vocab_size=300, model_type="bpe", byte_fallback=True, hard_vocab_limit=False,
        minloglevel=2,
    )  # fmt: skip
    (tmp_path / "tokenizer.model").write_bytes(out.getvalue())
    config = transformers.LlamaConfig(**TINY | {"max_position_embeddings": 256})
    transformers.LlamaForCausalLM(config).save_pretrained(tmp_path)
    argv = [f"--model.init_from={tmp_path}", "--model.sizes.context=256", "--trainer.max_steps=1",
            f"--data.shards={run_folder / 'tokens'}", f"--out={tmp_path / 'out'}",
            "--trainer.accelerator=cpu", "--precision=32-true"]  # fmt: skip
    fit(LanguageTraining, ShardData, argv, "kinolex lm fit", "runs/lm")
    vocabulary = Model.load(tmp_path / "out" / "model").vocabulary
    for text in ("", "a red ball", " lead", "▁ <s> e\u0301", "日本"):
        assert vocabulary.decode_text(vocabulary.encode_text(text)) == text
