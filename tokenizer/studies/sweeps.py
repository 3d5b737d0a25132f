"""A curve with a `sweep` as many curves: one for each combination of its axes' values.

It works on what a study file says, before that is read: it knows where a setting belongs, not what
it means.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping, Sequence
from itertools import product
from pathlib import PurePath
from typing import Any

_ENDS = ("steps", "minutes")
MOST = 200  # curves of one sweep: more are a slip


def expand(content: Any, place: str, settings: Collection[str]) -> list[Any]:
    """The curves that a curve's `sweep` stands for, in order, the last axis fastest.

    An axis is a setting and its values, as a list or as a mapping from each value's name. A value
    that ends in `.yaml` is a config layered over the training's own, null leaves them as they are.
    Other values go to the curve's own setting of that name (`coding`, `options.preset`), to the
    training's `steps` or `minutes`, or else to its `set`.

    Args:
        content: The curve as YAML has it; one without `sweep` stands for itself.
        place: Where it stands, for errors.
        settings: Names of a curve's own settings.

    Raises:
        ValueError: An axis without values, or of a training where nothing is trained.
    """
    if not isinstance(content, dict) or "sweep" not in content:
        return [content]
    curve = {key: value for key, value in content.items() if key != "sweep"}
    sweep = content["sweep"]
    if not isinstance(sweep, dict) or not sweep:
        raise ValueError(f"{place}: sweep: give axes and their values, as quantizer: [a.yaml]")
    axes = [_named(str(axis), values, place) for axis, values in sweep.items()]
    number = 1
    for axis in axes:
        number *= len(axis)
    if number > MOST:
        raise ValueError(f"{place}: sweep: {number} curves, at most {MOST} at once: give fewer")
    curves = []
    for choice in product(*axes):
        one = copy.deepcopy(curve)
        one["name"] = f"{curve.get('name', '')} {', '.join(name for name, _ in choice)}".strip()
        for axis, (_, value) in zip(sweep, choice, strict=True):
            _put(one, str(axis), value, place, settings)
        curves.append(one)
    return curves


def _named(axis: str, values: Any, place: str) -> list[tuple[str, Any]]:
    """An axis's values, each with the name that curves have from it."""
    if isinstance(values, Mapping) and values:
        return [(str(name), value) for name, value in values.items()]
    if not isinstance(values, Sequence) or isinstance(values, str) or not values:
        raise ValueError(f"{place}: sweep.{axis}: give a list of values, or names and values")
    return [(_told(axis, value), value) for value in values]


def _told(axis: str, value: Any) -> str:
    """What curves are called after: a word speaks for itself, a number wants its setting."""
    if isinstance(value, str):
        return PurePath(value).stem if _is_config(value) else value
    if isinstance(value, list):
        value = "/".join(map(str, value))
    return f"{axis.rpartition('.')[2]} {'as it is' if value is None else value}"


def _is_config(value: Any) -> bool:
    return isinstance(value, str) and value.endswith((".yaml", ".yml"))


def _put(
    curve: dict[str, Any], axis: str, value: Any, place: str, settings: Collection[str]
) -> None:
    """Set one axis of one curve."""
    first, _, rest = axis.partition(".")
    if first in settings:
        if rest:
            curve[first] = {**(curve.get(first) or {}), rest: value}
        else:
            curve[first] = value
        return
    trainings = curve.get("train")
    trainings = trainings if isinstance(trainings, list) else [trainings]
    for training in trainings:
        if not isinstance(training, dict):
            raise ValueError(
                f"{place}: sweep.{axis}: no setting of a curve, and this one trains nothing: "
                f"give one of {', '.join(sorted(settings))}"
            )
        if _is_config(value):
            configs = training.get("config") or []
            configs = configs if isinstance(configs, list) else [configs]
            training["config"] = [*configs, value]
        elif axis in _ENDS:
            training[axis] = value
        elif value is not None:
            training["set"] = {**(training.get("set") or {}), axis: value}
