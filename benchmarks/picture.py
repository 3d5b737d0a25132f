"""The README's picture: what a demo's model reconstructs, says and makes, a row a clip.

    python benchmarks/picture.py runs/demo/model docs/demo.png

Rows are the first clips of the unseen split, not picked: every second frame of the original, of its
reconstruction, with the model's caption, and of a film of the clip's own caption (seeds 0, 1, ...).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from PIL import Image, ImageDraw
from torch import Tensor

import kinolex
from data.scenes import Scenes

SCALE, GAP, TEXT = 3, 12, 20  # screen pixels
EVERY = 2  # frames


def strip(frames: Tensor) -> Image.Image:
    """Every so many frames (T, 3, H, W) side by side, enlarged."""
    flat = torch.cat(list(frames[::EVERY]), 2).permute(1, 2, 0).numpy()
    image = Image.fromarray(flat)
    size = (image.width * SCALE, image.height * SCALE)
    return image.resize(size, Image.Resampling.NEAREST)


def picture(model_path: Path, rows: int) -> Image.Image:
    model = kinolex.load(model_path)
    shape = model.framing.main
    source = Scenes(
        split="unseen",
        num_clips=rows,
        num_frames=shape.num_frames,
        height=shape.height,
        width=shape.width,
    )
    clips = source.batch(range(rows))
    again = model.codec.decode_batch(model.encode_batch(clips))
    said = model.caption_batch(clips)
    made = model.generate_batch([clip.caption for clip in clips])
    wide = strip(clips[0].frames).width
    tall = strip(clips[0].frames).height + TEXT + GAP
    sheet = Image.new("RGB", (3 * wide + 2 * GAP, rows * tall + TEXT), "white")
    pen = ImageDraw.Draw(sheet)
    for column, title in enumerate(("a clip", "from its tokens", "made from the words")):
        pen.text((column * (wide + GAP), 2), title, fill="gray", font_size=13)
    for row, clip in enumerate(clips):
        top = TEXT + row * tall
        films = (clip.frames, again[row].frames, made[row].frames)
        words = (f"truth: {clip.caption}", f"model says: {said[row]}", f"prompt: {clip.caption}")
        for column, (frames, text) in enumerate(zip(films, words, strict=True)):
            left = column * (wide + GAP)
            sheet.paste(strip(frames), (left, top))
            pen.text((left, top + tall - TEXT - GAP + 2), text, fill="black", font_size=13)
    return sheet


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("model", type=Path, help="folder of a model the demo made")
    parser.add_argument("out", type=Path, help="PNG to write")
    parser.add_argument("--rows", type=int, default=6, help="clips")
    options = parser.parse_args()
    picture(options.model, options.rows).save(options.out, optimize=True)


if __name__ == "__main__":
    main()
