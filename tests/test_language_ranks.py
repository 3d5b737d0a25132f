"""Two processes, sharded or not, learn what one does; killed runs go on as if nothing had been."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import secrets
import signal
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.multiprocessing.spawn import spawn

from tokenizer.fitting import FitReport, fit

STEPS = 4
LONGER, EVERY = 7, 2  # steps of runs that are killed, and those between two checkpoints
MOMENTS = ("begin", "update", "end")  # of a step: before its first pass, before its update, after
SIZES = ["width=16", "layers=2", "heads=2", "kv_heads=1", "head_dim=8", "hidden=24", "context=160"]
SIZES += ["ahead=3"]
FSDP = "{class_path: ModelParallelStrategy}"
STRATEGIES = {
    "ddp": ["--trainer.strategy=ddp"],
    "ddp in passes": ["--trainer.strategy=ddp", "--trainer.accumulate_grad_batches=2"],
    "fsdp": [f"--trainer.strategy={FSDP}"],
    "fsdp in rows of their own": [f"--trainer.strategy={FSDP}", "--data.packing=false"],
    "fsdp in passes": [
        f"--trainer.strategy={FSDP}",
        "--trainer.accumulate_grad_batches=2",
        "--model.recipe.checkpointing=true",
        "--data.packing=false",
    ],
}


Death = tuple[int, str]  # the step, from 1, and which of its moments


def run(
    tokens: Path, out: Path, *more: str, lr: float | None = None, death: Death | None = None
) -> FitReport:
    """A run whose losses go to OUT/losses.jsonl, step by step.

    With `lr` it is one of plain descent: Muon and Adam step as far where a gradient is nothing
    but rounding. With `death` it kills itself.
    """
    from lm.training import LanguageTraining, ShardData

    class Told(LanguageTraining):
        def configure_optimizers(self) -> Any:
            optimizer = super().configure_optimizers()
            if lr is None:
                return optimizer
            assert self.decoder is not None
            return torch.optim.SGD(self.decoder.parameters(), lr=lr)

        def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
            if death == (self.global_step + 1, "begin"):
                os.kill(os.getpid(), signal.SIGKILL)
            if lr is None:
                super().on_train_batch_start(batch, batch_idx)

        def on_before_optimizer_step(self, optimizer: Any) -> None:
            if death == (self.global_step + 1, "update"):
                os.kill(os.getpid(), signal.SIGKILL)
            super().on_before_optimizer_step(optimizer)

        def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
            if (batch_idx + 1) % batch.parts or not self.trainer.is_global_zero:
                return
            loss = float(self.trainer.callback_metrics["train/loss"])
            with open(out / "losses.jsonl", "a") as file:
                file.write(json.dumps([self.global_step, loss.hex()]) + "\n")
            if death == (self.global_step, "end"):
                os.kill(os.getpid(), signal.SIGKILL)

    argv = [f"--model.sizes.{size}" for size in SIZES]
    argv += [f"--data.shards={tokens}", f"--out={out}", f"--trainer.max_steps={STEPS}"]
    argv += ["--trainer.enable_progress_bar=false", "--precision=32-true"]
    argv += ["--trainer.accelerator=cpu", "--data.mixture.rates=[3]", "--data.packing=true"]
    argv += [
        "--data.mixture.branch=0.5",
        "--model.recipe.average=0.9",
        f"--checkpoint_every={EVERY}",
    ]
    argv += ["--trainer.log_every_n_steps=1", *more]
    out.mkdir(exist_ok=True)
    return fit(Told, ShardData, argv, "kinolex lm fit", "runs/lm")


def losses(out: Path) -> dict[int, float]:
    """The loss of each step; of steps that were done twice the later one."""
    lines = (out / "losses.jsonl").read_text().splitlines()
    return {step: float.fromhex(loss) for step, loss in map(json.loads, lines)}


def weights(out: Path) -> dict[str, torch.Tensor]:
    return load_file(out / "model" / "model.safetensors")


def alone(tokens: Path, out: Path, death: Death | None, *more: str) -> None:
    torch.set_num_threads(1)
    run(tokens, out, *more, death=death)


def work(rank: int, port: int, tokens: Path, folder: Path) -> None:
    torch.set_num_threads(1)
    os.environ |= {"LOCAL_RANK": str(rank), "MASTER_PORT": str(port), "MASTER_ADDR": "127.0.0.1"}
    for name, options in STRATEGIES.items():
        two = ["--data.batch_size=2", "--trainer.devices=2", *options]
        run(tokens, folder / name, *two, lr=0.1)
    sharded = ["--data.batch_size=2", "--trainer.devices=2", f"--trainer.strategy={FSDP}"]
    run(tokens, folder / "sharded", *sharded)
    run(tokens, folder / "halted", *sharded, "--trainer.max_steps=2")
    run(tokens, folder / "halted", *sharded, "--ckpt_path=last")
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def runs(summary_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the runs of two processes, by name of the strategy."""
    folder = tmp_path_factory.mktemp("ranks")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    spawn(work, (port, summary_folder / "tokens", folder), nprocs=2)
    return folder


