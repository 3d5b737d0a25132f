"""Chatting: questions and answers in turn, about videos shown on the way.

What was said stays in the stream, so that a question may lean on those before. Knows documents and
prompts. Knows no pixels.

A model that was taught `talk` takes a video at any turn, others one at the start.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lm.completing import GREEDY, complete
from lm.document import Item, Task, Text, Video
from lm.drawing import Draw
from lm.prompting import ask_of, opened
from lm.watching import Seen

if TYPE_CHECKING:
    from lm.tasks import Model


class Chat:
    """A talk with a model; make one with `Model.chat`.

    items: what was shown and said so far.
    """

    def __init__(self, model: Model, draw: Draw = GREEDY) -> None:
        self.model, self.draw = model, draw
        self.items: list[Item] = []

    def show(self, video: Seen, tokens_per_frame: float | None = None) -> None:
        """Show a video, at any turn.

        Args:
            video: A clip, tokens, or the path of a file.
            tokens_per_frame: At most so many; fewer leave more of the context for words.

        Raises:
            ValueError: the video cannot be read, or leaves no room for a question and its
                answer; the talk stays as it was.
        """
        shown = Video(self.model.encode(video, tokens_per_frame))
        if self.items and "talk" not in self.model.taught:
            raise ValueError(
                "this model was taught to talk of one video, shown first: begin anew, or train it "
                "with --data.mixture.talk 0.2"
            )
        self._prompt(
            [*self.items, shown, ask_of("?")],
            "this video and the shortest question",
            "show it at fewer tokens a frame, give a shorter clip, or begin anew",
        )
        self.items.append(shown)

    def ask(self, question: str, seed: int = 0) -> str:
        """The answer to a question about what was shown and said.

        Raises:
            ValueError: nothing was shown yet, an empty question, or more than the context holds;
                the talk stays as it was.
        """
        prompt = self._asking(question)
        (answer,) = complete(self.model, [prompt], self.draw, seed)
        return self._answered(question, answer)

    def _asking(self, question: str) -> list[int]:
        if not any(isinstance(item, Video) for item in self.items):
            raise ValueError("no video was shown yet: show one, then ask")
        return self._prompt(
            [*self.items, ask_of(question)],
            "this question",
            "ask in fewer words, begin anew, or show videos at fewer tokens a frame",
        )

    def _answered(self, question: str, answer: Item) -> str:
        assert isinstance(answer, Text)
        self.items += [ask_of(question), answer]
        return answer.text

    def _prompt(self, items: list[Item], last: str, remedies: str) -> list[int]:
        """The talk up to its next answer; ValueError: the shortest answer does not fit after it."""
        task = Task("talk" if "talk" in self.model.taught else "watch")
        prompt = opened(self.model.vocabulary, [task, *items], "<answer>")
        context = self.model.decoder.config.context
        if len(prompt) >= context:  # an answer is at least its <stop>
            raise ValueError(
                f"with {last} the talk takes {len(prompt)} tokens, with the shortest answer "
                f"{len(prompt) + 1 - context} more than the context of {context}: {remedies}"
            )
        return prompt

    def forget(self) -> None:
        """Begin anew."""
        self.items.clear()


def ask_all(talks: Sequence[Chat], questions: Sequence[Sequence[str]]) -> list[list[str]]:
    """The likeliest answers of talks with one model, those of a turn side by side.

    Args:
        talks: Each with a video shown.
        questions: Those of each talk in turn, any number.

    Returns:
        Answers in the place of questions, as `Chat.ask` gives them.

    Raises:
        ValueError: as `Chat.ask` does, of any; turns before have been taken.
    """
    found: list[list[str]] = [[] for _ in talks]
    for turn in range(max(map(len, questions), default=0)):
        asked = [i for i, own in enumerate(questions) if turn < len(own)]
        prompts = [talks[i]._asking(questions[i][turn]) for i in asked]
        answers = complete(talks[asked[0]].model, prompts)
        for i, answer in zip(asked, answers, strict=True):
            found[i].append(talks[i]._answered(questions[i][turn], answer))
    return found
