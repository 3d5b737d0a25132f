"""The `fit` commands: LightningCLI with one-line errors, one output folder and safe resumption.

Shared by codec and language model. A module may offer `monitor` (a metric's name), `monitor_mode`
(min or max) and `export(folder) -> Path`; nothing else about it is known here.
"""

from __future__ import annotations

import logging
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal, NoReturn

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.fabric.utilities.warnings import PossibleUserWarning
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_warn

from tokenizer.arguments import plain_error
from tokenizer.callbacks import (
    Clock,
    FiniteGuard,
    FirstStep,
    KeptMetrics,
    LastCheckpoint,
    SpareMemory,
)
from tokenizer.run_folder import RunFolder
from tokenizer.running import Clock as ClockKind
from tokenizer.time_bar import TimeBar

Precision = Literal["auto", "32-true", "bf16-mixed"]


@dataclass(frozen=True)
class FitReport:
    """How a training run ended."""

    out: str  # folder of the run
    steps: int  # optimizer steps, over all resumptions
    minutes: float  # training time, over all resumptions
    finished: bool  # False when Ctrl-C ended it
    precision: str
    exported: str | None  # what was saved for use
    metrics: dict[str, float] = field(default_factory=dict)  # last logged values


@cache
def choose_precision() -> str:
    """bf16-mixed where this machine multiplies and convolves faster so, else 32-true (measured)."""
    if torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "32-true"

    def seconds(dtype: torch.dtype) -> float:
        matrix = torch.randn(256, 256).to(dtype)
        x, kernel = torch.randn(2, 48, 6, 8, 8).to(dtype), torch.randn(48, 48, 3, 3, 3).to(dtype)
        best = float("inf")
        with torch.no_grad():
            for _ in range(3):
                start = time.perf_counter()
                matrix.mm(matrix)
                torch.nn.functional.conv3d(x, kernel, padding=1)
                best = min(best, time.perf_counter() - start)
        return best

    return "bf16-mixed" if seconds(torch.bfloat16) < 0.8 * seconds(torch.float32) else "32-true"


class OneLineParser(LightningArgumentParser):
    """A parser whose errors are one line and exit code 2."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:  # pyright: ignore
        text = f"{self.prog}: error: {plain_error(message)} (see `{self.prog} --help`)"
        print(text, file=sys.stderr)
        raise SystemExit(2)


def check_trainer(trainer: Any) -> None:
    """ValueError if a number among the trainer's settings is senseless."""
    steps, devices, parts = trainer.max_steps, trainer.devices, trainer.accumulate_grad_batches
    if steps is not None and (steps == 0 or steps < -1):
        raise ValueError(f"trainer.max_steps={steps}: give at least one step, or leave it out")
    if devices in (0, "0", "", []):
        raise ValueError(f"trainer.devices={devices}: give at least 1, or -1 for all GPUs")
    if parts < 1:
        raise ValueError(f"trainer.accumulate_grad_batches={parts}: give at least 1")


