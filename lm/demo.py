"""The demo: codec and language model from scratch in minutes, measured, on one page.

It strings together the commands a user would run (fit, encode, fit, evaluate) on the made world
and shares a time budget among them. Each stage leaves its result in the output folder, so that an
interrupted demo goes on where it was. It knows no network and trains nothing itself.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from lm.figures import Figure, figure_table, write_results

CONFIGS = Path(__file__).parent.parent / "configs"
CODEC_SHARE = 0.34  # of the whole budget, for training the codec
REST_SHARE = 0.1  # kept back for measuring and the page
CLIPS_PER_MINUTE = 1200  # clips encoded for the language model, for each minute of the budget
LEAST_MINUTES = 0.2
PRECIOUS = 15.0  # seconds every training gets even when the stages before it were slow


@dataclass(frozen=True)
class DemoReport:
    """Where the demo's results are, and its table of held-out figures."""

    report: Path
    results: Path
    model: Path
    minutes: float  # spent, over all resumptions
    figures: list[Figure] = field(repr=False)

    def __rich__(self) -> Any:
        from rich.console import Group

        return Group(
            figure_table(self.figures, "Held-out figures (no clip of them was trained on)"),
            f"{self.minutes:.1f} minutes. Report: {self.report}   Model: {self.model}",
        )


@dataclass
class _Ledger:
    """What has been done and how long it took, kept on disk after every stage."""

    path: Path
    settings: dict[str, Any]
    seconds: dict[str, float] = field(default_factory=dict)  # by stage, over all resumptions
    done: list[str] = field(default_factory=list)

    @classmethod
    def open(cls, path: Path, settings: dict[str, Any]) -> _Ledger:
        if not path.is_file():
            return cls(path, settings)
        kept = json.loads(path.read_text())
        if kept["settings"] != settings:
            raise ValueError(
                f"{path.parent} holds a demo with {kept['settings']}, not {settings}: give another "
                "--out, the same settings to go on, or --restart true to begin again"
            )
        return cls(path, settings, kept["seconds"], kept["done"])

    @property
    def spent(self) -> float:
        return sum(self.seconds.values())

    def save(self) -> None:
        content = {"settings": self.settings, "seconds": self.seconds, "done": self.done}
        temporary = self.path.with_suffix(".part")
        temporary.write_text(json.dumps(content, indent=2))
        os.replace(temporary, self.path)


class _Stages:
    """Runs stages in order, each once, saying what comes and how long the rest will take."""

    def __init__(self, ledger: _Ledger, budget: float, console: Console, names: list[str]) -> None:
        self.ledger, self.budget, self.console, self.names = ledger, budget, console, names

    @contextmanager
    def stage(self, name: str, about: str) -> Iterator[None]:
        number = self.names.index(name) + 1
        left = max(0.0, self.budget - self.ledger.spent)
        self.console.print(
            f"[bold]{number}/{len(self.names)} {about}[/bold]   "
            f"(about {_clock(left)} of {_clock(self.budget)} left for everything)"
        )
        before, started = self.ledger.seconds.get(name, 0.0), time.monotonic()
        try:
            yield
            self.ledger.done.append(name)
        finally:
            self.ledger.seconds[name] = before + time.monotonic() - started
            self.ledger.save()

    def is_done(self, name: str) -> bool:
        if name in self.ledger.done:
            number = self.names.index(name) + 1
            self.console.print(f"{number}/{len(self.names)} {name}: done before")
            return True
        return False


