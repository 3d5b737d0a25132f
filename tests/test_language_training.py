"""Training a language model: resumption is exact, the run leaves a model, mistakes are one line."""

import csv
import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from data.clip import Clip
from data.shards import ShardWriter, TokenShards
from lm.learning import Recipe
from lm.plan_training import read_configs
from lm.tasks import Model
from tokenizer.encoding import read_record, write_record
from tokenizer.fitting import FitReport, fit

ROOT = Path(__file__).parent.parent
SIZES = ["width=16", "layers=1", "heads=2", "kv_heads=1", "head_dim=8", "hidden=24", "context=96"]


def run(run_folder: Path, out: Path, *more: str, stop_at: int = 0) -> FitReport:
    from lm.training import LanguageTraining, ShardData

    class Stopping(LanguageTraining):
        def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
            if self.global_step == stop_at:
                self.trainer.should_stop = True

    argv = [f"--model.sizes.{size}" for size in SIZES]
    argv += [f"--data.shards={run_folder / 'tokens'}", f"--out={out}", "--trainer.max_steps=6"]
    argv += ["--data.batch_size=4", "--trainer.enable_progress_bar=false", "--precision=32-true"]
    argv += ["--trainer.accelerator=cpu", "--data.mixture.rates=[3]", *more]
    module = Stopping if stop_at else LanguageTraining
    return fit(module, ShardData, argv, "kinolex lm fit", "runs/lm")


def weights(out: Path) -> dict[str, torch.Tensor]:
    return load_file(out / "model" / "model.safetensors")


