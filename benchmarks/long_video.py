"""Long films with one hidden event: what each strategy finds, what it reads, and what it holds.

    python benchmarks/long_video.py --model runs/demo/model --videos 20 --minutes 10

Films are `data.scenes.hiding`'s, at the model's size and rate, written as lossless files. Two
questions each: what the object of the event does and of what colour it is, with what no quiet
scene shows as choices. Right answers, seconds from the middle of where it was found to the event
(0 within it) and tokens that the language model read are means over films with 95 % bootstrap
intervals over films. Beside them: the event's own first clip alone (what the model can do at
all), the commonest answer, and a guess among the choices. Equal readings are computed once and
counted every time. Of models that were taught times, `--locate` asks when the event happens, too,
by each of the strategies given. `--memory` measures instead peak memory above the loaded model on
one film and on one of a fifth of its length, each strategy in a process of its own, nothing
computed ahead.
"""

from __future__ import annotations

import argparse
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

import numpy as np

from data.clip import Question
from data.scenes.hiding import HiddenEvent, hide_event
from data.writing import write_film
from lm.long.asking import TEXT_ALONE, Long, answer_long, ask_long, room_of
from lm.long.parts import Part, Parts, Wanted
from lm.long.reader import ModelReader, Scored, Told
from lm.tasks import Model
from tokenizer.tokens import VideoTokens

T = TypeVar("T")
DRAWS = 10_000  # of the bootstrap
STRATEGIES = (
    "chunks",
    "window",
    "memory",
    "overlap",
    "keyframes",
    "hierarchy",
    "recall",
    "recall=1280",
    "aggregate=2",
    "aggregate=4",
    "summary",
)


class Remembering(ModelReader):
    """A model that computes equal readings once; what they cost is counted every time."""

    def __init__(self, model: Model) -> None:
        super().__init__(model)
        self._scored: dict[tuple, Scored] = {}
        self._told: dict[tuple, Told] = {}

    def score(
        self, question: str, videos: Sequence[VideoTokens], choices: Sequence[str], past: str = ""
    ) -> list[Scored]:
        score = super().score

        def fresh(some: list[VideoTokens]) -> list[Scored]:
            return score(question, some, choices, past)

        return once(self._scored, (question, tuple(choices), past), videos, fresh)

    def caption(self, videos: Sequence[VideoTokens]) -> list[Told]:
        return once(self._told, (), videos, super().caption)


def once(
    known: dict[tuple, T],
    about: tuple,
    videos: Sequence[VideoTokens],
    fresh: Callable[[list[VideoTokens]], list[T]],
) -> list[T]:
    """What is known of each video, after asking for what is not."""
    keys = [(*about, *(tuple(block.tolist()) for block in video.codes)) for video in videos]
    new = {key: video for key, video in zip(keys, videos, strict=True) if key not in known}
    if new:
        known.update(zip(new, fresh(list(new.values())), strict=True))
    return [known[key] for key in keys]


@dataclass(frozen=True)
class Ahead:
    """Parts that were coded before; a small table of codes for a film."""

    parts: list[Part]

    def read(self, wanted: Wanted | None = None) -> Iterator[Part]:
        return (part for part in self.parts if wanted is None or wanted(part.number))


@dataclass(frozen=True)
class Trial:
    """One question on one film by one strategy."""

    film: int
    kind: str
    right: bool
    far: float | None  # seconds; None where no place is told
    tokens: int


def far_off(made: HiddenEvent, seconds: tuple[float, float] | None) -> float | None:
    """Seconds from the middle of what was found to the event."""
    if seconds is None:
        return None
    middle, end = sum(seconds) / 2, made.event.end
    assert end is not None
    return max(0.0, made.event.start - middle, middle - end)


def with_maximum(strategy: str) -> Long:
    """The strategy, to look for what happens somewhere."""
    return replace(Long.parse(strategy), how="maximum")


def try_film(
    model: Model,
    number: int,
    made: HiddenEvent,
    file: Path,
    strategies: Sequence[str],
    locating: Sequence[str] = (),
) -> dict[str, list[Trial]]:
    """Every strategy on a film."""
    write_film(made.film(), file, quality="high")
    reader, ahead = Remembering(model), {}
    found: dict[str, list[Trial]] = defaultdict(list)

    def parts_of(way: Long) -> Parts:
        footage = way.footage(file, model)
        key = footage.frames, footage.stride, footage.unit, footage.chained
        if key not in ahead:
            ahead[key] = Ahead(list(footage.read()))
        return ahead[key]

    for strategy in strategies:
        way = with_maximum(strategy)
        room = room_of(way, model)
        for question in made.questions:
            told = answer_long(
                reader, parts_of(way), question.question, question.choices, way, room
            )
            right, far = told.text == question.answer, far_off(made, told.seconds)
            found[strategy].append(Trial(number, question.kind, right, far, told.tokens))
    for strategy in locating:
        told = model.locate_long(file, made.event.text, strategy)
        far = far_off(made, told.seconds)
        trial = Trial(number, "when", far == 0, far, told.tokens)
        found[f"when it happens, {strategy}"].append(trial)
    chunks = parts_of(with_maximum("chunks"))
    event = [part for part in chunks.read() if part.start >= made.event.start - 1e-6][:1]
    assert event, "an event lasts at least one part"
    for question in made.questions:
        way = with_maximum("chunks")
        told = answer_long(reader, Ahead(event), question.question, question.choices, way)
        right = told.text == question.answer
        found["the event's clip alone"].append(Trial(number, question.kind, right, 0, told.tokens))
    return found


