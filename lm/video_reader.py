"""`VideoReader`: a codec and a decoder with their vocabulary, and what they tell of a video.

Caption, answer, recognise, find in time: thin methods over the modules that know how.
Knows nothing of making video (`lm.tasks` adds that), of training, commands or pages.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Self, overload

from data.clip import Event
from lm.beams import LENGTH_POWER, Beam, check_beams
from lm.completing import GREEDY, Progress, complete, search
from lm.document import Text, Time
from lm.drawing import Draw
from lm.engine import open_engine
from lm.framing import Framing
from lm.grammar import Grammar
from lm.locating import describe, list_events, locate
from lm.long.answer import LongAnswer
from lm.long.asking import ask_long, caption_long
from lm.long.happening import events_long, locate_long
from lm.model import Decoder
from lm.positions import place_tokens
from lm.prompting import about_video
from lm.ranking import LabelScore, rank
from lm.saving import load_parts, save_parts
from lm.vocabulary import Vocabulary
from lm.watching import Seen, read_videos
from tokenizer.codec import Codec
from tokenizer.tokens import VideoTokens

BEAMS = 4  # of captions where nothing else is said


class VideoReader:
    """A language model over text and video, with the codec whose tokens it speaks.

    Clips of another size, frame rate or length than the model was trained on are brought to its
    format with a warning. Wherever a video is wanted, a `Clip`, `VideoTokens` of this model's
    codec, or the path of a file or folder of frames will do.

    taught: what it learned that not every model does, see `Mixture.taught`.
    """

    def __init__(
        self,
        decoder: Decoder,
        vocabulary: Vocabulary,
        codec: Codec,
        taught: Collection[str] = (),
    ) -> None:
        if codec.tokens_id != vocabulary.codec_id:
            raise ValueError(
                f"codec {codec.codec_id} with a language model trained on tokens of "
                f"{vocabulary.codec_id}: load the codec it was trained with"
            )
        self.decoder = decoder.eval()
        place_tokens(decoder, vocabulary)
        self.vocabulary = vocabulary
        self.codec = codec.eval()
        self.grammar = Grammar(vocabulary)
        self.framing = Framing.of(vocabulary.presets)
        self.taught = frozenset(taught)

    @classmethod
    def load(cls, path: str | Path, engine: str = "torch") -> Self:
        """Read a model directory.

        Args:
            path: The directory.
            engine: What computes when texts and films are written, see `lm.engine.open_engine`.

        Raises:
            FileNotFoundError: there is no such directory.
            ValueError: it is of another kind, or damaged, or the engine cannot run it.
        """
        model = cls(*load_parts(Path(path)))
        model.decoder.engine = open_engine(engine, model.decoder, model.vocabulary)
        return model

    def save(self, path: str | Path) -> None:
        """Write a model directory: model.json, model.safetensors, vocabulary and codec."""
        save_parts(Path(path), self.decoder, self.vocabulary, self.codec, self.taught)

    # Reading video

    def encode(self, video: Seen, tokens_per_frame: float | None = None) -> VideoTokens:
        """A video as the tokens this model reads.

        Args:
            video: What to read.
            tokens_per_frame: At most so many; None: the rate the model was trained at.
        """
        return self.encode_batch([video], tokens_per_frame)[0]

    def encode_batch(
        self, videos: Sequence[Seen], tokens_per_frame: float | None = None
    ) -> list[VideoTokens]:
        """`encode` of many, those of one shape together."""
        return read_videos(self.codec, self.framing, videos, tokens_per_frame)

    # Video to text

    @overload
    def caption(self, video: Seen, long: None = None, beams: int | None = None) -> str: ...
    @overload
    def caption(self, video: Seen, long: str) -> LongAnswer: ...
    def caption(
        self, video: Seen, long: str | None = None, beams: int | None = None
    ) -> str | LongAnswer:
        """What happens in a video.

        Args:
            video: What to caption.
            long: Part by part, in likeliest words, see `lm.long.asking`.
            beams: As `caption_batch`.
        """
        if long is not None:
            if beams is not None:
                raise ValueError(f"beams={beams} with long={long}: leave one of them out")
            return caption_long(self, video, long)
        return self.caption_batch([video], beams=beams)[0]

    def captions(
        self,
        video: Seen,
        n: int,
        *,
        temperature: float = 0.8,
        seed: int = 0,
        top_k: int = 0,
        top_p: float = 1.0,
    ) -> list[str]:
        """`n` captions of one video, drawn independently.

        Args:
            video: What to caption.
            n: How many.
            temperature: How varied they are; 0: the likeliest word at each step.
            seed: Of the first; the others count on from it.
            top_k: Likeliest pieces to draw from; 0: all.
            top_p: Probability mass of the likeliest pieces to draw from; 1: all.
        """
        if n < 1:
            raise ValueError(f"n={n}: give 1 caption or more")
        draw = Draw(temperature, top_k, top_p)
        draw.warn_of_idle()
        return self._say(self._caption_prompts([video]) * n, draw, seed, None)

    def best_captions(
        self, video: Seen, beams: int = BEAMS, length_power: float = LENGTH_POWER
    ) -> list[Beam]:
        """The likeliest captions of a video, the best first, see `lm.beams.beam_texts`."""
        return search(self, self._caption_prompts([video]), beams, length_power)[0]

    def caption_batch(
        self,
        videos: Sequence[Seen],
        *,
        beams: int | None = None,
        progress: Progress | None = None,
    ) -> list[str]:
        """The likeliest caption of each video, as far as it is looked for.

        Args:
            videos: What to caption.
            beams: Captions kept side by side while it is looked for, in torch (lm/beams.py); 1
                takes the likeliest word at each step, in the engine there is. None: `BEAMS`, or 1
                with an engine.
            progress: Called with the number of videos done, chunk by chunk.
        """
        prompts = self._caption_prompts(videos)
        if beams is None:
            beams = BEAMS if self.decoder.engine is None else 1
        if beams == 1:
            return self._say(prompts, GREEDY, 0, progress)
        return [found[0].text.strip() for found in search(self, prompts, beams, progress=progress)]

    def _caption_prompts(self, videos: Sequence[Seen]) -> list[list[int]]:
        tokens = self.encode_batch(videos)
        return [about_video(self.vocabulary, video, "caption") for video in tokens]

    @overload
    def ask(
        self,
        video: Seen,
        question: str,
        choices: Sequence[str] = (),
        long: None = None,
        beams: int = 1,
    ) -> str: ...
    @overload
    def ask(
        self, video: Seen, question: str, choices: Sequence[str] = (), *, long: str
    ) -> LongAnswer: ...
    def ask(
        self,
        video: Seen,
        question: str,
        choices: Sequence[str] = (),
        long: str | None = None,
        beams: int = 1,
    ) -> str | LongAnswer:
        """The answer to a question about a video; the likeliest of `choices` if given.

        Args:
            video: What is asked about.
            question: What to ask.
            choices: Possible answers; none: the model's own words.
            long: How to read a video of any length, such as "chunks", see `lm.long.asking`; the
                answer then says what it took, and where in the video it was found.
            beams: As `ask_batch`.

        Raises:
            ValueError: an empty question, or beams with choices, long or an engine.
        """
        check_beams(beams, choices=bool(choices), long=long)
        if long is not None:
            return ask_long(self, video, question, choices, long)
        if choices:
            return self.choose(video, question, choices)[0].label
        return self.ask_batch([video], [question], beams=beams)[0]

    def ask_batch(
        self,
        videos: Sequence[Seen],
        questions: Sequence[str],
        *,
        beams: int = 1,
        progress: Progress | None = None,
    ) -> list[str]:
        """An answer to each question about the video at the same place.

        Args:
            videos: What is asked about.
            questions: What to ask, one of each video.
            beams: Answers kept side by side while the likeliest one for its length is looked for,
                in torch (lm/beams.py); 1 takes the likeliest word at each step.
            progress: Called with the number of questions done, chunk by chunk.

        Raises:
            ValueError: an empty question, or more than one beam with an engine.
        """
        check_beams(beams, engine=self.decoder.engine is not None)
        prompts = [
            about_video(self.vocabulary, tokens, "answer", question)
            for tokens, question in zip(self.encode_batch(videos), questions, strict=True)
        ]
        if beams == 1:
            return self._say(prompts, GREEDY, 0, progress)
        return [found[0].text.strip() for found in search(self, prompts, beams, progress=progress)]

    def choose(
        self, video: Seen, question: str, choices: Sequence[str], *, normalise: bool = False
    ) -> list[LabelScore]:
        """Choices ranked as answers to a question by their likelihood; see `recognize`."""
        prompt = about_video(self.vocabulary, self.encode(video), "answer", question)
        return rank(self, [prompt], choices, normalise)[0]

    def recognize(
        self, video: Seen, labels: Sequence[str], *, normalise: bool = False
    ) -> list[LabelScore]:
        """Labels ranked by how likely each is to be the video's action.

        Args:
            video: What to recognise.
            labels: What it might show.
            normalise: Compare mean likelihoods a token, so that long labels do not lose.
        """
        return self.recognize_batch([video], labels, normalise=normalise)[0]

    def recognize_batch(
        self,
        videos: Sequence[Seen],
        labels: Sequence[str],
        *,
        normalise: bool = False,
        progress: Progress | None = None,
    ) -> list[list[LabelScore]]:
        """`recognize` of many videos with the same labels."""
        tokens = self.encode_batch(videos)
        prompts = [about_video(self.vocabulary, video, "label") for video in tokens]
        return rank(self, prompts, labels, normalise, progress)

    # Times

    def locate(self, video: Seen, event: str, tokens_per_frame: float | None = None) -> Time:
        """When an event happens in a video, see `lm.locating.locate`."""
        return locate(self, [video], [event], tokens_per_frame=tokens_per_frame)[0]

    def locate_long(self, video: Seen, event: str, long: str = "chunks") -> LongAnswer:
        """When an event happens in a video of any length, see `lm.long.happening.locate_long`."""
        return locate_long(self, video, event, long)

    def describe(
        self,
        video: Seen,
        start: float,
        end: float | None = None,
        tokens_per_frame: float | None = None,
    ) -> str:
        """What happens at `start` seconds, or from there to `end`."""
        stretch = Time(start, end)
        return describe(self, [video], [stretch], tokens_per_frame=tokens_per_frame)[0]

    def events(self, video: Seen, tokens_per_frame: float | None = None) -> list[Event]:
        """All that happens in a video, in order of time."""
        return list_events(self, [video], tokens_per_frame=tokens_per_frame)[0]

    def events_long(self, video: Seen, long: str = "chunks") -> LongAnswer:
        """All that happens in a video of any length, see `lm.long.happening.events_long`."""
        return events_long(self, video, long)

    # Running prompts

    def _say(
        self, prompts: list[list[int]], draw: Draw, seed: int, progress: Progress | None
    ) -> list[str]:
        items = complete(self, prompts, draw, seed, progress)
        return [item.text.strip() for item in items if isinstance(item, Text)]
