"""Which prior a token file is coded under: by what `encode` was asked, by what a header names.

It knows what there is to choose from, not how any of them foretells; a language model's prior is
opened by a function that is given, for this package knows none.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from tokenizer.codec import Codec
from tokenizer.entropy import Prior
from tokenizer.priors import AdaptivePrior, StaticPrior
from tokenizer.records import Header

Coding = Literal["packed", "static", "adaptive", "model"]
OpenPrior = Callable[[Path], Prior]  # of the language model in a folder


def prior_for(
    codec: Codec, coding: Coding, given: Path | None, model: Path, open_model: OpenPrior | None
) -> Prior | None:
    """The prior for new files; None for packed ones.

    Args:
        codec: Whose codes are to be written.
        coding: How.
        given: File of a static prior, or folder of a language model; warns where it has no effect.
        model: Folder of the language model where none was given.
        open_model: Opens it.

    Raises:
        ValueError, FileNotFoundError: There is none such, or it is of another codec.
    """
    if coding == "static":
        if given is None:
            raise ValueError(
                "coding static needs a prior: give --prior F, which `kinolex tokenizer prior` wrote"
            )
        return StaticPrior.load(given)
    if coding == "model":
        return language_prior(codec, given, model, open_model)
    if given is not None:
        warnings.warn(f"--prior {given} has no effect: coding is {coding}", stacklevel=3)
    return AdaptivePrior(codec.codebook_size, codec.layout) if coding == "adaptive" else None


def language_prior(
    codec: Codec, given: Path | None, model: Path, open_model: OpenPrior | None
) -> Prior:
    """The prior of a language model; arguments and errors are those of `prior_for`."""
    found = _of_model(given, model, open_model, "coding model needs a language model")
    if found.codec_id != codec.tokens_id:
        raise ValueError(
            f"the language model in {given or model} reads tokens of codec {found.codec_id}, not "
            f"of {codec.tokens_id}: give one that was trained on this codec with --prior"
        )
    return found


def prior_named(
    header: Header, given: Path | None, model: Path, open_model: OpenPrior | None, file: Path
) -> Prior | None:
    """The prior that a file was coded under, as far as it comes from elsewhere.

    Arguments and errors are those of `prior_for`; whether it is the one that the header names
    is for its reader to compare.
    """
    if header.coding == "model":
        return _of_model(given, model, open_model, f"{file}: coded under the prior {header.prior}")
    if given is None:
        return None
    if header.coding == "static":
        return StaticPrior.load(given)
    warnings.warn(f"--prior {given} has no effect: {file} is {header.coding}", stacklevel=3)
    return None


def _of_model(given: Path | None, model: Path, open_model: OpenPrior | None, why: str) -> Prior:
    if open_model is None:
        raise ValueError(f"{why}: use the kinolex command, which can open one")
    if given is not None:
        return open_model(given)
    try:
        return open_model(model)
    except (ValueError, FileNotFoundError) as error:
        raise ValueError(
            f"{why}: give the folder of a language model with --prior ({error})"
        ) from None
