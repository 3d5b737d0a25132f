"""`TimeBar`: one progress bar for a whole training run, with the time it will still take.

It follows the run's `Clock` (steps or minutes, whichever is nearer its end), not epochs, which
have no end here. It knows the trainer's numbers only.
"""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from tokenizer.callbacks import Clock


class TimeBar(Callback):
    """Shows share done, steps, the latest loss and the time left.

    Args:
        clock: The run's clock.
        every: Steps between two redraws.
    """

    def __init__(self, clock: Clock, every: int = 5) -> None:
        self.clock, self.every = clock, every
        self._bar: Progress | None = None
        self._from = 0.0  # progress and seconds at which this session began
        self._since = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        self._bar = Progress(  # on stderr: stdout is for results
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
            console=Console(stderr=True),
        )
        self._bar.add_task("training", total=1.0, note="")
        self._bar.start()
        self._since = self.clock.seconds
        self._from = -1.0

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if self._bar is None:
            return
        if self._from < 0:
            self._from = self.clock.progress
        if trainer.global_step % self.every:
            return
        loss = trainer.callback_metrics.get("train/loss")
        note = f"step {trainer.global_step}"
        if loss is not None:
            note += f", loss {float(loss):.4g}"
        done = self.clock.progress - self._from
        if done > 0.002:
            left = (self.clock.seconds - self._since) * (1 - self.clock.progress) / done
            note += f", {int(left) // 60}:{int(left) % 60:02d} left"
        self._bar.update(self._bar.task_ids[0], completed=self.clock.progress, note=note)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._close()

    def on_exception(self, trainer: Trainer, *_: Any) -> None:
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