class FitCLI(LightningCLI):
    """LightningCLI without subcommands: `--config FILE` any number of times, then changes by name.

    Everything a run writes goes under `--out`: config.yaml, metrics.csv, TensorBoard events,
    checkpoints/best.ckpt and last.ckpt, and what the module exports.
    """

    def __init__(self, *args: Any, default_out: str = "runs/fit", **kwargs: Any) -> None:
        self.default_out = default_out
        super().__init__(*args, **kwargs)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument("--out", type=Path, default=Path(self.default_out), help="Run's folder")
        parser.add_argument(
            "--ckpt_path",
            type=str | None,
            default=None,
            help="Checkpoint to resume: a path, or last for OUT/checkpoints/last.ckpt",
        )
        parser.add_argument(
            "--restart", action="store_true", help="Start anew where OUT holds a run, which is lost"
        )
        parser.add_argument(
            "--precision",
            type=Precision,
            default="auto",
            help="Number format; auto measures this machine",
        )
        parser.add_argument(
            "--max_minutes",
            type=float | None,
            default=None,
            help="Time for the run, resumptions included; schedules follow time or max_steps",
        )
        parser.add_argument(
            "--clock",
            type=ClockKind,
            default="wall",
            help="What max_minutes counts: wall, or cpu: this process's time on processors (of all "
            "its threads together), for machines shared with other work",
        )
        parser.add_argument(
            "--checkpoint_every", type=int, default=500, help="Steps between two last.ckpt"
        )

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        try:
            self.config = parser.parse_args(args)  # without LightningCLI's warning about sys.argv
        except UnicodeDecodeError as error:
            parser.error(f"a --config is not UTF-8 text ({error.reason}): give YAML files")
        if not 0 <= (seed := self.config.seed_everything) < 2**32:
            raise ValueError(f"seed_everything={seed}: give 0 to {2**32 - 1}")

    def before_instantiate_classes(self) -> None:
        config = self.config
        check_trainer(config.trainer)
        self.folder = RunFolder(Path(config.out), config.ckpt_path, config.restart)
        # Of this start alone, not of what is done with its config.yaml.
        config.restart, config.ckpt_path = False, None
        if config.trainer.max_steps in (None, -1) and config.max_minutes is None:
            if config.trainer.max_epochs is None:
                raise ValueError(
                    "training without an end: give --max_minutes or --trainer.max_steps"
                )
        if config.trainer.precision is None:
            auto = config.precision == "auto"
            config.trainer.precision = choose_precision() if auto else config.precision
        config.trainer.default_root_dir = str(self.folder.path)
        self.spread_seed()
        self.folder.tell_changes(self.parser.dump(config, skip_none=False, skip_validation=True))

    def spread_seed(self) -> None:
        """Give the run's seed to the parts that have none of their own.

        Lightning has settled it by now. Links of the parser would do it too, but then neither could
        be given by itself.
        """
        for part in (self.config.model, self.config.data):
            if "seed" in part and part.seed is None:
                part.seed = int(self.config.seed_everything)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        config: Any = self.config_init
        model = self.model
        self.clock = Clock(config.max_minutes, config.clock)
        self.last = LastCheckpoint(self.folder.checkpoints, config.checkpoint_every)
        first = FirstStep(self.folder.clear)
        callbacks = [self.clock, first, FiniteGuard(), SpareMemory(), self.last]
        callbacks += config.trainer.callbacks or []
        if (monitor := getattr(model, "monitor", None)) is not None:
            callbacks.append(
                ModelCheckpoint(
                    self.folder.checkpoints,
                    filename="best",
                    monitor=monitor,
                    mode=getattr(model, "monitor_mode", "min"),
                    enable_version_counter=False,
                )
            )
        if config.trainer.enable_progress_bar is not False:
            callbacks.append(TimeBar(self.clock))
        kwargs["enable_progress_bar"] = False  # Lightning's bar counts epochs, which have no end
        kwargs["callbacks"] = callbacks
        kwargs.setdefault("enable_checkpointing", monitor is not None)
        if isinstance(every := config.trainer.val_check_interval, int):  # Lightning counts passes
            kwargs["val_check_interval"] = every * config.trainer.accumulate_grad_batches
        if config.trainer.logger is None:
            out = self.folder.path
            if self.folder.checkpoint is not None:
                callbacks.append(KeptMetrics(out / "metrics.csv"))
            kwargs["logger"] = [
                TensorBoardLogger(out, name="", version=""),
                CSVLogger(out, name="", version=""),
            ]
        try:
            return super().instantiate_trainer(**kwargs)
        except (MisconfigurationException, TypeError) as error:  # as Lightning refuses settings
            raise ValueError(f"trainer: {' '.join(str(error).split())}") from error

    def run(self) -> FitReport:
        """Train, then export; a run stopped by Ctrl-C exports what it has."""
        checkpoint = self.folder.checkpoint
        self.folder.checkpoints.mkdir(parents=True, exist_ok=True)
        try:
            self.trainer.fit(self.model, datamodule=self.datamodule, ckpt_path=checkpoint)
        except SystemExit:
            if self.trainer.interrupted:  # before steps, where `LastCheckpoint` is not yet at work
                raise KeyboardInterrupt from None
            raise
        except (RuntimeError, KeyError) as error:
            if checkpoint is None or self.clock.begun:
                raise
            told = " ".join(str(error).split())  # torch tells tensors line by line
            reason = told if len(told) <= 300 else told[:300] + " ..."
            raise ValueError(
                f"ckpt_path={checkpoint}: does not fit this configuration ({reason}): give "
                "the one it was trained with, or start anew in another --out"
            ) from error
        finally:
            if not self.clock.begun and self.trainer.is_global_zero:
                self.folder.put_back()
        if checkpoint is not None and not self.clock.begun:
            rank_zero_warn(
                f"nothing was left to train: {checkpoint} is at step {self.trainer.global_step} "
                f"after {self.clock.seconds / 60:.1f} minutes; raise --trainer.max_steps or "
                "--max_minutes",
                stacklevel=2,
            )
        export: Callable[[Path], Path] | None = getattr(self.model, "export", None)
        exported = None if export is None else str(export(self.folder.path))
        return FitReport(
            out=str(self.folder.path),
            steps=self.trainer.global_step,
            minutes=self.clock.seconds / 60,
            finished=not self.last.interrupted,
            precision=str(self.trainer.precision),
            exported=exported,
            metrics={k: float(v) for k, v in self.trainer.logged_metrics.items()},
        )


