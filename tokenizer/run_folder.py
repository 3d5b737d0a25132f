"""`RunFolder`: a training's folder, in which no run is lost unasked, and changed ones are told.

Knows a run's files and the text of its settings. Knows no trainer and no module.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

import yaml
from lightning.pytorch.utilities import rank_zero_warn

from tokenizer.callbacks import previous

SHARDED = ".metadata"  # the file that torch.distributed.checkpoint writes last
# Where a run lies, how often it reports and how fast it is make no other run of it; `precision`
# may be `auto`, what it came to stands in trainer.precision.
FREE = (
    "out",
    "ckpt_path",
    "restart",
    "precision",
    "checkpoint_every",
    "data.workers",
    "trainer.logger",
    "trainer.default_root_dir",
    "trainer.enable_",
    "trainer.log_every_n_steps",
)
TOLD = 12  # settings that a warning names


class RunFolder:
    """What is there of a run, and what becomes of it.

    path: the folder. checkpoint: what the new run goes on from, None if it begins anew.

    Args:
        path: The folder.
        asked: A checkpoint's path, or `last` for this folder's; None: begin anew.
        restart: Begin anew also where the folder holds a run's checkpoint.

    Raises:
        FileNotFoundError: There is no such checkpoint.
        ValueError: The folder is a file or holds a run, what was asked for is no checkpoint, or
            both a checkpoint and a new beginning are asked for.
    """

    def __init__(self, path: Path, asked: str | None, restart: bool) -> None:
        if path.exists() and not path.is_dir():
            raise ValueError(f"out={path} is a file: give a folder for the run")
        if asked is not None and restart:
            raise ValueError(
                f"ckpt_path={asked} and restart: leave out restart to go on, or ckpt_path to begin "
                "again"
            )
        self.path, self.checkpoints = path, path / "checkpoints"
        self._last = self.checkpoints / "last.ckpt"
        self.checkpoint = None if asked is None else self._find(asked)
        if asked is None and not restart and any(old.exists() for old in self._kept_checkpoints()):
            raise ValueError(
                f"out={path} holds a run: give --ckpt_path last to go on with it, --restart to "
                "lose it and begin again, or another --out"
            )
        written = path / "config.yaml", path / "metrics.csv"
        self._before = {file: file.read_bytes() for file in written if file.is_file()}
        self._replaced: list[Path] = []
        if asked is None:
            self._replaced = [*self._kept_checkpoints(), self.checkpoints / "best.ckpt"]
            self._replaced += path.glob("events.out.tfevents.*")

    def _kept_checkpoints(self) -> list[Path]:
        return [self._last, previous(self._last)]

    def _find(self, asked: str) -> Path:
        path = self._last if asked == "last" else Path(asked)
        if not path.exists() and previous(path).is_dir():  # killed between two sharded ones
            path = previous(path)
        if not path.exists():
            raise FileNotFoundError(
                f"ckpt_path={asked}: no checkpoint {path}: leave --ckpt_path out to start anew, "
                "or give the --out of the run to resume"
            )
        if not (is_zipfile(path) if path.is_file() else (path / SHARDED).is_file()):
            raise ValueError(  # whole checkpoints are a zip file, or shards with metadata
                f"ckpt_path={path}: not a checkpoint, or cut short: give one that this command "
                "wrote, or leave --ckpt_path out to start anew"
            )
        return path

    def tell_changes(self, settings: str) -> None:
        """Warn of settings, a config file's text, that the checkpoint's run had otherwise."""
        if self.checkpoint is None:
            return
        folder = self.checkpoint.resolve().parent
        config = folder.parent / "config.yaml"
        if folder.name != self.checkpoints.name or not config.is_file():
            return
        changed = changed_settings(config.read_text(errors="replace"), settings)
        more = [f"and {len(changed) - TOLD} more"] if len(changed) > TOLD else []
        if changed:
            rank_zero_warn(
                f"goes on from {self.checkpoint} with other settings, unlike a run that was never "
                f"stopped: {', '.join(changed[:TOLD] + more)}",
                stacklevel=2,
            )

    def clear(self) -> None:
        """Remove what a run that begins anew replaces; for the moment it takes its first step."""
        for old in self._replaced:
            shutil.rmtree(old, ignore_errors=True) if old.is_dir() else old.unlink(missing_ok=True)

    def put_back(self) -> None:
        """Undo what a trainer writes before its first step, for a run that has taken none."""
        for file, content in self._before.items():
            file.write_bytes(content)


def changed_settings(before: str, now: str) -> list[str]:
    """Settings of two config files that differ, such as `data.batch_size=8 (16 before)`.

    Args:
        before: The text of the first, YAML; nothing is said of a text that holds no settings.
        now: The text of the second.
    """
    try:
        old = yaml.safe_load(before)
    except yaml.YAMLError:
        old = None
    if not isinstance(old, dict):
        return []
    settings, earlier = dict(_flat(yaml.safe_load(now))), dict(_flat(old))
    return [
        f"{name}={settings.get(name)} ({earlier.get(name)} before)"
        for name in sorted(earlier.keys() | settings.keys())
        if earlier.get(name) != settings.get(name) and not name.startswith(FREE)
    ]


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else str(key))
    else:
        yield name, value