def logged_losses(out: Path) -> list[tuple[str, str]]:
    """Step and loss of every row of metrics.csv that has one."""
    with open(out / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    return [(row["step"], row["train/loss"]) for row in rows if row["train/loss"]]


def test_a_runs_seed_is_that_of_its_weights_and_its_data(run_folder: Path, tmp_path: Path) -> None:
    found = {}
    for name, seeds in {
        "zero": [],
        "one": ["--seed_everything=1"],
        "weights": ["--seed_everything=1", "--data.seed=0"],
        "neither": ["--seed_everything=1", "--data.seed=0", "--model.seed=0"],
    }.items():
        run(run_folder, tmp_path / name, "--trainer.max_steps=1", *seeds)
        found[name] = weights(tmp_path / name)["table.weight"]
    assert torch.equal(found["zero"], found["neither"])
    for a, b in (("zero", "one"), ("zero", "weights"), ("one", "weights")):
        assert not torch.equal(found[a], found[b]), (a, b)


def test_a_summarys_maps_learn_resume_and_are_saved(
    summary_folder: Path, tmp_path: Path, clips: list[Clip]
) -> None:
    wide = "--model.sizes.context=160"
    run(summary_folder, tmp_path / "none", wide, "--trainer.max_steps=1")
    run(summary_folder, tmp_path / "whole", wide)
    run(summary_folder, tmp_path / "parts", wide, stop_at=3)
    run(summary_folder, tmp_path / "parts", wide, "--ckpt_path=last")
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    moved = whole["summary_sums.weight"] != weights(tmp_path / "none")["summary_sums.weight"]
    assert whole["summary_sums.weight"].shape[1] % 3 == 0 and moved.any(0).sum() > 6
    model = Model.load(tmp_path / "whole" / "model")
    assert (model.decoder.config.summary, model.decoder.config.regional) == (6, 1)
    assert isinstance(model.caption(clips[0]), str)
    plain = run(summary_folder, tmp_path / "plain", wide, "--model.sizes.slot_embedding=false")
    assert "summary_sums.weight" not in weights(tmp_path / "plain") and plain.finished


def test_what_no_clip_has_is_not_taught(run_folder: Path, tmp_path: Path) -> None:
    wanted = ["--data.mixture.events=2", "--data.mixture.fill=0.3", "--data.mixture.talk=0.2"]
    wanted += ["--trainer.max_steps=1", "--model.sizes.context=192"]
    run(run_folder, tmp_path / "all", *wanted)
    assert Model.load(tmp_path / "all" / "model").taught == {"events", "fill", "talk"}
    shards = TokenShards(run_folder / "tokens")
    shutil.copytree(run_folder / "codec", tmp_path / "bare" / "codec")
    with ShardWriter(tmp_path / "bare" / "tokens", shards.meta) as writer:
        for index in range(len(shards)):
            record = replace(read_record(*shards[index]), events=(), stills=())
            writer.write(*write_record(record))
    with pytest.warns(UserWarning, match="no effect: no clip of .* has") as told:
        run(tmp_path / "bare", tmp_path / "some", *wanted)
    said = [str(warning.message).split(" has no effect")[0] for warning in told]
    assert said == ["mixture.events=2", "mixture.fill=0.3"]
    assert Model.load(tmp_path / "some" / "model").taught == {"talk"}


def test_fewer_pieces_than_none_are_refused(run_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="data.num_pieces=-5: give 0 or more"):
        run(run_folder, tmp_path / "out", "--data.num_pieces=-5")


def test_shards_that_know_no_quadrants_are_refused(summary_folder: Path, tmp_path: Path) -> None:
    older = shutil.copytree(summary_folder, tmp_path / "older")
    manifest = older / "tokens" / "manifest.json"
    told = json.loads(manifest.read_text())
    del told["meta"]["layout"]["regional"]
    manifest.write_text(json.dumps(told))
    with pytest.raises(ValueError, match="'regional': 1.*encode the clips again"):
        run(older, tmp_path / "out", "--model.sizes.context=160")


def test_a_resumed_run_equals_an_uninterrupted_one(
    run_folder: Path, tmp_path: Path, clips: list[Clip]
) -> None:
    every = "--trainer.log_every_n_steps=1"
    whole = run(run_folder, tmp_path / "a", f"--data.held_out={run_folder / 'tokens'}",
                "--trainer.val_check_interval=3", "--model.samples=1", every)  # fmt: skip
    assert whole.steps == 6 and whole.finished
    assert "val/loss" in whole.metrics
    run(run_folder, tmp_path / "b", every, stop_at=3)
    resumed = run(run_folder, tmp_path / "b", every, "--ckpt_path=last")
    assert resumed.steps == 6
    want, got = weights(tmp_path / "a"), weights(tmp_path / "b")
    assert want.keys() == got.keys()
    for name in want:
        assert torch.equal(want[name], got[name]), name
    logged = [logged_losses(tmp_path / name) for name in "ab"]
    assert logged[0] == logged[1] and len(logged[0]) == 6
    model = Model.load(tmp_path / "a" / "model")
    assert isinstance(model.caption(clips[0]), str)
    assert (tmp_path / "a" / "metrics.csv").is_file()
    assert list((tmp_path / "a").glob("events.out.tfevents.*"))


def test_a_codec_that_did_not_make_the_tokens_is_refused(
    run_folder: Path, tmp_path: Path, model: Model
) -> None:
    from tokenizer.codec import Codec

    Codec(model.codec.backbone, model.codec.quantizer, block_frames=4).save(tmp_path / "other")
    with pytest.raises(ValueError, match="give that codec"):
        run(run_folder, tmp_path / "c", f"--model.codec={tmp_path / 'other'}")


@pytest.mark.parametrize(
    ("codec_id", "count", "message"), [("other", 1, "codec other"), ("x", 0, "holds no records")]
)
def test_held_out_tokens_of_another_codec_or_none_are_refused(
    run_folder: Path, tmp_path: Path, codec_id: str, count: int, message: str
) -> None:
    codes, info = TokenShards(run_folder / "tokens")[0]
    with ShardWriter(tmp_path / "tokens", {}) as writer:
        for _ in range(count):
            writer.write(codes, {**info, "codec_id": codec_id})
    with pytest.raises(ValueError, match=message):
        run(run_folder, tmp_path / "c", f"--data.held_out={tmp_path / 'tokens'}")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("recipe.lr=-1", "recipe.lr=-1.0: give 0 or more"),
        ("recipe.matrix_lr=-1", "recipe.matrix_lr=-1.0: give 0 or more"),
        ("recipe.clip=0", "recipe.clip=0.0: give a number above 0"),
        ("recipe.weight_decay=-1", "recipe.weight_decay=-1.0: give 0 or more"),
        ("recipe.video=-1", "recipe.video=-1.0: give 0 or more"),
        ("recipe.ahead=-1", "recipe.ahead=-1.0: give 0 or more"),
        ("recipe.z_loss=-1", "recipe.z_loss=-1.0: give 0 or more"),
        ("recipe.average=1", "recipe.average=1.0: give a decay from 0"),
        ("recipe.base_width=0", "recipe.base_width=0: give at least 1"),
        ("recipe.schedule.warmup_steps=-1", "schedule.warmup_steps=-1: give 0 or more"),
        ("sizes.rope_scaling=[1,2]", r"rope_scaling=\[1.0, 2.0\]: give four numbers above 0"),
    ],
)
def test_senseless_settings_are_refused_before_training(
    setting: str, message: str, run_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message) as error:
        run(run_folder, tmp_path / "out", f"--model.{setting}")
    assert "\n" not in str(error.value) and not list(tmp_path.rglob("*.csv"))


