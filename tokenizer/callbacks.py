"""Lightning callbacks shared by codec and language model training.

The clock of a run, the guard against numbers that are not finite, the last checkpoint and Ctrl-C,
and moving pictures for TensorBoard. They know trainers and modules, not codecs.
"""

from __future__ import annotations

import csv
import os
import shutil
import signal
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from torch import Tensor

from tokenizer.memory import give_back_memory
from tokenizer.running import CLOCKS
from tokenizer.running import Clock as ClockKind


class Clock(Callback):
    """How much of a run is done, by steps and by time; ends the run when its time is over.

    `progress` is the larger of steps done / `trainer.max_steps` and time used / `max_minutes`,
    fixed at the start of each step. Time already used is kept in checkpoints.

    Args:
        max_minutes: Time for the whole run, over all its resumptions; None leaves it to the steps.
        kind: Whose time counts: the wall clock's, or this process's on processors.
    """

    def __init__(self, max_minutes: float | None = None, kind: ClockKind = "wall") -> None:
        if max_minutes is not None and max_minutes <= 0:
            raise ValueError(f"max_minutes={max_minutes}: give a positive number, or leave it out")
        self.max_minutes, self._now = max_minutes, CLOCKS[kind]
        self.progress = 0.0
        self.used = 0.0  # seconds before `started`
        self.started: float | None = None
        self.begun = False  # whether a step was begun since this process started

    @property
    def state_key(self) -> str:
        return "Clock"

    @property
    def seconds(self) -> float:
        """Seconds of training so far."""
        return self.used + (0.0 if self.started is None else self._now() - self.started)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.started = self._now()
        if self._time_share(trainer) >= 1:  # resumed when its time was over
            trainer.should_stop = True

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        self.begun = True
        steps = max(0, trainer.max_steps)  # -1 is Lightning's for no limit
        done = trainer.global_step / steps if steps else 0.0
        self.progress = min(1.0, max(done, self._time_share(trainer)))

    def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
        if ends_step(trainer, args[-1]) and self._time_share(trainer) >= 1:
            trainer.should_stop = True

    def _time_share(self, trainer: Trainer) -> float:
        """Time used of the time there is, by the first rank's clock: all must do the same."""
        if self.max_minutes is None:
            return 0.0
        share = self.seconds / (60 * self.max_minutes)
        return trainer.strategy.broadcast(share) if trainer.world_size > 1 else share

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.used, self.started = self.seconds, None

    def state_dict(self) -> dict[str, Any]:
        return {"seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.used = float(state_dict["seconds"])


def ends_step(trainer: Trainer, batch_idx: int) -> bool:
    """Whether this pass is the last of its step; a run may only stop or be saved after such."""
    return (batch_idx + 1) % trainer.accumulate_grad_batches == 0


def progress_of(trainer: Trainer) -> float:
    """How much of the run is done, 0 to 1, as its `Clock` says."""
    for callback in trainer.callbacks:  # pyright: ignore[reportAttributeAccessIssue]
        if isinstance(callback, Clock):
            return callback.progress
    return min(1.0, trainer.global_step / trainer.max_steps) if trainer.max_steps > 0 else 0.0


class FirstStep(Callback):
    """Does something once, on the first rank, when a run takes its first step.

    Args:
        act: What to do.
    """

    def __init__(self, act: Callable[[], None]) -> None:
        self._act: Callable[[], None] | None = act

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        if self._act is not None and trainer.is_global_zero:
            self._act()
        self._act = None


class SpareMemory(Callback):
    """Hands memory that lies unused back to the system now and then.

    Batches of many lengths leave gaps in it that nothing fits, see `give_back_memory`: a small
    language model's training held 2.1 GB after 100 steps, of which 1.2 were in use, and 7 after an
    hour (docs/log.md).

    Args:
        every: Steps between two times.
    """

    def __init__(self, every: int = 50) -> None:
        self.every = every

    def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
        if ends_step(trainer, args[-1]) and trainer.global_step % self.every == 0:
            give_back_memory()


class FiniteGuard(Callback):
    """Leaves out steps whose gradient is not finite; stops the run after several in a row.

    Args:
        patience: Steps in a row that may be left out.
    """

    def __init__(self, patience: int = 20) -> None:
        self.patience = patience
        self.num_skipped = 0
        self.in_a_row = 0

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        gradients = [p.grad for p in pl_module.parameters() if p.grad is not None]
        if bool(torch.isfinite(torch.nn.utils.get_total_norm(gradients))):
            self.in_a_row = 0
            return
        self.num_skipped += 1
        self.in_a_row += 1
        optimizer.zero_grad(set_to_none=True)  # optimizers pass over what has no gradient
        pl_module.log("skipped_steps", float(self.num_skipped))
        if self.in_a_row > self.patience:
            raise ValueError(
                f"{self.in_a_row} steps in a row had a loss or gradient that is not finite (at "
                f"step {trainer.global_step}): lower the learning rates or resume an earlier "
                "checkpoint"
            )

    def state_dict(self) -> dict[str, Any]:
        return {"num_skipped": self.num_skipped}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.num_skipped = int(state_dict["num_skipped"])


class LastCheckpoint(Callback):
    """Keeps `last.ckpt`: every so many steps, at the end, and on Ctrl-C once the step is done.

    A second Ctrl-C stops at once. SIGTERM, as batch systems send it before they kill, is the same.

    Args:
        folder: Where `last.ckpt` goes: a file, or a folder where a strategy saves shards.
        every: Steps between two.
    """

    def __init__(self, folder: Path, every: int = 500) -> None:
        if every < 1:
            raise ValueError(f"checkpoint_every={every}: give at least one step")
        self.path = folder / "last.ckpt"
        self.every = every
        self.interrupted = False
        self._previous: dict[signal.Signals, Any] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        with suppress(ValueError):  # not the main thread: Ctrl-C is not ours to catch
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._stop)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        if self.interrupted:
            raise KeyboardInterrupt
        self.interrupted = True

    def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
        if not ends_step(trainer, args[-1]):
            return
        if trainer.world_size > 1:  # a signal to one rank stops all
            self.interrupted = trainer.strategy.reduce_boolean_decision(self.interrupted, all=False)
        if self.interrupted:
            trainer.should_stop = True
        if trainer.global_step % self.every == 0:
            self._save(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._save(trainer)
        self.teardown(trainer, pl_module, "fit")

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        for number, handler in self._previous.items():
            if handler is not None:  # None: set by what is not Python
                signal.signal(number, handler)
        self._previous = {}

    def _save(self, trainer: Trainer) -> None:
        partial = self.path.with_suffix(".partial")
        try:
            trainer.save_checkpoint(partial)
        except OSError as error:  # names a temporary file of Lightning's
            if partial.is_file():  # a folder of shards is written over by the next
                partial.unlink()
            if error.errno is None:
                raise
            raise type(error)(error.errno, error.strerror, str(self.path)) from error
        if trainer.is_global_zero:
            replace(partial, self.path)


class KeptMetrics(Callback):
    """Puts back the rows of a resumed run's metrics.csv, which Lightning's logger deletes.

    Rows of steps that are taken again are left out.

    Args:
        path: The metrics.csv as it stands before the trainer is made; it need not exist.
    """

    def __init__(self, path: Path) -> None:
        self._rows: list[dict[str, str]] = []
        if path.is_file():
            with open(path, newline="") as file:
                self._rows = list(csv.DictReader(file))

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        for logger in trainer.loggers:
            if isinstance(logger, CSVLogger):
                for row in self._rows:
                    whole = None not in row.values()  # not cut short by a kill
                    if whole and int(row["step"]) < trainer.global_step:
                        numbers: Any = {name: cell for name, cell in row.items() if cell}
                        logger.experiment.log_metrics(numbers, int(row["step"]))
                logger.save()


def replace(new: Path, path: Path) -> None:
    """Let `new`, a file or a folder of shards, take the place of `path`.

    At every moment `path`, or if it is a folder `previous(path)`, is whole.
    """
    if path.is_dir():
        shutil.rmtree(previous(path), ignore_errors=True)
        os.replace(path, previous(path))
    os.replace(new, path)
    shutil.rmtree(previous(path), ignore_errors=True)


def previous(path: Path) -> Path:
    """Where a sharded checkpoint stands for the moment in which its successor takes its place."""
    return path.with_suffix(".previous")


def log_video(module: LightningModule, name: str, clips: Iterable[Tensor], fps: float = 8) -> None:
    """Show clips, uint8 (T, 3, H, W) of equal length and height, side by side in TensorBoard.

    A module without a TensorBoard logger shows nothing, nor do ranks other than the first.
    """
    loggers = [log for log in module.loggers if isinstance(log, TensorBoardLogger)]
    if not loggers or not module.trainer.is_global_zero:
        return
    from tensorboard.compat.proto.summary_pb2 import Summary  # pyright: ignore

    from data.writing import encode_gif

    frames = torch.cat(list(clips), dim=3).cpu()  # (T, 3, H, W * clips)
    image = Summary.Image(
        height=frames.shape[2],
        width=frames.shape[3],
        colorspace=3,
        encoded_image_string=encode_gif(frames, fps),
    )
    summary = Summary(value=[Summary.Value(tag=name, image=image)])
    for log in loggers:
        writer = log.experiment._get_file_writer()  # the public add_video wants moviepy
        writer.add_summary(summary, module.global_step)
