"""How few bits made clips take from a coder that knows the world, against the error they come with.

python benchmarks/scenes_information.py --difficulty standard --clips 64

With --curve FILE the same as a curve's JSON, which a study can set beside codecs (`curve: FILE`).
"""

from __future__ import annotations

import argparse
from pathlib import Path

from data.scenes.information import information
from data.scenes.spec import DIFFICULTIES
from data.scenes.stories import make_plan
from tokenizer.metrics import CEILING
from tokenizer.studies.curve import Curve, save_curve


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--difficulty", default="standard", choices=DIFFICULTIES)
    parser.add_argument("--clips", type=int, default=64, help="held-out clips")
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--side", type=int, default=64, help="pixels")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--curve", type=Path, help="JSON file to write")
    told = parser.parse_args()
    plans = [
        make_plan(told.seed, "heldout", told.difficulty, number) for number in range(told.clips)
    ]
    print("bits a number | bits a clip | bits a pixel | PSNR (dB) | clips without a wrong pixel")
    points = information(
        plans, told.difficulty, (2, 3, 4, 5, 6, 8, 10, 12, 16, 24), told.frames, told.side
    )
    for point in points:
        print(
            f"{point.precision:13} | {point.bits_per_clip:11.0f} | {point.bits_per_pixel:12.5f} | "
            f"{point.psnr:9.1f} | {point.equal:.2f}"
        )
    if told.curve is not None:
        settings = {key: getattr(told, key) for key in ("difficulty", "frames", "side", "seed")}
        results = {
            "bpp": tuple(point.bits_per_pixel for point in points),
            "psnr-rgb": tuple(min(CEILING, point.psnr) for point in points),
        }
        protocol = {
            "num_clips": told.clips,
            **settings,
            "bpp": "named",
            "points": [f"{point.precision} bits a number" for point in points],
        }
        told.curve.parent.mkdir(parents=True, exist_ok=True)
        save_curve(Curve("plans", "named by its plan", results, protocol), told.curve)


if __name__ == "__main__":
    main()
