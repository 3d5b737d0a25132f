"""What parsers complain of reaches the user in words, not in types of Python."""

import pytest

from tokenizer.arguments import plain_error

UNION = """Parser key "{}": Does not validate against any of the Union subtypes
Subtypes: [{}, <class 'NoneType'>]
Errors:
  - Expected a <class 'float'>
Given value type: <class 'str'>
Given value: {}"""


@pytest.mark.parametrize(
    ("message", "plain"),
    [
        (UNION.format("rate", "<class 'float'>", "x"), "rate=x: give a finite number"),
        (UNION.format("out", "<class 'pathlib.Path'>", "64"), "out=64: give a path"),
        (UNION.format("rates", "list[float]", "4"), "rates=4: give a list of numbers such as"),
        ("Parser key \"seed\": Expected a <class 'int'>. Got value: 1.5", "seed=1.5: give a whole"),
        (
            "Parser key \"p\": Expected a typing.Literal['auto', 'bf16']. Got value: fp8",
            "p=fp8: give one of auto, bf16",
        ),
        ('Parser key "config": File does not exist: a.yaml', "config: File does not exist: a.yaml"),
        ("unrecognized arguments:\n --x", "unrecognized arguments: --x"),
        (UNION.format("a", "some.Thing", "1"), "a: Does not validate"),
    ],
)
def test_errors_are_worded_for_users(message: str, plain: str) -> None:
    assert plain_error(message).startswith(plain)
