"""How fast the made world draws and the oracle reads, on one core; and how right the oracle is.

    OMP_NUM_THREADS=1 python benchmarks/scenes.py --check 1000

Times are processor time, so that a busy machine disturbs them less.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table

from data.scenes import Oracle, Scenes, baselines, check_oracle
from data.scenes.spec import DIFFICULTIES

SIZES = ((8, 32, 32), (16, 64, 64))


def rate(work: Callable[[], object], clips: int) -> float:
    """Clips a second of processor time, the better of two runs."""
    best = float("inf")
    for _ in range(2):
        start = time.process_time()
        work()
        best = min(best, time.process_time() - start)
    return clips / best


def speeds(clips: int) -> Table:
    """Clips a second for pixels alone, for whole clips with words, and for the oracle."""
    table = Table(
        "level", "frames", "size", "frames()", "batch()", "oracle", title="clips a second"
    )
    for difficulty in DIFFICULTIES:
        for num_frames, height, width in SIZES:
            world = Scenes(difficulty, num_frames=num_frames, height=height, width=width)
            oracle = Oracle(difficulty)
            some = world.frames(range(min(clips, 64)))
            oracle.read(some[0])  # makes its templates once
            rates = (
                rate(lambda world=world: world.frames(range(clips)), clips),
                rate(lambda world=world: world.batch(range(clips)), clips),
                rate(lambda some=some, o=oracle: [o.read(f) for f in some], len(some)),
            )
            numbers = (f"{value:,.0f}" for value in rates)
            table.add_row(difficulty, str(num_frames), f"{height}x{width}", *numbers)
    return table


def accuracies(clips: int, console: Console) -> None:
    """The oracle on true renderings, and what guessing earns."""
    for difficulty in DIFFICULTIES:
        console.print(str(check_oracle(difficulty, clips)), highlight=False)
    small = check_oracle("easy", clips, num_frames=8, height=32, width=32)
    console.print(str(small), highlight=False)
    for difficulty in ("easy", "standard"):
        table = Table(
            "slot or question", "chance", "majority", "n", title=f"guessing, {difficulty}"
        )
        for name, line in baselines(Scenes(difficulty, split="heldout"), clips).items():
            table.add_row(name, f"{line.chance:.3f}", f"{line.majority:.3f}", str(line.num))
        console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=512, help="clips a speed is measured on")
    parser.add_argument("--check", type=int, default=0, help="clips the oracle is checked on")
    args = parser.parse_args()
    torch.set_num_threads(1)
    console = Console()
    console.print(speeds(args.clips))
    if args.check:
        accuracies(args.check, console)


if __name__ == "__main__":
    main()