@pytest.mark.parametrize("name", ["lr", "matrix_lr", "clip", "weight_decay", "text", "average"])
def test_a_recipe_takes_finite_numbers_only(name: str) -> None:
    for value in (math.nan, math.inf):
        with pytest.raises(ValueError, match=f"recipe.{name}={value}: give "):
            Recipe(**{name: value})
    with pytest.raises(ValueError, match="structure, text and video are all 0"):
        Recipe(structure=0, text=0, video=0)


def test_codes_foretold_beyond_a_block_are_told(run_folder: Path, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="sizes.ahead=9: blocks have at most 6 codes"):
        run(run_folder, tmp_path, "--model.sizes.ahead=9", "--trainer.max_steps=1")


def test_rates_and_weights_of_what_is_not_there_are_told(run_folder: Path, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="recipe.ahead=0.5 has no effect: sizes.ahead is 1"):
        run(run_folder, tmp_path, "--model.recipe.ahead=0.5", "--trainer.max_steps=1")
    with pytest.warns(UserWarning, match="recipe.matrix_lr=0.1 has no effect: AdamW trains all"):
        Recipe(matrices="adamw", matrix_lr=0.1)


def test_shipped_configs_are_accepted() -> None:
    """Every file of configs/lm parses over the base against the real signatures."""
    base = ROOT / "configs" / "lm" / "base.yaml"
    files = sorted((ROOT / "configs" / "lm").rglob("*.yaml"))
    assert base in files
    for file in files:
        read_configs([base] if file == base else [base, file])
        if file != base:
            assert len(file.read_text().splitlines()) <= 12, f"{file} is more than a difference"


def test_a_config_with_a_wrong_key_is_refused(tmp_path: Path) -> None:
    (tmp_path / "wrong.yaml").write_text("data: {mixture: {genrate: 0.5}}")
    with pytest.raises(SystemExit):
        read_configs([ROOT / "configs" / "lm" / "base.yaml", tmp_path / "wrong.yaml"])


def test_what_a_run_would_replace_or_not_heed_is_told(run_folder: Path, tmp_path: Path) -> None:
    run(run_folder, tmp_path / "a", "--trainer.max_steps=1")
    kept = (tmp_path / "a" / "checkpoints" / "last.ckpt").read_bytes()
    with pytest.raises(ValueError, match="holds a run: give --ckpt_path last .* --restart"):
        run(run_folder, tmp_path / "a", "--trainer.max_steps=2")
    assert (tmp_path / "a" / "checkpoints" / "last.ckpt").read_bytes() == kept
    again = run(run_folder, tmp_path / "a", "--trainer.max_steps=2", "--restart")
    assert again.steps == 2
    with pytest.raises(ValueError, match="holds a run"):  # not what its config.yaml says
        run(run_folder, tmp_path / "a", f"--config={tmp_path / 'a' / 'config.yaml'}")
    with pytest.warns(UserWarning, match="these are the full rate"):
        run(run_folder, tmp_path / "b", "--trainer.max_steps=1", "--data.mixture.rates=[999]")


def test_bf16_learns_what_fp32_does_but_for_rounding(run_folder: Path, tmp_path: Path) -> None:
    """Weights stay in 32 bits and move in nearly the same direction; not a bit is the same."""
    start = run(run_folder, tmp_path / "start", "--trainer.max_steps=1", "--model.recipe.lr=0",
                "--model.recipe.matrix_lr=0", "--model.recipe.weight_decay=0")  # fmt: skip
    whole = run(run_folder, tmp_path / "a")
    half = run(run_folder, tmp_path / "b", "--precision=bf16-mixed")
    assert start.finished and half.precision == "bf16-mixed" and whole.precision == "32-true"
    first, want, got = (weights(tmp_path / name) for name in ("start", "a", "b"))
    assert all(weight.dtype == torch.float32 for weight in got.values())
    moved, also = (
        torch.cat([(after[name] - first[name]).flatten() for name in first])
        for after in (want, got)
    )
    assert not torch.equal(moved, also)
    assert torch.cosine_similarity(moved, also, dim=0) > 0.9
    assert half.metrics["train/loss"] == pytest.approx(whole.metrics["train/loss"], rel=0.02)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the compiler's own
def test_compiled_learns_what_eager_does(run_folder: Path, tmp_path: Path) -> None:
    from torch._dynamo.utils import counters

    run(run_folder, tmp_path / "a", "--trainer.max_steps=3")
    counters.clear()
    run(run_folder, tmp_path / "b", "--model.compile=true", "--trainer.max_steps=3")
    torch.compiler.reset()
    assert counters["stats"]["unique_graphs"] > 0
    want, got = weights(tmp_path / "a"), weights(tmp_path / "b")
    assert want.keys() == got.keys()
    for name in want:
        assert torch.allclose(want[name], got[name], atol=2e-3), name
