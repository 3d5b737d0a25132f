"""A study as a file: which clips, which curves, and what is compared with what.

It knows the file's keys and what goes together; nothing is opened, trained or measured here.
Paths are as seen from the folder that the command runs in.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from tokenizer.studies.classical import EncoderName, Pixels
from tokenizer.studies.sweeps import expand

StudyCoding = Literal["static", "adaptive", "model"]


@dataclass(frozen=True)
class ClipsPlan:
    """The clips that every curve is measured on, as `kinolex tokenizer evaluate` takes them."""

    source: str
    name: str = ""  # of a set among several
    split: str = "heldout"
    num_clips: int | None = None
    num_frames: int | None = None
    height: int | None = None  # pixels
    width: int | None = None  # pixels
    fps: float | None = None

    @property
    def file_name(self) -> str:
        return _file_name(self.name)


@dataclass(frozen=True)
class TrainingPlan:
    """A codec to train as `kinolex tokenizer fit` does, on the first set's source by default.

    Trainings end after so many minutes or steps, whichever is given.
    """

    config: list[Path]  # layered in this order
    set: dict[str, Any] = field(default_factory=dict)  # single values over them, by dotted name
    minutes: float | None = None
    steps: int | None = None
    rates: list[float] | None = None  # tokens a frame it is measured at, instead of the curve's


@dataclass(frozen=True)
class CurvePlan:
    """One curve: a classical encoder, codecs (ready or to be trained), or a JSON made before."""

    name: str
    description: str = ""
    encoder: EncoderName | None = None
    crf: list[float] | None = None
    pixels: Pixels | None = None  # yuv420p if left out
    options: dict[str, Any] | None = None
    codec: list[Path] | None = None  # folders; several make one curve, e.g. specialists
    train: list[TrainingPlan] | None = None  # likewise
    rates: list[float] | None = None  # tokens a frame, besides the full rate
    shares: list[float] | None = None  # of the full rate
    # entropy coding; static: measured on training clips, model: the language model in `codec`
    coding: StudyCoding | None = None
    prior: Path | None = None  # the same under one that `kinolex tokenizer prior` wrote
    curve: Path | None = None
    clips: list[str] | None = None  # names of the sets it is shown on; all if left out

    @property
    def file_name(self) -> str:
        return _file_name(self.name)


def _file_name(name: str) -> str:
    return re.sub(r"\W+", "-", name.lower()).strip("-")


@dataclass(frozen=True)
class StudyPlan:
    """A whole study."""

    name: str
    clips: list[ClipsPlan]  # codecs are trained on the first one's source, and measured on all
    curves: list[CurvePlan]
    description: str = ""
    anchor: str | None = None  # name of the curve that others are compared with; else the first
    frechet: bool = False  # measure the Frechet distance of random features, too
    perceptual: Path | None = None  # weights of a perceptual distance that is measured, too

    @property
    def anchor_name(self) -> str:
        return self.anchor or self.curves[0].name


# Which settings say something about which kind of curve.
_KINDS = {
    "encoder": {"crf", "pixels", "options"},
    "codec": {"rates", "shares", "coding", "prior"},
    "train": {"rates", "shares", "coding"},
    "curve": set[str](),
}


def read_plan(path: Path) -> StudyPlan:
    """The study in a YAML file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not a study: a key that is unknown, missing, of the wrong kind or without
            effect, named with its place.
    """
    import yaml

    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such study: give a YAML file, see configs/study")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not YAML ({' '.join(str(error).split())})") from None
    try:
        return _study(content)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _study(content: Any) -> StudyPlan:
    if not isinstance(content, dict):
        raise ValueError("not a study: give the keys name, clips and curves")
    listed = content.get("curves")
    if not isinstance(listed, list) or not listed:
        raise ValueError("curves: give a list of at least one curve")
    own = set(CurvePlan.__dataclass_fields__) - {"name", "description", "train"}
    curves = [
        (curve, f"curves[{number}]")
        for number, item in enumerate(listed)
        for curve in expand(item, f"curves[{number}]", own)
    ]
    plan = _read(
        StudyPlan,
        {
            **content,
            "clips": _clips(content.get("clips")),
            "curves": [_curve(item, place) for item, place in curves],
        },
        "",
    )
    names = [curve.name for curve in plan.curves]
    for curve in plan.curves:
        twins = [other.name for other in plan.curves if other.file_name == curve.file_name]
        if len(twins) > 1:
            raise ValueError(f"curves {twins} would share a file: give each a name of its own")
    sets = [clips.name for clips in plan.clips]
    for curve in plan.curves:
        for name in curve.clips or []:
            if name not in sets:
                raise ValueError(
                    f"curve '{curve.name}': no clips called '{name}', there are {sets}"
                )
    if plan.anchor is not None and plan.anchor not in names:
        raise ValueError(f"anchor: no curve is called '{plan.anchor}', there are {names}")
    return plan


def _clips(content: Any) -> list[ClipsPlan]:
    if not isinstance(content, list):
        return [_read(ClipsPlan, content, "clips")]
    sets = [_read(ClipsPlan, item, f"clips[{number}]") for number, item in enumerate(content)]
    names = [clips.file_name for clips in sets]
    if not sets or (len(sets) > 1 and ("" in names or len(set(names)) < len(names))):
        raise ValueError("clips: of several sets each wants a name of its own")
    for name in {"curves", "runs", "priors"} & set(names):
        raise ValueError(f"clips: a study has a folder {name} already: give the set another name")
    return sets


def _curve(content: Any, place: str) -> CurvePlan:
    if isinstance(content, dict):
        content = {**content, "codec": _listed(content.get("codec"))}
        trainings = _listed(content.get("train"))
        if trainings is not None:
            content["train"] = [
                _training(item, f"{place}.train[{number}]") for number, item in enumerate(trainings)
            ]
    plan = _read(CurvePlan, content, place)
    kinds = [kind for kind in _KINDS if getattr(plan, kind) is not None]
    if len(kinds) != 1:
        given = f"it has {' and '.join(kinds)}" if kinds else "it has none"
        raise ValueError(f"{place}: give one of {', '.join(_KINDS)}: {given}")
    if not plan.file_name:
        raise ValueError(f"{place}: name '{plan.name}' has no letter: give another")
    if plan.clips is not None and not plan.clips:
        raise ValueError(f"{place}: clips: give names of sets, or leave it out for all")
    for key in set[str]().union(*_KINDS.values()) - _KINDS[kinds[0]]:
        if getattr(plan, key) is not None:
            raise ValueError(f"{place}: {key} has no effect on a curve of {kinds[0]}: leave it out")
    if plan.encoder is not None and not plan.crf:
        raise ValueError(f"{place}: an encoder wants crf, a list like [20, 28, 36, 44]")
    if plan.prior is not None and (plan.coding is not None or len(plan.codec or []) > 1):
        raise ValueError(f"{place}: prior is for a curve of one codec without coding")
    if plan.train and plan.coding == "model":
        raise ValueError(f"{place}: coding model is for codecs in folders of language models")
    if plan.train and all(one.rates for one in plan.train) and (plan.rates or plan.shares):
        raise ValueError(
            f"{place}: rates and shares have no effect where all of train have rates of their own"
        )
    return plan


def _training(content: Any, place: str) -> TrainingPlan:
    if isinstance(content, dict):
        content = {**content, "config": _listed(content.get("config"))}
    plan = _read(TrainingPlan, content, place)
    if plan.minutes is None and plan.steps is None:
        raise ValueError(f"{place}: training without an end: give minutes or steps")
    for file in plan.config:
        if not file.is_file():
            raise ValueError(f"{place}: no config {file}: paths start at the current folder")
    return plan


def _listed(value: Any) -> Any:
    return value if value is None or isinstance(value, list) else [value]


_Plan = TypeVar("_Plan", StudyPlan, ClipsPlan, CurvePlan, TrainingPlan)


def _read(kind: type[_Plan], content: Any, place: str) -> _Plan:
    """A plan of `kind` from YAML's values, types checked; errors name the place."""
    from jsonargparse import ArgumentError, ArgumentParser

    from tokenizer.arguments import plain_error

    where = f"{place}: " if place else ""
    known = list(kind.__dataclass_fields__)
    if not isinstance(content, dict):
        raise ValueError(f"{where}give keys and values: {', '.join(known)}")
    for key in content:
        if key not in known:
            raise ValueError(f"{where}unknown key '{key}': there are {', '.join(known)}")
    plain = {key: value for key, value in content.items() if not _is_plan(value)}
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(kind, skip={key for key in content if key not in plain})
    try:
        values = parser.parse_object(plain).as_dict()
    except ArgumentError as error:
        raise ValueError(f"{where}{plain_error(str(error))}") from None
    return kind(**{**values, **{k: v for k, v in content.items() if k not in plain}})


def _is_plan(value: Any) -> bool:
    """Whether a value has been read already."""
    first = value[0] if isinstance(value, list) and value else value
    return isinstance(first, ClipsPlan | CurvePlan | TrainingPlan)
