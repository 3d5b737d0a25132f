"""Codecs that a study trains: each in its own folder, finished ones kept, broken-off ones resumed.

It knows the command line of `kinolex tokenizer fit`, which does the training, and no network.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

from data.atomic import write_atomically
from tokenizer.studies.plan import ClipsPlan, TrainingPlan


def train(training: TrainingPlan, clips: ClipsPlan, run: Path, tell: Callable[[str], None]) -> Path:
    """The folder of a codec trained as asked, now or before.

    Args:
        training: Configuration and length.
        clips: Where its clips come from unless the configuration's `set` says else.
        run: Folder of the run. One whose settings were others is emptied first.
        tell: Told what is done with a run that is there already.

    Raises:
        KeyboardInterrupt: Ctrl-C ended the training; the next call goes on from there.
    """
    argv = _arguments(training, clips)
    files = {str(f): hashlib.sha256(f.read_bytes()).hexdigest() for f in training.config}
    settings = json.dumps({"arguments": argv, "configs": files}, indent=2).encode()
    asked, finished = run / "asked.json", run / "finished.json"
    if asked.is_file() and asked.read_bytes() != settings:
        tell(f"{run}: its settings changed: trained again")
        shutil.rmtree(run)
    if finished.is_file():
        return run / "codec"
    if run.is_dir() and any(run.iterdir()) and not asked.is_file():
        raise ValueError(f"{run} holds something else than a study's run: give another --out")
    write_atomically(asked, settings)
    if (run / "checkpoints" / "last.ckpt").is_file():
        tell(f"{run}: resumed")
        argv.append("--ckpt_path=last")

    from tokenizer.training import fit

    report = fit([*argv, f"--out={run}"])
    if not report.finished:
        raise KeyboardInterrupt
    write_atomically(finished, json.dumps(dataclasses.asdict(report), indent=2).encode())
    return run / "codec"


def _arguments(training: TrainingPlan, clips: ClipsPlan) -> list[str]:
    """What `kinolex tokenizer fit` is told, but for the folder."""
    data = {
        f"data.{key}": getattr(clips, key)
        for key in ("source", "num_frames", "height", "width", "fps")
        if getattr(clips, key) is not None
    }
    values = {**data, **training.set}
    if training.minutes is not None:
        values["max_minutes"] = training.minutes
    if training.steps is not None:
        values["trainer.max_steps"] = training.steps
    told = [f"--{k}={v if isinstance(v, str) else json.dumps(v)}" for k, v in values.items()]
    return [*(f"--config={file}" for file in training.config), *told]
