"""A codec trained further: decoder only keeps every code; sizes and single frames are mixed."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from data.clip import Clip
from data.folder_writing import write_folder
from tests.test_training import CONFIGS, run
from tokenizer.backbone import ConvBackbone
from tokenizer.clip_data import ClipData
from tokenizer.codec import Codec
from tokenizer.factored import FactoredBackbone
from tokenizer.learning import Learner
from tokenizer.losses import LossWeights
from tokenizer.quantizer import FSQ, LFQ, VQ, Quantizer, SimVQ
from tokenizer.recipe import Recipe
from tokenizer.training import CodecTraining, continued


def noise(clips: int, size: int = 16, seed: int = 0) -> torch.Tensor:
    luck = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (clips, 4, 3, size, size), dtype=torch.uint8, generator=luck)


@pytest.mark.parametrize("quantizer", [FSQ([4, 3]), VQ(9, 2), SimVQ(9, 2), LFQ(3)])
@pytest.mark.parametrize("backbone", [ConvBackbone, FactoredBackbone])
def test_decoder_only_keeps_codes_and_changes_pictures(
    backbone: type[ConvBackbone], quantizer: Quantizer
) -> None:
    torch.manual_seed(0)
    dim, sizes = quantizer.dim, {"channels": 4, "latent_channels": 6, "latent_blocks": 1}
    codec = Codec(backbone(dim=dim, summary=2, **sizes), quantizer, block_frames=4)
    Learner(codec, Recipe(crop=0)).step(noise(4), 0.9)  # codebooks have started
    codec.eval()
    clip = noise(1, 24, 5)[0]
    tokens, codes = codec.encode(clip), codec(clip[None]).codes
    before = codec.decode(tokens).frames
    kept = {k: v.clone() for k, v in codec.quantizer.state_dict().items()}
    learner = Learner(codec, Recipe(crop=0, train="decoder", average=0.0))
    for step in range(3):
        report = learner.step(noise(2, seed=step), step / 3)
        assert "quantizer" not in report.losses
    done = learner.finished()
    done.codes_of = tokens.codec_id
    again = done.encode(clip)
    assert all(torch.equal(a, b) for a, b in zip(tokens.codes, again.codes, strict=True))
    assert torch.equal(done(clip[None]).codes, codes)
    assert all(torch.equal(kept[k], v) for k, v in done.quantizer.state_dict().items())
    assert again.codec_id == tokens.codec_id != done.codec_id
    assert not torch.equal(done.decode(tokens).frames, before)


def test_the_second_stage_reads_the_files_of_the_first_and_no_other(tmp_path: Path) -> None:
    first = Codec.load(run(tmp_path / "a").exported or "")
    delta = f"--config={CONFIGS / 'stage' / 'decoder.yaml'}"
    start = f"--model.init_from={tmp_path / 'a' / 'codec'}"
    sizes = ["--data.height=24", "--data.width=24", "--model.recipe.round_from=0.15"]
    second = Codec.load(run(tmp_path / "b", delta, start, *sizes).exported or "")
    third = continued(tmp_path / "b" / "codec", second, Recipe(train="decoder")).eval()
    clip = noise(1)[0]
    tokens = first.encode(clip)
    assert second.trained_size == (24, 24) and second.codec_id != first.codec_id
    for later in (second, third):
        assert later.tokens_id == first.codec_id
        assert torch.cat(later.encode(clip).codes).equal(torch.cat(tokens.codes))
        assert later.decode(tokens).frames.shape == clip.shape
        assert first.decode(later.encode(clip)).frames.equal(first.decode(tokens).frames)
    anew = continued(tmp_path / "a" / "codec", first, Recipe())
    with torch.no_grad():
        next(anew.parameters()).add_(1)
    with pytest.raises(ValueError, match=f"{first.codec_id} cannot be decoded by"):
        anew.decode(tokens)


def test_a_second_stage_needs_a_first() -> None:
    with pytest.raises(ValueError, match="without model.init_from"):
        CodecTraining(recipe=Recipe(train="decoder"))


def test_settings_without_effect_are_told() -> None:
    codec = Codec()
    with pytest.warns(UserWarning, match="crop_until=0.5 has no effect: recipe.crop is 0"):
        Learner(codec, Recipe(crop=0, crop_until=0.5))
    with pytest.warns(UserWarning, match="full_rate=0.1 has no effect"):
        Learner(codec, Recipe(drop_from=1.0, full_rate=0.1))


def test_a_training_reads_the_phrases_it_is_asked_to() -> None:
    def built(source: str, phrases: int, weight: float) -> CodecTraining:
        small = FactoredBackbone(channels=4, latent_channels=6, summary=2)
        training = CodecTraining(
            small, recipe=Recipe(weights=LossWeights(phrases=weight, prior=0.1))
        )
        data = ClipData(source, 4, 16, 16, phrases=phrases)
        data.setup("fit")
        training._trainer = SimpleNamespace(datamodule=data)  # pyright: ignore  (a stand-in)
        training.configure_model()
        return training

    training = built("scenes:standard", 20, 0.5)
    head, prior = training.codec.label_head, training.beside.prior
    assert head is not None and len(head.phrases) == 20 and "speed" in head.classes
    assert prior is not None and prior.phrases == 20
    head = built("scenes:standard", 0, 0.5).codec.label_head
    assert head is not None and not head.phrases
    with pytest.warns(UserWarning, match="data.phrases=20 has no effect: weights.phrases is 0"):
        built("scenes:standard", 20, 0.0)


def test_a_head_for_other_phrases_is_let_be(tmp_path: Path) -> None:
    told = ["--data.phrases=20", "--model.backbone.init_args.summary=2", "--trainer.max_steps=3"]
    watched = ["--trainer.val_check_interval=3"]
    first = run(tmp_path / "a", *told, *watched)
    assert 0 <= first.metrics["val/reads_phrases"] <= 1
    delta = f"--config={CONFIGS / 'stage' / 'decoder.yaml'}"
    start = f"--model.init_from={tmp_path / 'a' / 'codec'}"
    usual = "--model.recipe.round_from=0.15"
    again = run(tmp_path / "b", delta, start, usual, *told[1:], *watched)
    assert again.finished and "val/reads_phrases" not in again.metrics  # the data tell no phrases
    head = Codec.load(again.exported or "").label_head
    assert head is not None and len(head.phrases) == 20
    with (
        pytest.warns(UserWarning, match=r"data.phrases=10 \(20 before\)"),
        pytest.raises(ValueError, match="labels or phrases are others"),
    ):
        run(tmp_path / "a", *told, "--data.phrases=10", "--ckpt_path=last", "--trainer.max_steps=4")


def test_phrases_want_captions(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="phrases=-1: give 0"):
        ClipData("scenes:easy", phrases=-1)
    for split in ("train", "heldout"):
        write_folder([Clip.from_frames(noise(1)[0], 8)] * 2, tmp_path / split)
    with pytest.raises(ValueError, match="phrases=9: .* has no captions"):
        ClipData(str(tmp_path), 4, 16, 16, phrases=9).setup("fit")


SIZES = [(4, 16, 16), (2, 24, 8)]


def batches(start: int, number: int, share: float = 0.5) -> list[torch.Tensor]:
    class Trainer:
        global_rank, world_size, global_step = 0, 1, start

    data = ClipData("scenes:easy", 4, 16, 16, batch_size=2, image_share=share, sizes=SIZES)
    data.setup("fit")
    data.trainer = Trainer()  # pyright: ignore  (a stand-in: only these three are read)
    loader = iter(data.train_dataloader())
    return [next(loader)[0] for _ in range(number)]


def test_sizes_and_single_frames_follow_from_seed_and_step() -> None:
    whole = batches(0, 12)
    assert {tuple(b.shape[1:2] + b.shape[3:]) for b in whole} == {
        *SIZES,
        *((1, *size[1:]) for size in SIZES),
    }
    late = batches(9, 3)
    assert all(torch.equal(a, b) for a, b in zip(whole[9:], late, strict=True))
    assert min(b.shape[1] for b in batches(0, 3, share=0.0)) > 1


def test_a_mixed_run_resumes_to_the_bit(tmp_path: Path) -> None:
    mixed = ["--data.image_share=0.4", "--data.sizes=[[4,16,16],[8,16,24]]"]
    whole = run(tmp_path / "a", *mixed)
    half = ["--trainer.max_steps=6", "--max_minutes=100", "--trainer.limit_train_batches=3"]
    run(tmp_path / "b", *mixed, *half, "--trainer.max_epochs=1")
    with pytest.warns(UserWarning, match=r"max_epochs=None \(1 before\)"):
        resumed = run(tmp_path / "b", *mixed, "--ckpt_path=last")
    ids = [Codec.load(report.exported or "").codec_id for report in (whole, resumed)]
    assert resumed.steps == 6 and ids[0] == ids[1]


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ({"image_share": 1.5}, "image_share=1.5"),
        ({"sizes": [(0, 8, 8)]}, "sizes="),
        ({"sizes": []}, "sizes="),
    ],
)
def test_bad_mixtures_are_refused(argument: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ClipData("scenes:easy", **argument)
