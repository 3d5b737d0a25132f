"""The command table: every command is real, teaches by --help and fails in one line."""

import ast
import importlib
import inspect
import json
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import pytest

import kinolex
from kinolex import COMMANDS, main
from tokenizer.command_line import Command, build_parser, documented_in

ROOT = Path(__file__).parent.parent
PLAIN = [name for name, command in COMMANDS.items() if not command.takes_argv]


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_names_a_function_that_exists(name: str) -> None:
    module, _, function = COMMANDS[name].target.partition(":")
    tree = ast.parse((ROOT / (module.replace(".", "/") + ".py")).read_text())
    names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert function in names


@pytest.mark.parametrize("name", PLAIN)
def test_help_says_what_every_option_means(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([*name.split(), "--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    command = COMMANDS[name]
    module, _, function_name = command.target.partition(":")
    function = getattr(importlib.import_module(module), function_name)
    documented = documented_in(function.__doc__)
    for option in function.__annotations__:
        if option != "return":
            assert (option in text) != (option == "open_model_prior")  # that is not the user's
            assert documented.get(option), f"{name}: {option} is not documented"


@pytest.mark.parametrize("name", PLAIN)
def test_the_example_in_the_help_can_be_typed(name: str) -> None:
    module, _, function_name = COMMANDS[name].target.partition(":")
    function = getattr(importlib.import_module(module), function_name)
    typed = re.findall(r"^Example: kinolex (.*)$", inspect.cleandoc(function.__doc__), re.MULTILINE)
    for example in typed:
        assert example.startswith(f"{name} ")
        words = shlex.split(example.removeprefix(name))
        build_parser(name, COMMANDS[name], function).parse_args(words)
    assert typed or name in {"demo", "data make doom", "data make babyai", "data fetch"}


def test_overview_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in COMMANDS)


def test_a_group_lists_its_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data"]) == 0
    text = capsys.readouterr().out
    assert "data make doom" in text and "generate" not in text


@pytest.mark.parametrize("words", [["nonsense"], ["data", "nonsense"]])
def test_an_unknown_command_is_one_line(words, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    error = capsys.readouterr().err
    assert "nonsense" in error and error.count("\n") == 1


def test_a_missing_file_is_one_line_and_no_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = tmp_path / "none.kvt"
    assert main(["decode", str(missing), "--model", "m", "--out", str(tmp_path / "v.mp4")]) == 2
    error = capsys.readouterr().err
    assert str(missing) in error and error.count("\n") == 1
    with pytest.raises((ValueError, OSError)):
        main(["decode", str(missing), "--model", "m", "--out", str(tmp_path / "v.mp4"), "--debug"])


def test_an_unknown_option_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["generate", "a red circle", "--guidence", "2"])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert "guidence" in error and error.count("\n") == 1


@dataclass
class Answer:
    words: list[str]
    times: int


def repeat(words: list[str], times: int = 2) -> Answer:
    """Repeat words.

    Args:
        words: What to repeat.
        times: How often.
    """
    return Answer(words * times, times)


def test_lists_and_json(monkeypatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(COMMANDS, "repeat", Command(f"{__name__}:repeat", "", ("words",)))

    assert main(["repeat", "a", "b", "--times=1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"words": ["a", "b"], "times": 1}
    assert main(["repeat", "a"]) == 0
    assert "words: ['a', 'a']" in capsys.readouterr().out


def fail(word: str, strict: bool = False) -> Answer:
    """Fail.

    Args:
        word: How.
        strict: A switch.
    """
    if word == "memory":
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9")
    if word == "disk":
        raise OSError(28, "No space left on device", "a.mp4")
    if word == "output":
        raise OSError(28, "No space left on device")  # as a full standard output says it
    if word == "ours":
        raise RuntimeError("ours")
    return Answer([word + "\x1b[2J"], 2 if strict else 1)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("memory", "not enough memory: give fewer or smaller clips"),
        ("disk", "a.mp4: no space left on device; make room"),
        ("output", "error: no space left on device; make room"),
    ],
)
def test_what_the_machine_lacks_is_one_line(
    word: str, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(COMMANDS, "fail", Command(f"{__name__}:fail", "", ("word",)))
    assert main(["fail", word]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    with pytest.raises((RuntimeError, OSError)):
        main(["fail", word, "--debug"])
    with pytest.raises(RuntimeError, match="ours"):  # a fault of the program keeps its traceback
        main(["fail", "ours"])


def test_switches_stand_alone_and_no_byte_reaches_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(COMMANDS, "fail", Command(f"{__name__}:fail", "", ("word",)))
    for words, times in (["--strict", "a"], 2), (["a", "--strict"], 2), (["a"], 1):
        assert main(["fail", *words]) == 0
        out = capsys.readouterr().out
        assert f"times: {times}" in out and "\x1b" not in out
    assert main(["fail", "a", "--strict=false", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["times"] == 1


def fit(argv: list[str]) -> Answer:
    return Answer(list(argv), 0)


def test_training_says_what_it_left(monkeypatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(COMMANDS, "fit", Command(f"{__name__}:fit", "", takes_argv=True))
    assert main(["fit", "--a=1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"words": ["--a=1"], "times": 0}
    assert main(["fit", "--a=1"]) == 0
    assert "words: ['--a=1']" in capsys.readouterr().out


@dataclass
class Left:
    finished: bool


def test_a_training_that_was_ended_stops_the_commands_after_it(monkeypatch) -> None:
    for finished, code in ((True, 0), (False, 130)):
        monkeypatch.setattr(f"{__name__}.fit", lambda argv, finished=finished: Left(finished))
        monkeypatch.setitem(COMMANDS, "fit", Command(f"{__name__}:fit", "", takes_argv=True))
        assert main(["fit"]) == code


@pytest.mark.parametrize("words", [["--video", ""], ["--video="], ["--model", ""]])
def test_a_path_that_is_empty_is_no_folder(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", "--duration", "1", *words]) == 2
    name = words[0].rstrip("=")
    assert f"{name} is empty: give a path, or . for the folder" in capsys.readouterr().err


def test_load_names_what_it_did_not_find(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no-such-model"):
        kinolex.load(tmp_path / "no-such-model")
