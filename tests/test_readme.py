"""README and configs are promises: every command parses, and the whole tour runs (slow)."""

import ast
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import kinolex
from kinolex import COMMANDS
from tokenizer.command_line import build_parser

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
LINES = [line for block in BLOCKS for line in block.splitlines() if line.startswith("kinolex ")]
SNIPPETS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
CONFIGS = sorted(
    f for kind in ("tokenizer", "lm") for f in (ROOT / "configs" / kind).rglob("*.yaml")
)
STUDIES = sorted((ROOT / "configs" / "study").rglob("*.yaml"))


def split_command(line: str) -> tuple[str, list[str]]:
    words = shlex.split(line, comments=True)[1:]
    name, rest = kinolex._split([kinolex._underscored(word) for word in words])
    assert name is not None, line
    return name, rest


@pytest.mark.parametrize("line", LINES)
def test_every_readme_command_parses(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    name, rest = split_command(line)
    command = COMMANDS[name]
    if command.takes_argv:
        for word in rest:
            if word.startswith("configs/"):
                assert (ROOT / word).is_file()
        return  # parsed for real by test_every_config_parses and the tour
    import importlib

    module, _, function = command.target.partition(":")
    parser = build_parser(name, command, getattr(importlib.import_module(module), function))
    parser.parse_args(rest)


def test_readme_has_commands_and_python() -> None:
    assert len(LINES) >= 10
    for snippet in SNIPPETS:
        ast.parse(snippet)


def test_every_file_the_readme_names_exists() -> None:
    for target in re.findall(r"\]\(((?:docs|models|configs)/[^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_every_make_target_the_readme_names_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"`?make ([a-z-]+)", README):
        if target in ("help", "demo", "test", "install"):
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


@pytest.mark.slow
def test_the_tour(tmp_path: Path) -> None:
    """The demo in a few seconds' budget, then every README command that uses its model."""

    def run(*words: str) -> str:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [sys.executable, "-m", "kinolex", *words],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"{words}: {done.stderr[-2000:]}"
        return done.stdout

    run("demo", "--minutes", "0.2", "--out", "runs/demo")
    results = json.loads((tmp_path / "runs/demo/results.json").read_text())
    assert results["protocol"]["command"]
    for name in ("codec/ssim", "unseen/caption_exact", "unseen/answer_all"):
        assert {"value", "chance", "ceiling", "n"} <= set(results[name])
    page = (tmp_path / "runs/demo/report.html").read_text()
    assert "data:image/gif;base64" in page and "://" not in page  # ':' is not in base64
    before = (tmp_path / "runs/demo/results.json").stat().st_mtime_ns
    again = run("demo", "--minutes", "0.2", "--out", "runs/demo")  # nothing left to do
    assert "holds a finished demo" in again and "--restart true" in again
    assert (tmp_path / "runs/demo/results.json").stat().st_mtime_ns == before
    for line in LINES:
        if "runs/demo/model" in line:
            name, rest = split_command(line)
            run(*name.split(), *rest)
    assert (tmp_path / "again.mp4").stat().st_size > 0
    said = json.loads(run("caption", "clip.mp4", "--model", "runs/demo/model", "--json"))
    assert isinstance(said[0]["caption"], str)
    for snippet in SNIPPETS:
        subprocess.run(
            [sys.executable, "-c", snippet],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            check=True,
        )


@pytest.mark.filterwarnings("ignore")  # libraries' deprecations inside LightningCLI
@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_config_parses(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kind = config.relative_to(ROOT / "configs").parts[0]
    base = ROOT / "configs" / kind / "base.yaml"
    layers = [f"--config={base}"] if config != base else []
    needed = {"tokenizer": "--data.source=scenes:easy", "lm": "--data.shards=runs/tokens"}[kind]
    with pytest.raises(SystemExit) as stop:
        kinolex.main([kind, "fit", *layers, f"--config={config}", needed, "--print_config"])
    assert stop.value.code == 0
    assert "recipe" in capsys.readouterr().out


@pytest.mark.parametrize("study", STUDIES, ids=lambda path: path.name)
def test_every_study_parses(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tokenizer.studies.plan import read_plan

    monkeypatch.chdir(ROOT)  # where its paths start
    assert read_plan(study).name == study.stem


def test_every_delta_states_only_differences() -> None:
    for config in CONFIGS:
        if config.name != "base.yaml":
            lines = [line for line in config.read_text().splitlines() if line.strip()]
            assert 1 <= len(lines) <= 10, config