def demo(
    minutes: float = 10.0,
    out: Path = Path("runs/demo"),
    difficulty: Literal["easy", "standard", "hard"] = "easy",
    seed: int = 0,
    restart: bool = False,
) -> DemoReport:
    """Train a codec and a language model from scratch on made scenes and show what they can do.

    Makes captioned clips of moving shapes, trains a codec, encodes clips to tokens, trains a
    language model on them, then captions held-out clips, answers questions and generates from
    prompts it never saw. Writes OUT/report.html (open it in a browser), OUT/results.json and
    OUT/model, which the other commands take: `kinolex caption clip.mp4 --model OUT/model`.
    Interrupted, it goes on where it was when run again.

    Args:
        minutes: Time for everything; more makes better models.
        out: The folder to write.
        difficulty: easy (one object), standard (up to three, sequences, collisions) or hard.
        seed: Of clips, weights and order; the same seed and machine give the same models but for
            how many steps fit in the time.
        restart: Remove what is in OUT and begin again.
    """
    if minutes < LEAST_MINUTES:
        raise ValueError(f"minutes={minutes}: the demo needs at least {LEAST_MINUTES}")
    if restart and (out / "demo.json").is_file():
        shutil.rmtree(out)
    out.mkdir(parents=True, exist_ok=True)
    settings = {"minutes": minutes, "difficulty": difficulty, "seed": seed}
    ledger = _Ledger.open(out / "demo.json", settings)
    console = Console()
    names = ["codec", "corpus", "language", "measure", "page"]
    stages = _Stages(ledger, 60 * minutes, console, names)
    world = f"scenes:{difficulty}"

    if set(names) <= set(ledger.done):
        made = datetime.fromtimestamp((out / "results.json").stat().st_mtime)
        console.print(
            f"{out} holds a finished demo of {made:%Y-%m-%d %H:%M}, which is shown again: with "
            "--restart true (or another --out) the code of now makes one anew",
            markup=False,
        )
    if not stages.is_done("codec"):
        with stages.stage("codec", f"training the codec on {world}"):
            _fit_codec(out / "codec", world, minutes * CODEC_SHARE, seed)
    if not stages.is_done("corpus"):
        with stages.stage("corpus", "encoding clips to token shards"):
            _encode(out, world, max(64, round(minutes * CLIPS_PER_MINUTE)), seed)
    if not stages.is_done("language"):
        left = stages.budget * (1 - REST_SHARE) - ledger.spent + ledger.seconds.get("language", 0.0)
        with stages.stage("language", "training the language model on the tokens"):
            minutes_left = round(max(PRECIOUS, left) / 60, 3)  # the same when it is resumed
            _fit_language(out / "lm", out / "tokens", minutes_left, seed)
    if not stages.is_done("measure"):
        with stages.stage("measure", "measuring on held-out and unseen clips"):
            _measure(out, world, minutes, seed)
    if not stages.is_done("page"):
        with stages.stage("page", "drawing the page"):
            from lm.showing import write_page

            write_page(out, world, minutes, seed)
    figures = read_figures(out / "results.json")
    return DemoReport(
        out / "report.html", out / "results.json", out / "model", ledger.spent / 60, figures
    )


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def _resumed(folder: Path) -> list[str]:
    """Arguments that make a fit go on where an earlier one in `folder` stopped."""
    return ["--ckpt_path", "last"] if (folder / "checkpoints" / "last.ckpt").is_file() else []


def _run_fit(fit: Callable[[list[str]], Any], folder: Path, arguments: list[str]) -> None:
    """One fit command; what Ctrl-C ended is not done, so the demo stops there too."""
    report = fit([*arguments, "--out", str(folder), *_resumed(folder)])
    if not report.finished:
        raise KeyboardInterrupt


def _fit_codec(folder: Path, world: str, minutes: float, seed: int) -> None:
    from tokenizer.training import fit

    _run_fit(
        fit,
        folder,
        [
            f"--config={CONFIGS / 'tokenizer' / 'base.yaml'}",
            f"--config={CONFIGS / 'tokenizer' / 'size' / 'demo.yaml'}",
            f"--data.source={world}",
            f"--seed_everything={seed}",
            f"--max_minutes={minutes}",
        ],
    )


def _encode(out: Path, world: str, num_clips: int, seed: int) -> None:
    from rich.progress import Progress

    from tokenizer.codec import Codec
    from tokenizer.encoding import encode_source

    codec = Codec.load(out / "codec" / "codec")
    with Progress() as bar:
        task = bar.add_task("clips", total=num_clips)
        encode_source(
            codec,
            demo_source(codec, world, "train", num_clips, seed),
            out / "tokens",
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )


def demo_source(codec: Any, world: str, split: str, num_clips: int, seed: int) -> Any:
    """Clips of the made world in the shape the demo's codec was trained on: one block long."""
    from data.source import open_source

    height, width = codec.trained_size
    return open_source(
        world,
        split=split,
        num_clips=num_clips,
        num_frames=codec.block_frames,
        height=height,
        width=width,
        seed=seed,
    )


def _fit_language(folder: Path, tokens: Path, minutes: float, seed: int) -> None:
    from lm.training import fit

    _run_fit(
        fit,
        folder,
        [
            f"--config={CONFIGS / 'lm' / 'base.yaml'}",
            f"--config={CONFIGS / 'lm' / 'size' / 'demo.yaml'}",
            f"--data.shards={tokens}",
            f"--seed_everything={seed}",
            f"--max_minutes={minutes}",
        ],
    )


def _measure(out: Path, world: str, minutes: float, seed: int) -> None:
    """Every held-out figure into results.json, and the finished model into OUT/model."""
    from lm.measuring import measure

    figures, protocol = measure(out, world, minutes, seed)
    write_results(out / "results.json", figures, protocol)


def read_figures(path: Path) -> list[Figure]:
    """The figures of a results.json."""
    content = json.loads(path.read_text())
    return [Figure(name=name, **fields) for name, fields in content.items() if name != "protocol"]


def protocol_of(path: Path) -> dict[str, Any]:
    """The protocol of a results.json."""
    return json.loads(path.read_text())["protocol"]
