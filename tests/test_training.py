"""Training by LightningCLI: resumes bit for bit, stops cleanly, errs in one line."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer

from data.source import open_source
from tokenizer.callbacks import Clock, FiniteGuard, SpareMemory
from tokenizer.clip_data import ClipData
from tokenizer.codec import Codec
from tokenizer.fitting import FitReport, choose_precision, prepare
from tokenizer.metrics import psnr, squared_error
from tokenizer.training import CodecTraining, configured, fit

CONFIGS = Path(__file__).parents[1] / "configs" / "tokenizer"
QUANTIZER_OF = {  # of the deltas that change it
    "bsq": "BSQ",
    "depth": "ResidualVQ",
    "lfq": "LFQ",
    "none": "Unquantized",
    "rfsq": "ResidualFSQ",
    "rvq": "ResidualVQ",
    "simvq": "SimVQ",
    "vq": "VQ",
}
TINY = [
    f"--config={CONFIGS / 'base.yaml'}",
    "--precision=32-true",
    "--data.source=scenes:easy",
    "--data.num_frames=4",
    "--data.height=16",
    "--data.width=16",
    "--data.batch_size=2",
    "--data.held_out=3",
    "--model.block_frames=4",
    "--model.rates=[0.5]",
    "--model.recipe.crop=8",
    "--model.recipe.round_from=0.2",
    "--model.backbone.init_args.channels=8",
    "--model.backbone.init_args.latent_channels=8",
    "--model.backbone.init_args.latent_blocks=1",
    "--trainer.max_steps=6",
    "--trainer.enable_progress_bar=false",
    "--checkpoint_every=3",
]


def run(out: Path, *more: str) -> FitReport:
    return fit([*TINY, f"--out={out}", *more])


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, FitReport]:
    """A run of six steps, never interrupted."""
    out = tmp_path_factory.mktemp("straight")
    return out, run(out, "--trainer.val_check_interval=3")


def test_a_run_leaves_all_that_is_promised(straight: tuple[Path, FitReport]) -> None:
    out, report = straight
    assert report.finished and report.steps == 6 and report.exported == str(out / "codec")
    assert report.metrics["val/psnr"] > 0 and "val/perplexity" in report.metrics
    codec = Codec.load(out / "codec")
    assert codec.trained_size == (16, 16) and codec.block_frames == 4
    for name in ("checkpoints/last.ckpt", "checkpoints/best.ckpt", "config.yaml", "metrics.csv"):
        assert (out / name).is_file()
    events = b"".join(file.read_bytes() for file in out.glob("events.out.tfevents.*"))
    assert b"GIF89a" in events and b"val/original_and_rates" in events
    assert "val/psnr_at_0.5" in (out / "metrics.csv").read_text()
    checkpoint = torch.load(out / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == 6 and "hyper_parameters" not in checkpoint


def test_the_seed_of_a_run_is_that_of_its_data_too() -> None:
    for more, seed in (([], 3), (["--data.seed=5"], 5)):
        cli = prepare(CodecTraining, ClipData, [*TINY, "--seed_everything=3", *more], "fit")
        assert cli.datamodule.seed == seed and cli.model.seed == 3


def test_a_checkpoint_that_a_full_disk_cannot_hold_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "/elsewhere/temporary")

    monkeypatch.setattr(Trainer, "save_checkpoint", full)
    with pytest.raises(OSError, match=r"last\.ckpt"):
        run(tmp_path, "--trainer.limit_val_batches=0")


def test_resumed_equals_uninterrupted(straight: tuple[Path, FitReport], tmp_path: Path) -> None:
    class Stop(Clock):
        def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
            trainer.should_stop = trainer.should_stop or trainer.global_step == 4

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tokenizer.fitting.Clock", Stop)
        assert run(tmp_path, "--trainer.val_check_interval=3").steps == 4
    report = run(tmp_path, "--trainer.val_check_interval=3", "--ckpt_path=last")
    assert report.steps == 6
    whole, resumed = (Codec.load(out / "codec") for out in (straight[0], tmp_path))
    assert whole.codec_id == resumed.codec_id


def test_a_killed_run_goes_on_from_its_checkpoint_as_if_nothing_had_been(
    straight: tuple[Path, FitReport], tmp_path: Path
) -> None:
    class Dying(Clock):
        def on_train_batch_start(self, trainer: Trainer, *args: Any) -> None:
            super().on_train_batch_start(trainer, *args)
            if trainer.global_step == 5:
                raise RuntimeError("killed")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tokenizer.fitting.Clock", Dying)
        with pytest.raises(RuntimeError, match="killed"):
            run(tmp_path, "--trainer.val_check_interval=3")
    checkpoint = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == 3
    run(tmp_path, "--trainer.val_check_interval=3", "--ckpt_path=last")
    whole, resumed = (Codec.load(out / "codec") for out in (straight[0], tmp_path))
    assert whole.codec_id == resumed.codec_id


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_finishes_the_step_saves_and_exports(
    tmp_path: Path, number: signal.Signals
) -> None:
    class Interrupting(Clock):
        def on_train_batch_start(self, trainer: Trainer, *args: Any) -> None:
            super().on_train_batch_start(trainer, *args)
            if trainer.global_step == 2:
                os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tokenizer.fitting.Clock", Interrupting)
        report = run(tmp_path)
    assert not report.finished and report.steps == 3
    assert signal.getsignal(number) is before
    checkpoint = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == 3
    assert run(tmp_path, "--ckpt_path=last").steps == 6


def test_unused_memory_is_given_back(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    given: list[int] = []
    monkeypatch.setattr("tokenizer.callbacks.give_back_memory", lambda: given.append(1))
    monkeypatch.setattr("tokenizer.fitting.SpareMemory", partial(SpareMemory, every=2))
    run(tmp_path, "--trainer.max_steps=5")
    assert len(given) == 2


def test_ctrl_c_before_the_first_step_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def setup(self: ClipData, stage: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ClipData, "setup", setup)
    before = signal.getsignal(signal.SIGINT)
    try:
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path)
    finally:
        signal.signal(signal.SIGINT, before)  # Lightning ignores further ones while it ends


@pytest.mark.slow  # starts two interpreters
def test_two_processes_train_with_networks_that_join_late_and_one_reports(tmp_path: Path) -> None:
    words = [
        *("tokenizer", "fit", *TINY, f"--out={tmp_path}", "--model.recipe.gan_from=0.5"),
        *(f"--config={CONFIGS / 'loss/gan.yaml'}", f"--config={CONFIGS / 'quantizer/simvq.yaml'}"),
        *("--trainer.devices=2", "--trainer.accelerator=cpu", "--trainer.strategy=ddp"),
        *("--trainer.val_check_interval=3", "--data.held_out=4", "--json"),
    ]
    done = subprocess.run(
        [sys.executable, "-m", "kinolex", *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["steps"] == 6
    codec = Codec.load(tmp_path / "codec")
    assert codec.quantizer.codebook_size == 1024
    source = open_source("scenes:easy", split="heldout", num_frames=4, height=16, width=16)
    clips = [source[i] for i in range(4)]  # the two of either rank
    again = [codec.decode(codec.encode(clip)).frames for clip in clips]
    error = squared_error(torch.stack(again), torch.stack([clip.frames for clip in clips])).mean()
    assert report["metrics"]["val/psnr"] == pytest.approx(psnr(error), abs=1e-3)


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("model.recipe.lr=-1", "recipe.lr=-1.0: give a number above 0"),
        ("model.recipe.clip=0", "recipe.clip=0.0: give a number above 0"),
        ("model.recipe.full_rate=2", "recipe.full_rate=2.0: give a share, 0 to 1"),
        ("model.recipe.schedule.flat=2", "schedule.flat=2.0: give a share, 0 to 1"),
        ("model.recipe.weight_decay=-0.1", "recipe.weight_decay=-0.1: give 0 or more"),
        ("data.num_clips=0", "num_clips=0: give at least one clip"),
        ("model.rates=[0]", r"rates=\[0.0\]: give at least 0.25 tokens a frame"),
    ],
)
def test_senseless_settings_are_refused(
    setting: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises((ValueError, SystemExit)) as error:
        run(tmp_path, f"--{setting}")
    assert re.search(told, str(error.value) + capsys.readouterr().err)


def test_time_ends_a_run_and_drives_its_schedules(tmp_path: Path) -> None:
    report = run(tmp_path, "--max_minutes=0.002", "--trainer.max_steps=1000")
    assert report.finished and 1 <= report.steps < 1000
    checkpoint = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["callbacks"]["Clock"]["seconds"] >= 0.12


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model.recipe.crops=3"], "crops"),
        (["--model.recipe.crop=big"], "crop"),
        (["--model.quantizer=FSQ", "--model.quantizer.levls=[5]"], "levls"),
        (["--config=nowhere.yaml"], "nowhere.yaml"),
    ],
)
def test_mistakes_in_settings_are_one_line(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        run(tmp_path / "out", *arguments)
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert message in error and len(error.splitlines()) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--ckpt_path=last"], "no checkpoint .*last.ckpt"),
        (["--data.source=nowhere"], "no source 'nowhere'"),
        (["--trainer.max_steps=-1"], "training without an end"),
        (["--trainer.max_steps=0"], "max_steps=0: give at least one step"),
        (["--trainer.max_steps=-5"], "trainer.max_steps=-5: give at least one step"),
        (["--trainer.devices=0"], "trainer.devices=0: give at least 1"),
        (["--trainer.devices=[]"], r"trainer.devices=\[\]: give at least 1"),
        (["--trainer.accelerator=cpu", "--trainer.devices=-1"], "trainer: `devices` .* int > 0"),
        (["--trainer.max_epochs=-2"], "trainer: `max_epochs`"),
        (["--trainer.accumulate_grad_batches=0"], "accumulate_grad_batches=0: give at least 1"),
        (["--checkpoint_every=0"], "checkpoint_every=0"),
        ([f"--ckpt_path={__file__}"], "not a checkpoint, or cut short"),
        (["--max_minutes=-1"], "max_minutes=-1"),
        (["--seed_everything=-1"], "seed_everything=-1: give 0 to 4294967295"),
        (["--model.block_frames=3"], "block_frames=3"),
        (["--model.recipe.crop=12"], "crop=12: .*multiple of the codec's stride 8"),
    ],
)
def test_mistakes_in_values_say_what_to_do(
    arguments: list[str], message: str, tmp_path: Path
) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=message) as error:
        run(tmp_path / "out", *arguments)
    assert "\n" not in str(error.value)


def test_a_checkpoint_of_another_network_is_refused(
    straight: tuple[Path, FitReport], tmp_path: Path
) -> None:
    checkpoint = straight[0] / "checkpoints" / "last.ckpt"
    other = "--model.backbone.init_args.channels=16"
    with (
        pytest.warns(UserWarning, match=r"with other settings.*: .*channels=16 \(\d+ before\)"),
        pytest.raises(ValueError, match="does not fit .*size mismatch for codec"),
    ):
        run(tmp_path, f"--ckpt_path={checkpoint}", other)


MOVED = "ignore:The dirpath has changed"  # Lightning's, of a copied run


def written(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in ("config.yaml", "metrics.csv")}


@pytest.mark.filterwarnings("ignore:goes on from", MOVED)
def test_a_resumption_that_takes_no_step_changes_no_file(
    straight: tuple[Path, FitReport], tmp_path: Path
) -> None:
    own = tmp_path / "run"
    shutil.copytree(straight[0], own)
    before = written(own)
    assert b"\n0," in before["metrics.csv"]
    last = ["--ckpt_path=last", "--trainer.val_check_interval=3"]
    with pytest.raises(ValueError, match="does not fit"):
        run(own, *last, "--model.backbone.init_args.channels=16")
    assert written(own) == before
    for enough in (["--trainer.max_steps=4"], ["--trainer.max_steps=-1", "--max_minutes=1e-9"]):
        with pytest.warns(UserWarning, match="nothing was left to train: .* at step 6"):
            assert run(own, *last, *enough).steps == 6
        assert written(own) == before
    assert run(own, *last, "--trainer.max_steps=7", "--trainer.max_epochs=9").steps == 7
    assert written(own)["config.yaml"] != before["config.yaml"]


@pytest.mark.filterwarnings(MOVED)
def test_a_resumed_run_tells_what_is_other_than_before(
    straight: tuple[Path, FitReport], tmp_path: Path
) -> None:
    """But not where it lies and how often it reports."""
    own = tmp_path / "run"
    shutil.copytree(straight[0], own)
    usual = ["--ckpt_path=last", "--trainer.val_check_interval=3"]
    with pytest.warns(UserWarning, match="goes on") as told:
        run(own, *usual, "--trainer.max_steps=7", "--data.batch_size=3",
            "--trainer.log_every_n_steps=1", "--precision=32-true")  # fmt: skip
    (text,) = (str(w.message) for w in told if str(w.message).startswith("goes on"))
    assert "data.batch_size=3 (" in text and "trainer.max_steps=7 (6 before)" in text
    assert not any(word in text for word in ("log_every", "out=", "ckpt_path", "precision"))


def test_a_run_begun_again_loses_the_old_one_with_its_first_step_not_before(
    straight: tuple[Path, FitReport], tmp_path: Path
) -> None:
    class Dying(Clock):
        def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
            raise RuntimeError("killed")

    own = tmp_path / "run"
    shutil.copytree(straight[0], own)
    files = {path: path.read_bytes() for path in own.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match="ckpt_path=last and restart"):
        run(own, "--restart", "--ckpt_path=last")
    for wrong in ("--data.source=nowhere", "--data.batch_size=0", "--model.block_frames=3"):
        with pytest.raises((ValueError, OSError), match="nowhere|batch_size=0|block_frames=3"):
            run(own, "--restart", wrong)
        assert files.items() <= {p: p.read_bytes() for p in own.rglob("*") if p.is_file()}.items()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tokenizer.fitting.Clock", Dying)
        with pytest.raises(RuntimeError, match="killed"):
            run(own, "--restart")
    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        run(own, "--ckpt_path=last")
    assert not (own / "checkpoints" / "best.ckpt").exists()
    assert len(list(own.glob("events.out.tfevents.*"))) == 1


@pytest.mark.parametrize(
    ("layers", "summary"),
    [
        *((("size/64-coarse", f"rate/{name}"), (0, 0)) for name in ("elastic", "specialist")),
        *((("size/64-coarse", f"backbone/{name}"), (48, 8)) for name in ("conv3d", "window")),
        (("size/64-coarse", "rate/depth"), (0, 0)),
        *(((name, "size/64-coarse"), (48, 8)) for name in ("rate/grid", "backbone/window")),
    ],
    ids=lambda value: "+".join(value) if isinstance(value[0], str) else "",
)
@pytest.mark.filterwarnings("ignore:recipe.* has no effect")  # not what this is about
def test_a_summary_with_quadrants_goes_with_other_configs(
    layers: tuple[str, str], summary: tuple[int, int]
) -> None:
    paths = [CONFIGS / f"{name}.yaml" for name in ("base", *layers)]
    backbone = configured(paths, "test")[0].codec.backbone
    assert (backbone.summary, backbone.regional) == summary


@pytest.mark.parametrize("delta", sorted(CONFIGS.glob("*/*.yaml")), ids=lambda p: p.stem)
def test_every_config_builds_its_codec(delta: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert len(delta.read_text().splitlines()) <= 9
    with pytest.raises(SystemExit) as stop:
        fit([*TINY, f"--config={delta}", "--print_config"])
    assert stop.value.code == 0
    wanted = QUANTIZER_OF.get(delta.stem, "FSQ")
    assert f"class_path: tokenizer.quantizer.{wanted}\n" in capsys.readouterr().out


def test_without_codes_held_out_clips_are_watched_unrounded(tmp_path: Path) -> None:
    none = f"--config={CONFIGS / 'quantizer' / 'none.yaml'}"
    report = run(tmp_path, none, "--trainer.max_steps=2", "--trainer.val_check_interval=2")
    assert report.finished and report.metrics["val/psnr"] > 0
    assert "val/psnr_at_0.5" not in report.metrics


def test_the_guard_stops_a_run_that_stays_broken() -> None:
    guard, module = FiniteGuard(patience=1), CodecTraining()
    module.log = lambda *_, **__: None  # type: ignore[method-assign]
    optimizer = module.configure_optimizers()

    class Trainer:
        global_step = 5

    trained = [p for p in module.parameters() if p.requires_grad]
    for p in trained:
        p.grad = torch.full_like(p, torch.nan)
    guard.on_before_optimizer_step(Trainer(), module, optimizer)  # type: ignore[arg-type]
    assert all(p.grad is None for p in trained) and guard.num_skipped == 1
    next(module.parameters()).grad = torch.full_like(next(module.parameters()), torch.inf)
    with pytest.raises(ValueError, match="2 steps in a row .* lower the learning rates"):
        guard.on_before_optimizer_step(Trainer(), module, optimizer)  # type: ignore[arg-type]
    again = FiniteGuard()
    again.load_state_dict(guard.state_dict())
    assert again.num_skipped == 2


def test_precision_is_measured_once() -> None:
    assert choose_precision() in ("32-true", "bf16-mixed")
    assert choose_precision() is choose_precision()


def test_clips_of_a_step_follow_from_seed_and_step_alone() -> None:
    class Trainer:
        global_rank, world_size = 0, 1

        def __init__(self, step: int) -> None:
            self.global_step = step

    def batch(step: int, ahead: int, seed: int = 0) -> torch.Tensor:
        data = ClipData("scenes:easy", 2, 8, 8, batch_size=3, seed=seed)
        data.setup("fit")
        data.trainer = Trainer(step)  # type: ignore[assignment]
        loader = iter(data.train_dataloader())
        return [next(loader) for _ in range(ahead + 1)][-1][0]

    assert torch.equal(batch(0, 4), batch(4, 0))
    assert not torch.equal(batch(0, 4), batch(0, 4, seed=1))