class ParsedCLI(FitCLI):
    """Reads a configuration as `fit` does: model and data by their arguments, and no trainer."""

    def before_instantiate_classes(self) -> None:
        check_trainer(self.config.trainer)
        self.spread_seed()

    def instantiate_trainer(self, **kwargs: Any) -> Any:
        return None


def fit(
    model_class: type[LightningModule],
    datamodule_class: type[LightningDataModule],
    argv: Sequence[str],
    prog: str,
    default_out: str = "runs/fit",
) -> FitReport:
    """Train by command line arguments.

    Args:
        model_class: The Lightning module; its arguments appear under --model.
        datamodule_class: The data module; its arguments appear under --data.
        argv: Arguments, without the command itself.
        prog: The command, for usage and errors.
        default_out: Folder of the run where --out is not given.
    """
    with _quiet():
        return prepare(model_class, datamodule_class, argv, prog, default_out).run()


def prepare(
    model_class: type[LightningModule],
    datamodule_class: type[LightningDataModule],
    argv: Sequence[str],
    prog: str,
    default_out: str = "runs/fit",
    cli_class: type[FitCLI] = FitCLI,
) -> FitCLI:
    """What `fit` runs: model, data and trainer by the same arguments, before any step or file."""
    with _quiet():
        return cli_class(
            model_class,
            datamodule_class,
            args=list(argv),
            run=False,
            seed_everything_default=0,
            save_config_kwargs={"overwrite": True},
            parser_class=OneLineParser,
            parser_kwargs={
                "prog": prog,
                "description": f"{prog}: train from a configuration",
                "allow_abbrev": False,
            },
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
            trainer_defaults={
                "num_sanity_val_steps": 0,
                "check_val_every_n_epoch": None,  # epochs have no end: intervals are in steps
                "val_check_interval": 500,
                "log_every_n_steps": 20,
                "enable_model_summary": False,
            },
            default_out=default_out,
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what libraries tell each other."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=PossibleUserWarning)  # workers, log intervals
        warnings.filterwarnings("ignore", message=".*exists and is not empty.*")  # resumption
        warnings.filterwarnings(
            "ignore", message=r"(?s).*(Jsonargparse|in v5\.0\.0)"
        )  # Lightning's
        for category in (FutureWarning, DeprecationWarning):  # libraries among themselves
            warnings.filterwarnings("ignore", category=category)
        yield
