"""How few bits made clips take from a coder that knows the world, against the error they come with.

python benchmarks/scenes_information.py --difficulty standard --clips 64
"""

from __future__ import annotations

import argparse

from data.scenes.information import information
from data.scenes.spec import DIFFICULTIES
from data.scenes.stories import make_plan


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--difficulty", default="standard", choices=DIFFICULTIES)
    parser.add_argument("--clips", type=int, default=64, help="held-out clips")
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--side", type=int, default=64, help="pixels")
    parser.add_argument("--seed", type=int, default=0)
    told = parser.parse_args()
    plans = [
        make_plan(told.seed, "heldout", told.difficulty, number) for number in range(told.clips)
    ]
    print("bits a number | bits a clip | bits a pixel | PSNR (dB) | clips without a wrong pixel")
    for point in information(
        plans, told.difficulty, (2, 3, 4, 5, 6, 8, 10, 12, 16, 24), told.frames, told.side
    ):
        print(
            f"{point.precision:13} | {point.bits_per_clip:11.0f} | {point.bits_per_pixel:12.5f} | "
            f"{point.psnr:9.1f} | {point.equal:.2f}"
        )


if __name__ == "__main__":
    main()
