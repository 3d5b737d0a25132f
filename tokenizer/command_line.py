"""A function as a command: a parser made of its signature and docstring, its result printed.

It knows how functions, docstrings and results are laid out, and none of ours by name.
"""

from __future__ import annotations

import dataclasses
import inspect
import itertools
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from tokenizer.arguments import plain_error


@dataclasses.dataclass(frozen=True)
class Command:
    """A command: where its function is, and which of its parameters stand without `--name`."""

    target: str  # "module:function"
    summary: str
    positional: tuple[
        str, ...
    ] = ()  # a list among them takes one value or more, if it has a default any number
    several: tuple[str, ...] = ()  # list or sequence parameters given as `--name A B C`
    takes_argv: bool = False  # LightningCLI commands parse their own arguments
    opens_models: bool = False  # wants `open_model_prior`, which imports from above its package
    takes_requests: bool = False  # `--jsonl` gives many requests in a file, see lm.requests


def build_parser(name: str, command: Command, function: Any) -> Any:
    """The argument parser of one command, made from its function's signature and docstring."""
    from jsonargparse import ArgumentParser

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
    documented = documented_in(about)
    for parameter_name in command.positional:
        parameter = signature.parameters[parameter_name]
        annotation, needed = parameter.annotation, parameter.default is parameter.empty
        is_list = getattr(annotation, "__origin__", None) in (list, Sequence)
        kind = annotation.__args__[0] if is_list else annotation
        about_it = documented.get(parameter_name)
        if is_list and not needed:
            parser.add_argument(parameter_name, type=kind, nargs="*", default=[], help=about_it)
            continue
        how_many = "+" if is_list else None if needed else "?"
        parser.add_argument(parameter_name, type=kind, nargs=how_many, help=about_it)
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
    if command.takes_requests:
        about_jsonl = (
            "with --out and --model alone: a file of requests, a JSON object of these settings in "
            "each line; --out gets a line of JSON for each, and a stopped run goes on"
        )
        parser.add_argument("--jsonl", help=about_jsonl)
    for group in parser._action_groups:  # jsonargparse titles one with the docstring once more
        if group.title not in ("positional arguments", "options"):
            group.title = "settings (dashes work as well as underscores)"
    return parser


def with_values(argv: list[str], function: Any) -> list[str]:
    """`--strict` alone as `--strict=true`: a switch may stand without a value.

    Raises:
        ValueError: a path that is empty, as of a variable that is not set: it is no folder to fill.
    """
    parameters = inspect.signature(function, eval_str=True).parameters.values()
    switches = {f"--{p.name}" for p in parameters if p.annotation is bool}
    paths = {f"--{p.name}" for p in parameters if p.annotation in (Path, Path | None)}
    for word, after in itertools.pairwise([*argv, "--"]):
        name, equals, value = word.partition("=")
        if name in paths and not (value if equals else after):
            raise ValueError(f"{name} is empty: give a path, or . for the folder you are in")
    return [
        f"{word}=true" if word in switches and after not in ("true", "false") else word
        for word, after in itertools.pairwise([*argv, "--"])
    ]


def documented_in(docstring: str) -> dict[str, str]:
    """What the `Args:` part of a Google-style docstring says of each parameter."""
    from docstring_parser import parse

    return {p.arg_name: p.description or "" for p in parse(docstring).params}


def print_result(result: Any) -> None:
    """A result for people: its own `__rich__` or `__str__`, else a line per field that says a
    thing."""
    from rich.console import Console

    console = Console(soft_wrap=True)
    for item in result if isinstance(result, list) else [result]:
        own_text = type(item).__str__ is not object.__str__ and not dataclasses.is_dataclass(item)
        if hasattr(item, "__rich__") or own_text or "__str__" in vars(type(item)):
            console.print(item if hasattr(item, "__rich__") else visible(str(item)), markup=False)
            continue
        for key, value in _plain(item).items():
            if value is None or value == "":
                continue
            console.print(visible(f"{key}: {value}"), markup=False, highlight=False)


def print_json(result: Any) -> None:
    print(json.dumps(_plain(result), indent=2, ensure_ascii=False))


def print_line(result: Any, as_json: bool) -> None:
    """One of several results as soon as it is there, JSON in a line of its own."""
    text = json.dumps(_plain(result), ensure_ascii=False) if as_json else visible(str(result))
    print(text, flush=True)


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


def has_failed(result: Any) -> bool:
    """Whether some of what was asked could not be done, though the rest was."""
    items = result if isinstance(result, list) else [result]
    return any(getattr(item, "error", None) or getattr(item, "failed", 0) for item in items)


def one_line_warning(message: Any, category: Any, *_: Any, **__: Any) -> None:
    """What `warnings.showwarning` may be, for people."""
    if issubclass(category, UserWarning):  # ours; libraries' deprecations are no user's business
        print(f"kinolex: warning: {' '.join(str(message).split())}", file=sys.stderr)


def visible(text: str) -> str:
    """Text without what a terminal would obey: an untrained model may write any byte."""
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", "\ufffd", text)
