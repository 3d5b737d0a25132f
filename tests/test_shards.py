"""Shards: what is written is read, and no damage or kill goes unnoticed."""

import json
import pickle

import numpy as np
import pytest

from data.shards import ShardWriter, TokenShards

META = {"codec_id": "c0", "codebook_size": 70000}


def records(n, seed=0, top=70000):
    draw = np.random.default_rng(seed)
    for i in range(n):
        yield draw.integers(0, top, draw.integers(0, 9)), {"i": i, "text": f"clip {i} é"}


def fill(path, n, per=4, **kwargs):
    with ShardWriter(path, META, per) as writer:
        for codes, info in list(records(n, **kwargs))[writer.num_records :]:
            writer.write(codes, info)


@pytest.mark.parametrize("top, dtype", [(65536, np.uint16), (70000, np.uint32)])
def test_round_trip(tmp_path, top, dtype):
    fill(tmp_path / "s", 11, top=top)
    shards = TokenShards(tmp_path / "s")
    assert len(shards) == 11 and shards.meta == META
    for (codes, info), (want, want_info) in zip(shards, records(11, top=top), strict=True):
        assert (codes == want).all() and info == want_info
    assert {str(codes.dtype) for codes, _ in shards} >= {np.dtype(dtype).name}
    assert shards.num_codes == sum(shards.num_codes_of(i) for i in range(11))
    assert shards[-1][1]["i"] == 10
    shards.verify()
    again = pickle.loads(pickle.dumps(shards))
    assert again[5][1] == shards.info(5)
    with pytest.raises(IndexError, match="record 11 of 11"):
        shards[11]


def test_empty(tmp_path):
    fill(tmp_path / "s", 0)
    assert len(TokenShards(tmp_path / "s")) == 0
    with ShardWriter(tmp_path / "z", META) as writer:
        writer.write(np.zeros(0, dtype=np.int64), {})
    assert TokenShards(tmp_path / "z")[0][0].shape == (0,)


def test_killed_run_resumes_to_the_same_bytes(tmp_path):
    fill(tmp_path / "whole", 10)
    writer = ShardWriter(tmp_path / "killed", META, 4)
    for codes, info in list(records(10))[:7]:
        writer.write(codes, info)
    del writer  # a kill: three records were pending, nothing was closed
    with pytest.raises(ValueError, match="unfinished at 4 records"):
        TokenShards(tmp_path / "killed")
    assert len(TokenShards(tmp_path / "killed", allow_unfinished=True)) == 4
    assert ShardWriter(tmp_path / "killed", META, 4).num_records == 4
    fill(tmp_path / "killed", 10)
    for file in sorted((tmp_path / "whole").iterdir()):
        assert (tmp_path / "killed" / file.name).read_bytes() == file.read_bytes()


def test_exception_keeps_what_was_written(tmp_path):
    with pytest.raises(KeyboardInterrupt), ShardWriter(tmp_path / "s", META) as writer:
        writer.write(np.arange(3), {})
        raise KeyboardInterrupt
    writer = ShardWriter(tmp_path / "s", META)
    assert writer.num_records == 1 and not writer.finished
    writer.close()
    assert ShardWriter(tmp_path / "s", META).finished
    fill(tmp_path / "s", 3)  # a finished folder can grow
    assert len(TokenShards(tmp_path / "s")) == 3


def test_damage_is_named(tmp_path):
    fill(tmp_path / "s", 9)
    file = tmp_path / "s" / "shard-00001.npy"
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ValueError, match="shard-00001.npy does not match its checksum"):
        TokenShards(tmp_path / "s").verify()
    file.write_bytes(content[:-3])
    for damaged in (lambda: TokenShards(tmp_path / "s"), lambda: ShardWriter(tmp_path / "s", META)):
        with pytest.raises(ValueError, match="shard-00001.npy has .* damaged"):
            damaged()
    file.unlink()
    with pytest.raises(ValueError, match="has 0 bytes"):
        TokenShards(tmp_path / "s")


def test_a_job_that_failed_before_its_first_shard_does_not_bind_the_next(tmp_path):
    with pytest.raises(KeyboardInterrupt), ShardWriter(tmp_path / "s", META):
        raise KeyboardInterrupt
    other = {**META, "codec_id": "c1"}
    with ShardWriter(tmp_path / "s", other) as writer:
        writer.write(np.arange(2), {})
    assert TokenShards(tmp_path / "s").meta == other


def test_wrong_use_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="manifest.json"):
        TokenShards(tmp_path)
    fill(tmp_path / "s", 2)
    with pytest.raises(ValueError, match="codec_id='c0', not 'c1'"):
        ShardWriter(tmp_path / "s", {**META, "codec_id": "c1"})
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a.mp4").write_bytes(b"")
    with pytest.raises(ValueError, match="holds other files"):
        ShardWriter(tmp_path / "other", META)
    writer = ShardWriter(tmp_path / "t", META)
    for codes in (np.zeros((2, 2), dtype=int), np.zeros(2), np.array([-1]), np.array([2**32])):
        with pytest.raises(ValueError, match="codes"):
            writer.write(codes, {})
    with pytest.raises(ValueError, match="JSON"):
        writer.write(np.arange(2), {"x": float("nan")})
    manifest = tmp_path / "s" / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "version": 9}))
    with pytest.raises(ValueError, match="version 9"):
        TokenShards(tmp_path / "s")
    manifest.write_text("{")
    with pytest.raises(ValueError, match="not a manifest"):
        TokenShards(tmp_path / "s")
