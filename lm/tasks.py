"""`Model`: all that a language model over text and video can be asked to do.

What it tells of videos is `lm.video_reader`'s; here it talks, generates, fills in and goes on: thin
methods over the modules that know how. Knows nothing of training, commands or pages.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from data.clip import Clip
from lm.chatting import Chat
from lm.completing import Progress
from lm.continuing import continue_clips, continue_stream
from lm.document import Item, Time
from lm.drawing import MIN_P, Draw, Sampling
from lm.generating import Asked, make_clips, make_stream
from lm.infilling import infill
from lm.interleaving import write_on
from lm.rolling import Take
from lm.video_reader import VideoReader
from lm.watching import Seen, as_clip


class Model(VideoReader):
    """A language model that reads videos, as `VideoReader`, and makes them."""

    # Texts and videos in turn

    def chat(self, *videos: Seen) -> Chat:
        """A talk about videos, to go on with by `Chat.ask` and `Chat.show`."""
        talk = Chat(self)
        for video in videos:
            talk.show(video)
        return talk

    def write(
        self,
        items: Sequence[Item] = (),
        seed: int = 0,
        sampling: Sampling | None = None,
        max_new: int | None = None,
    ) -> list[str | Time | Clip]:
        """What the model says and shows after some items, of its own choice, to the end.

        Times are seconds of the video before, as the model saw it.

        Args:
            items: What is there: `lm.document` items, in order.
            seed: The same seed gives the same document.
            sampling: How to draw; None: words likeliest, codes as trained.
            max_new: Most new tokens, 2 or more; None: what the context leaves.

        Raises:
            ValueError: a model that was not taught to, items that do not fit the context, or no
                room for a token and the end.
        """
        return self.write_batch([items], [seed], sampling, max_new)[0]

    def write_batch(
        self,
        starts: Sequence[Sequence[Item]],
        seeds: Sequence[int] | None = None,
        sampling: Sampling | None = None,
        max_new: int | None = None,
    ) -> list[list[str | Time | Clip]]:
        """`write` after each of several starts, with its seed (default 0, 1, ...)."""
        own = range(len(starts)) if seeds is None else seeds
        return write_on(self, starts, own, sampling, max_new)

    # Text to video

    def generate(
        self,
        prompt: str | None,
        seconds: float | None = None,
        seed: int = 0,
        guidance: float = 2.0,
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        min_p: float = MIN_P,
        tokens_per_frame: float | None = None,
        candidates: int = 1,
        negative: str | None = None,
        overlap: int | None = None,
        parallel: int = 1,
        exact: bool = True,
        rescale: float = 0.0,
    ) -> Clip:
        """A video that shows what the prompt says.

        Args:
            prompt: A caption; None: anything the model has seen.
            seconds: Length; None: as trained. Longer than trained goes on from its own last
                blocks, with a warning.
            seed: The same seed gives the same video.
            guidance: How much to heed the prompt; 1: no guidance, at half the cost.
            temperature: 0: the likeliest codes; 1: as trained.
            top_k: Likeliest codes to draw from; 0: all.
            top_p: Probability mass of the likeliest codes to draw from; 1 for all.
            min_p: Codes less likely than this share of the likeliest are not drawn; 0 for all.
            tokens_per_frame: At most so many; None: the rate the model was trained at.
            candidates: Videos to make, of which the one is kept that the model itself, looking at
                its pixels, finds likeliest to be captioned by the prompt.
            negative: What guidance is to lead away from; None: from no words at all.
            overlap: Blocks that each window of a longer video begins with, the last of the one
                before; None: half of those it was trained on.
            parallel: Codes of a block to draw in one step, up to what the model was trained to
                foretell (`sizes.ahead`).
            exact: Draw them as one by one would; else they do not know of each other, and are
                quicker.
            rescale: Share, 0 to 1, of what guidance adds to the spread of scores that is taken
                back.

        Raises:
            ValueError: an empty prompt, or one that does not fit the context, or a model that does
                not foretell so many codes.
        """
        video = Draw(temperature, top_k, top_p, min_p)
        sampling = Sampling(
            video=video, guidance=guidance, rescale=rescale, parallel=parallel, exact=exact
        )
        return self.generate_batch(
            [prompt],
            seconds,
            [seed],
            sampling,
            tokens_per_frame=tokens_per_frame,
            candidates=candidates,
            negative=negative,
            overlap=overlap,
        )[0]

    def generate_batch(
        self,
        prompts: Sequence[str | None],
        seconds: float | None = None,
        seeds: Sequence[int] | None = None,
        sampling: Sampling | None = None,
        *,
        tokens_per_frame: float | None = None,
        candidates: int = 1,
        negative: str | None = None,
        overlap: int | None = None,
        progress: Progress | None = None,
    ) -> list[Clip]:
        """A video for each prompt, each with its own seed (default 0, 1, ...); see `generate`."""
        return make_clips(
            self,
            prompts,
            seconds,
            seeds,
            sampling,
            Asked(tokens_per_frame, negative, overlap),
            candidates,
            progress,
        )

    def generate_stream(
        self,
        prompt: str | None,
        seconds: float | None = None,
        seed: int = 0,
        sampling: Sampling | None = None,
        *,
        tokens_per_frame: float | None = None,
        negative: str | None = None,
        overlap: int | None = None,
    ) -> Take:
        """The video that `generate` makes, as it is made: a clip of each window, then no more.

        Memory does not grow with the length, which may be up to `MAX_STREAMED` frames. Without
        `sampling` codes are drawn as `generate` does by default.

        Raises:
            ValueError: as `generate`.
        """
        asked = Asked(tokens_per_frame, negative, overlap)
        return make_stream(self, prompt, seconds, seed, sampling, asked)

    def continue_video(
        self,
        video: Clip | str | Path,
        seconds: float,
        prompt: str | None = None,
        seed: int = 0,
        sampling: Sampling | None = None,
        overlap: int | None = None,
        tokens_per_frame: float | None = None,
        negative: str | None = None,
    ) -> Clip:
        """A video with what comes after it, see `lm.continuing.continue_clips`."""
        asked = seconds, [prompt], [seed], sampling, overlap, tokens_per_frame, negative
        return continue_clips(self, [video], *asked)[0]

    def continue_batch(
        self,
        videos: Sequence[Clip | str | Path],
        seconds: float,
        prompts: Sequence[str | None] | None = None,
        seeds: Sequence[int] | None = None,
        sampling: Sampling | None = None,
        overlap: int | None = None,
        tokens_per_frame: float | None = None,
        negative: str | None = None,
    ) -> list[Clip]:
        """`continue_video` of many, each with its prompt (default none) and seed (0, 1, ...)."""
        told = [None] * len(videos) if prompts is None else prompts
        own = range(len(videos)) if seeds is None else seeds
        return continue_clips(
            self, videos, seconds, told, own, sampling, overlap, tokens_per_frame, negative
        )

    def continue_stream(
        self,
        video: Clip | str | Path,
        seconds: float,
        prompt: str | None = None,
        seed: int = 0,
        sampling: Sampling | None = None,
        overlap: int | None = None,
        tokens_per_frame: float | None = None,
        negative: str | None = None,
    ) -> Take:
        """The same as it is made: the video, then a clip of each window."""
        clip = as_clip(video)
        return continue_stream(
            self, clip, seconds, prompt, seed, sampling, overlap, tokens_per_frame, negative
        )

    def infill(
        self,
        stills: Clip,
        prompt: str | None = None,
        seed: int = 0,
        sampling: Sampling | None = None,
        tokens_per_frame: float | None = None,
        candidates: int = 1,
        negative: str | None = None,
    ) -> Clip:
        """A video of which some frames are given, see `lm.infilling.infill`."""
        rest = sampling, tokens_per_frame, candidates, negative
        return self.infill_batch([stills], [prompt], [seed], *rest)[0]

    def infill_batch(
        self,
        stills: Sequence[Clip],
        prompts: Sequence[str | None] | None = None,
        seeds: Sequence[int] | None = None,
        sampling: Sampling | None = None,
        tokens_per_frame: float | None = None,
        candidates: int = 1,
        negative: str | None = None,
    ) -> list[Clip]:
        """`infill` of many, each with its prompt (default none) and seed (default 0, 1, ...)."""
        told = [None] * len(stills) if prompts is None else prompts
        own = range(len(stills)) if seeds is None else seeds
        way = sampling or Sampling(guidance=2.0, context_guidance=1.5)
        return infill(self, stills, told, own, way, tokens_per_frame, candidates, negative)
