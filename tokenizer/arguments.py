"""What an argument parser complains of, in one line that a user can act on.

Knows how jsonargparse words its errors, and no command of ours.
"""

from __future__ import annotations

import re

_KINDS = {
    "float": "a finite number",
    "int": "a whole number",
    "bool": "true or false",
    "str": "text",
    "Path": "a path",
    "list[float]": "a list of numbers such as [4, 8]",
    "list[int]": "a list of whole numbers such as [4, 8]",
}
_KEY = re.compile(r'Parser key "(?P<key>[^"]+)": (?P<problem>.*)')
_VALUE = re.compile(r".*(?:Got|Given) value: (?P<value>.*)$")
_UNION = re.compile(r"Subtypes: \[(?P<kinds>.*?)\] Errors:")
_SINGLE = re.compile(r"Expected an? (?P<kinds>.*?)\. Got value:")


def plain_error(message: str) -> str:
    """A parser's error without types of Python: `tokens_per_frame=x: give a finite number`.

    Args:
        message: As jsonargparse words it, of any number of lines. What is worded otherwise only
            becomes one line.
    """
    text = " ".join(message.split())
    key = _KEY.match(text)
    if key is None:
        return text
    problem = key["problem"]
    value, kinds = _VALUE.search(problem), _UNION.search(problem) or _SINGLE.search(problem)
    wanted = _wanted(kinds["kinds"]) if kinds is not None else None
    if value is None or wanted is None:
        return f"{key['key']}: {problem}"
    return f"{key['key']}={value['value']}: give {wanted}"


def _wanted(kinds: str) -> str | None:
    """How the types that an option takes are called; None where one has no name here."""
    names = []
    for kind in re.split(r", (?![^\[]*\])", kinds):
        kind = re.sub(r"<class '(?:[\w.]*\.)?(\w+)'>", r"\1", kind)
        if kind == "NoneType":
            continue
        literal = re.fullmatch(r"(?:typing\.)?Literal\[(.*)\]", kind)
        name = "one of " + literal[1].replace("'", "") if literal else _KINDS.get(kind)
        if name is None:
            return None
        names.append(name)
    return " or ".join(names) or None
