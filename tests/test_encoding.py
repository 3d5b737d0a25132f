"""The encoding job: shards with words, resumable, equal however it was cut into batches."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from data.clip import Clip, Question
from data.folder import Folder
from data.folder_writing import write_folder
from data.scenes import Scenes
from data.shards import TokenShards
from data.source import Skipped
from tokenizer.codec import Codec
from tokenizer.encoding import encode_source, read_record


class Few:
    """Seven clips, of two lengths and two sizes."""

    name = "few"
    skipped: list[Skipped] = []

    def __len__(self) -> int:
        return 7

    def __getitem__(self, index: int) -> Clip:
        generator = torch.Generator().manual_seed(index)
        shape = (4 if index < 3 else 6, 3, 8, 16 if index < 5 else 9)
        frames = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
        question = Question("which?", str(index), "number", ("0", str(index)))
        return Clip.from_frames(
            frames,
            fps=5,
            captions=(f"clip {index}", "noise"),
            questions=(question,),
            labels={"number": str(index)},
            source=f"few#{index}",
            truth={"number": index},
        )


def test_records_hold_tokens_and_words(codec: Codec, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    report = encode_source(
        codec, Few(), tmp_path / "a", 1.0, batch_size=4, progress=lambda *x: told.append(x)
    )
    assert (report.clips, report.resumed_at, report.skipped) == (7, 0, 0)
    assert told[-1] == (7, 7) and told == sorted(told)
    shards = TokenShards(tmp_path / "a")
    assert shards.meta["codec_id"] == codec.codec_id
    for index in range(7):
        clip, record = Few()[index], read_record(*shards[index])
        tokens = codec.encode(clip, 1.0)
        assert all(map(torch.equal, record.tokens.codes, tokens.codes))
        assert torch.equal(record.tokens.timestamps, clip.timestamps)
        assert record.captions == clip.captions and record.questions == clip.questions
        assert record.labels == clip.labels and record.truth == clip.truth
        assert record.source == clip.source
        assert codec.decode(record.tokens).frames.shape == clip.frames.shape


def test_an_interrupted_job_goes_on(codec: Codec, tmp_path: Path) -> None:
    class Breaking(Few):
        def __getitem__(self, index: int) -> Clip:
            if index == 5:
                raise KeyboardInterrupt
            return super().__getitem__(index)

    with pytest.raises(KeyboardInterrupt):
        encode_source(codec, Breaking(), tmp_path / "a", batch_size=2)
    report = encode_source(codec, Few(), tmp_path / "a", batch_size=3)
    assert report.clips == 7 and 0 < report.resumed_at < 7
    encode_source(codec, Few(), tmp_path / "b")
    one, other = TokenShards(tmp_path / "a"), TokenShards(tmp_path / "b")
    assert [one[i][0].tolist() for i in range(7)] == [other[i][0].tolist() for i in range(7)]
    assert encode_source(codec, Few(), tmp_path / "a").resumed_at == 7


def test_made_worlds_are_drawn_in_batches(codec: Codec, tmp_path: Path) -> None:
    class Drawn(Few):
        def batch(self, indices: Sequence[int]) -> list[Clip]:
            asked.append(len(indices))
            return [self[i] for i in indices]

    asked: list[int] = []
    encode_source(codec, Drawn(), tmp_path / "a", batch_size=5)
    assert asked == [5, 2]


def test_shards_of_other_clips_are_not_gone_on_with(codec: Codec, tmp_path: Path) -> None:
    def scenes(seed: int = 0, height: int = 16) -> Scenes:
        return Scenes(num_clips=2, num_frames=4, height=height, width=16, seed=seed)

    encode_source(codec, scenes(), tmp_path / "a")
    assert encode_source(codec, scenes(), tmp_path / "a").resumed_at == 2
    for other in (scenes(seed=1), scenes(height=8)):
        with pytest.raises(ValueError, match="holds shards with fingerprint='seed 0, 4x16x16"):
            encode_source(codec, other, tmp_path / "a")
    folder = tmp_path / "clips"
    write_folder(scenes(), folder)
    encode_source(codec, Folder(folder, "all"), tmp_path / "b")
    again = shutil.copytree(folder, tmp_path / "copy")
    assert Folder(again, "all").fingerprint == Folder(folder, "all").fingerprint
    metadata = next(folder.rglob("metadata.jsonl"))
    metadata.write_text(metadata.read_text().replace("moves", "goes"))
    with pytest.raises(ValueError, match="fingerprint="):
        encode_source(codec, Folder(folder, "all"), tmp_path / "b")
    clip = next(again.rglob("*.mp4"))
    clip.write_bytes(clip.read_bytes() + b"more")
    assert Folder(again, "all").fingerprint != TokenShards(tmp_path / "b").meta["fingerprint"]


def test_another_rate_needs_another_folder(codec: Codec, tmp_path: Path) -> None:
    encode_source(codec, Few(), tmp_path / "a", 1.0)
    with pytest.raises(ValueError, match="tokens_per_frame=1.0, not 0.5"):
        encode_source(codec, Few(), tmp_path / "a", 0.5)
    with pytest.raises(ValueError, match="tokens_per_frame=99"):
        encode_source(codec, Few(), tmp_path / "b", 99)
