"""What measures each curve of a study: codecs, opened or trained first, priors, encoders.

Codecs are trained, and static priors counted, on the first clip set's training clips; nothing here
looks at clips that curves are measured on.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path

from data.source import open_source
from tokenizer.codec import Codec
from tokenizer.commands import open_codec
from tokenizer.entropy import Prior
from tokenizer.prior_choice import OpenPrior, language_prior
from tokenizer.priors import AdaptivePrior, StaticPrior
from tokenizer.progress import progress_bar
from tokenizer.studies.classical import ClassicalCoder, MissingEncoder
from tokenizer.studies.curve import Curve, load_curve
from tokenizer.studies.learned import CodecCoder, prior_of_source
from tokenizer.studies.measuring import Coder
from tokenizer.studies.plan import CurvePlan, StudyPlan, TrainingPlan
from tokenizer.studies.trainings import train

Tell = Callable[[str], None]
Made = Coder | Curve  # what measures a curve, or the curve itself
PRIOR_CLIPS = 512  # of the train split, whose codes a static prior counts


class CoderMaker:
    """Makes the coders of one study; trainings that several curves ask for are done once.

    Args:
        plan: The study.
        out: Its folder; trainings go to `runs`, priors to `priors`.
        tell: Told what is left out or trained again.
        open_model: Opens the prior of a language model.
    """

    def __init__(
        self, plan: StudyPlan, out: Path, tell: Tell, open_model: OpenPrior | None = None
    ) -> None:
        self._plan, self._out, self._tell = plan, out, tell
        self._open_model = open_model
        self._trained: list[tuple[TrainingPlan, Path]] = []

    def all(self) -> tuple[list[tuple[CurvePlan, Made]], list[str]]:
        """The coder of each curve, in order, and the curves that cannot be had, with reasons.

        Nothing is trained before all that is ready has been opened.
        """
        made: dict[str, Made] = {}
        missing = []
        for wanted in sorted(self._plan.curves, key=lambda curve: curve.train is not None):
            try:
                made[wanted.name] = self._coder(wanted)
            except MissingEncoder as error:
                missing.append(f"{wanted.name}: {error}")
                self._tell(f"left out {missing[-1]}")
        if not made:
            raise ValueError(f"no curve of '{self._plan.name}' can be made: {'; '.join(missing)}")
        kept = [(curve, made[curve.name]) for curve in self._plan.curves if curve.name in made]
        return kept, missing

    def _coder(self, wanted: CurvePlan) -> Made:
        if wanted.curve is not None:
            return load_curve(wanted.curve)
        if wanted.encoder is not None:
            pixels, options = wanted.pixels or "yuv420p", wanted.options
            return ClassicalCoder(wanted.encoder, wanted.crf or [], pixels, options)
        codecs = [open_codec(folder) for folder in wanted.codec or []]
        sources: list[str] = [self._plan.clips[0].source] * len(codecs)
        own: list[list[float] | None] = [None] * len(codecs)
        for number, training in enumerate(wanted.train or [], 1):
            run = self._out / "runs" / f"{wanted.file_name}-{number}"
            codecs.append(open_codec(self._folder(training, run)))
            sources.append(str(training.set.get("data.source", self._plan.clips[0].source)))
            own.append(training.rates)
        priors: list[Prior] | None = None
        if wanted.prior is not None:
            priors = [StaticPrior.load(wanted.prior)]
        elif wanted.coding == "adaptive":
            priors = [AdaptivePrior(codec.codebook_size, codec.layout) for codec in codecs]
        elif wanted.coding == "model":
            pairs = zip(codecs, wanted.codec or [], strict=True)
            priors = [
                language_prior(codec, None, folder, self._open_model) for codec, folder in pairs
            ]
        elif wanted.coding == "static":
            pairs = zip(codecs, sources, strict=True)
            priors = [self._counted(codec, source, wanted.name) for codec, source in pairs]
        return CodecCoder(codecs, wanted.rates or [], wanted.shares or [], priors, own)

    def _folder(self, training: TrainingPlan, run: Path) -> Path:
        """The codec of a training, from an earlier curve's that was the same but for rates."""
        asked = dataclasses.replace(training, rates=None)
        for other, folder in self._trained:
            if other == asked:
                return folder
        folder = train(training, self._plan.clips[0], run, self._tell)
        self._trained.append((asked, folder))
        return folder

    def _counted(self, codec: Codec, spec: str, name: str) -> Prior:
        """The static prior of training clips of a source; it is kept beside the curves."""
        clips = self._plan.clips[0]
        settings = (spec, clips.num_frames, clips.height, clips.width, clips.fps)
        digest = hashlib.sha256(repr(settings).encode()).hexdigest()[:8]
        file = self._out / "priors" / f"{codec.codec_id}-{digest}.prior"
        if not file.is_file():
            source = open_source(
                spec,
                split="train",
                num_frames=clips.num_frames,
                height=clips.height,
                width=clips.width,
                fps=clips.fps,
                num_clips=PRIOR_CLIPS,
            )
            with progress_bar(f"{name}: counting codes of training clips") as progress:
                prior_of_source(codec, source, progress).save(file)
        return StaticPrior.load(file)