def interval(values: Sequence[float], films: Sequence[int], digits: int) -> str:
    """A mean with its bootstrap interval over films."""
    if not values:
        return ""
    by_film: dict[int, list[float]] = defaultdict(list)
    for film, value in zip(films, values, strict=True):
        by_film[film].append(value)
    sums = np.array([(sum(each), len(each)) for each in by_film.values()])
    drawn = np.random.default_rng(0).integers(0, len(sums), (DRAWS, len(sums)))
    tops, counts = sums[drawn].sum(1).T
    low, high = np.quantile(tops / counts, (0.025, 0.975))
    mean = sums[:, 0].sum() / sums[:, 1].sum()
    return f"{mean:,.{digits}f} ({low:,.{digits}f} to {high:,.{digits}f})"


def row(name: str, trials: Sequence[Trial]) -> str:
    """A line of the table."""

    def right(kind: str) -> str:
        some = [trial for trial in trials if trial.kind == kind]
        return interval([float(t.right) for t in some], [t.film for t in some], 2)

    placed = [trial for trial in trials if trial.far is not None]
    far = interval([t.far for t in placed if t.far is not None], [t.film for t in placed], 1)
    tokens = interval([float(t.tokens) for t in trials], [t.film for t in trials], 0)
    return f"| {name} | {right('motion')} | {right('colour')} | {far} | {tokens} |"


def guesses(questions: Sequence[Question]) -> str:
    """What is right without looking."""
    shares = []
    for kind in ("motion", "colour"):
        some = [question for question in questions if question.kind == kind]
        commonest = Counter(question.answer for question in some).most_common(1)[0][1]
        chance = sum(1 / len(question.choices) for question in some) / len(some)
        shares.append(f"{commonest / len(some):.2f} / {chance:.2f}")
    return f"| majority / a guess among the choices | {shares[0]} | {shares[1]} | | 0 |"


def peak() -> float:
    """MiB that this process has held at most since `forget_peak`."""
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024


def forget_peak() -> float:
    """Start `peak` anew; MiB held now."""
    Path("/proc/self/clear_refs").write_text("5")
    return peak()


def held_by(folder: Path, strategy: str, file: Path, question: Question) -> float:
    """MiB above the loaded model that a strategy takes at most."""
    model = Model.load(folder)
    before = forget_peak()
    long = strategy if strategy in TEXT_ALONE else f"{strategy}/maximum"
    ask_long(model, file, question.question, question.choices, long)
    return peak() - before


def measure_memory(model: Path, films: Sequence[HiddenEvent], strategies: Sequence[str]) -> None:
    """Peak memory of each strategy on films, each read from its file in a process of its own."""
    lengths = " | ".join(f"{made.seconds / 60:g} minutes, MiB" for made in films)
    print(f"| strategy | {lengths} |\n|{' --- |' * (1 + len(films))}")
    with (
        TemporaryDirectory() as folder,
        ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as processes,
    ):
        files = [Path(folder) / f"{number}.mkv" for number in range(len(films))]
        for file, made in zip(files, films, strict=True):
            write_film(made.film(), file, quality="high")
        for strategy in strategies:
            held = [
                processes.submit(held_by, model, strategy, file, made.questions[1]).result()
                for file, made in zip(files, films, strict=True)
            ]
            print(f"| {strategy} | {' | '.join(f'{mib:.0f}' for mib in held)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", type=Path, required=True, help="folder of a model")
    parser.add_argument("--videos", type=int, default=20)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--event-clips", type=int, default=3, help="how often its clip is shown")
    parser.add_argument("--shift", type=int, default=0, help="frames that parts lag behind clips")
    parser.add_argument("--strategies", nargs="+", default=list(STRATEGIES))
    parser.add_argument("--locate", nargs="*", default=[], help="strategies to find times with")
    parser.add_argument("--seed", type=int, default=0, help="of the first film")
    parser.add_argument("--memory", action="store_true", help="measure peak memory instead")
    a = parser.parse_args()
    model = Model.load(a.model)
    main = model.framing.main
    assert main.fps is not None

    def film(seed: int, minutes: float) -> HiddenEvent:
        return hide_event(
            seed,
            60 * minutes,
            event_clips=a.event_clips,
            num_frames=main.num_frames,
            height=main.height,
            width=main.width,
            fps=float(main.fps or 1),
            shift=a.shift,
        )

    if a.memory:
        films = [film(a.seed, a.minutes / 5), film(a.seed, a.minutes)]
        measure_memory(a.model, films, a.strategies)
        return
    trials: dict[str, list[Trial]] = defaultdict(list)
    questions: list[Question] = []
    with TemporaryDirectory() as folder:
        for number in range(a.videos):
            made = film(a.seed + number, a.minutes)
            questions += made.questions
            file = Path(folder) / "film.mkv"
            found = try_film(model, number, made, file, a.strategies, a.locate)
            for name, each in found.items():
                trials[name] += each
    print(
        f"{a.videos} films of {a.minutes:g} minutes, an event of {a.event_clips} clips of {main}, "
        f"seeds from {a.seed}, shifted by {a.shift} frames\n\n"
        "| strategy | motion right | colour right | seconds off | tokens a question |\n"
        "| --- | --- | --- | --- | --- |"
    )
    for name, each in trials.items():
        print(row(name, each))
    print(guesses(questions))


if __name__ == "__main__":
    main()