@pytest.fixture(scope="module")
def single(summary_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, of one process with all of each step."""
    out = tmp_path_factory.mktemp("single")
    run(summary_folder / "tokens", out, "--data.batch_size=4", lr=0.1)
    return out


@pytest.mark.slow  # starts two interpreters
@pytest.mark.parametrize("name", STRATEGIES)
def test_two_processes_learn_what_one_learns(runs: Path, single: Path, name: str) -> None:
    want, got = losses(single), losses(runs / name)
    assert list(got) == list(want) == list(range(1, STEPS + 1))
    for step in want:
        assert got[step] == pytest.approx(want[step], rel=1e-5), step
    one, two = weights(single), weights(runs / name)
    assert one.keys() == two.keys()
    for key in one:
        torch.testing.assert_close(two[key], one[key], rtol=1e-4, atol=1e-6, msg=key)


@pytest.mark.slow
def test_a_sharded_run_goes_on_from_its_shards(runs: Path) -> None:
    shards = runs / "halted" / "checkpoints" / "last.ckpt"
    assert len(list(shards.glob("*.distcp"))) == 2
    assert losses(runs / "halted") == losses(runs / "sharded")
    want, got = weights(runs / "sharded"), weights(runs / "halted")
    for key in want:
        assert torch.equal(got[key], want[key]), key


@pytest.mark.slow  # starts interpreters
@pytest.mark.parametrize(
    "options",
    [
        ["--data.workers=2"],
        ["--data.workers=1", "--trainer.accumulate_grad_batches=2"],
        ["--data.packing=false"],
    ],
    ids=" ".join,
)
def test_a_run_killed_at_any_step_goes_on_to_the_last_bit(
    run_folder: Path, tmp_path: Path, options: list[str]
) -> None:
    """The step is drawn anew each time; KINOLEX_KILL_SEED draws one again."""
    seed = int(os.environ.get("KINOLEX_KILL_SEED") or secrets.randbelow(2**32))
    luck = random.Random(f"{seed} {options}")
    step, moment = luck.randint(1, LONGER), luck.choice(MOMENTS)
    again = f"killed at the {moment} of step {step}: KINOLEX_KILL_SEED={seed} draws it again"
    tokens = run_folder / "tokens"
    context = multiprocessing.get_context("spawn")

    def start(out: Path, death: Death | None, *more: str) -> int | None:
        words = [*options, f"--trainer.max_steps={LONGER}", *more]
        process = context.Process(target=alone, args=(tokens, out, death, *words))
        process.start()
        process.join()
        return process.exitcode

    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert start(whole, None) == 0
    assert start(killed, (step, moment)) == -signal.SIGKILL, again
    assert not (killed / "model").exists(), again
    done = step if moment == "end" else step - 1
    last = ["--ckpt_path=last"] if done >= EVERY else []  # none was kept yet: anew
    assert start(killed, None, *last) == 0, again
    assert losses(killed) == losses(whole), again
    assert len(losses(whole)) == LONGER
    want, got = weights(whole), weights(killed)
    for key in want:
        assert torch.equal(got[key], want[key]), f"{key}, {again}"
