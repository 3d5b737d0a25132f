"""Laws of training documents: what may stand in them, and that every prompt occurs in one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from lm.batches import Documents
from lm.corpus import Corpus
from lm.document import Document, Item, Nothing, Task, Text, Time, Video
from lm.formats import VideoFormat
from lm.grammar import Grammar
from lm.layouts import Mixture
from lm.prompting import condition, opened, to_video, watching
from lm.sequence import Sequence
from lm.vocabulary import Vocabulary

EVENTS = Mixture(generate=0.0, events=2)
FILL = Mixture(generate=1.0, fill=1.0, drop_stills=0.3, drop_caption=0.4)
TALK = Mixture(talk=1.0, events=1)


def drawn(corpus: Corpus, mixture: Mixture, steps: int = 30) -> list[Sequence]:
    documents = Documents(corpus, mixture, context=256)
    return [s for step in range(steps) for s in documents.draw(step, list(range(len(corpus))))]


def items_of(sequence: Sequence, vocabulary: Vocabulary) -> tuple[Item, ...]:
    return Grammar(vocabulary).read(sequence.ids.tolist()).items


@pytest.mark.parametrize("mixture", [EVENTS, FILL, TALK], ids=["events", "fill", "talk"])
def test_documents_are_valid_streams_that_begin_with_their_task(
    corpus: Corpus, vocabulary: Vocabulary, mixture: Mixture
) -> None:
    names = {EVENTS: "watch", FILL: "fill", TALK: "talk"}
    for sequence in drawn(corpus, mixture, 5):
        document = Document(items_of(sequence, vocabulary))
        assert document.items[0] == Task(names[mixture])
        assert document.canonical() == document


def test_every_prompt_about_time_occurs_in_training(corpus: Corpus, vocabulary: Vocabulary) -> None:
    tokens, example = corpus.spelled(0).tokens, corpus.record(0)
    event = example.events[0]
    time = Time(event.start, event.end)
    prompts = {
        "when": watching(vocabulary, tokens, Text("event", event.text), mark="<at>"),
        "what": watching(vocabulary, tokens, time, mark="<event>"),
        "all": watching(vocabulary, tokens, time, Text("event", event.text), mark="<at>"),
    }
    trained = [sequence.ids.tolist() for sequence in drawn(corpus, EVENTS)]
    for name, ids in prompts.items():
        assert any(stream[: len(ids)] == ids for stream in trained), name


def test_every_prompt_with_stills_occurs_in_training(
    corpus: Corpus, vocabulary: Vocabulary
) -> None:
    example = corpus.record(0)
    caption = condition(vocabulary, example.captions[0])
    fmt, _ = VideoFormat.of(example.tokens)
    first, last = example.stills
    trained = [sequence.ids.tolist() for sequence in drawn(corpus, FILL, 100)]
    for shown in (caption, condition(vocabulary, None)):
        for stills in ((first, last), (first,), (last,), ()):
            ids = to_video(vocabulary, shown, fmt, stills=stills)
            assert any(stream[: len(ids)] == ids for stream in trained), len(stills)


def test_a_second_clip_and_a_question_about_it_occur_in_training(
    corpus: Corpus, vocabulary: Vocabulary
) -> None:
    def asked(items: tuple[Item, ...]) -> bool:
        kinds = [type(item) for item in items]
        roles = [item.role for item in items if isinstance(item, Text)]
        return kinds[:5] == [Task, Video, Text, Text, Video] and roles[2:] == ["question", "answer"]

    assert any(asked(items_of(sequence, vocabulary)) for sequence in drawn(corpus, TALK))


def test_lists_of_events_are_whole_and_end_with_nothing(
    corpus: Corpus, vocabulary: Vocabulary
) -> None:
    lists = 0
    for sequence in drawn(corpus, EVENTS):
        items = items_of(sequence, vocabulary)
        for place, item in enumerate(items):
            if isinstance(item, Nothing):
                listed = items[place - 4 : place]
                assert [type(i) for i in listed] == [Time, Text, Time, Text]
                assert listed[0] == Time(0.0, 0.5) and listed[2] == Time(0.6)
                lists += 1
    assert lists > 5


def test_no_loss_falls_on_what_is_given(corpus: Corpus, vocabulary: Vocabulary) -> None:
    given: dict[str, Callable[[Item], bool]] = {
        "fill": lambda item: isinstance(item, Video) and item.tokens.num_frames == 1,
        "watch": lambda item: isinstance(item, Text) and item.role == "question",
    }
    for mixture, name in ((FILL, "fill"), (EVENTS, "watch")):
        for sequence in drawn(corpus, mixture, 5):
            learned = sequence.ids[sequence.weights > 0].tolist()
            items = items_of(sequence, vocabulary)
            assert any(map(given[name], items)) or name == "watch" or len(items) == 3
            codes = sum(i >= vocabulary.video_start for i in learned)
            films = [i for i in items if isinstance(i, Video) and i.tokens.num_frames > 1]
            assert codes == (films[0].tokens.num_tokens if name == "fill" else 0)
            assert vocabulary.special("<question>") not in learned


def test_stills_are_no_models_main_format(vocabulary: Vocabulary, corpus: Corpus) -> None:
    main = vocabulary.presets[0]
    assert main.num_frames == corpus.record(0).tokens.num_frames
    assert {fmt.num_frames for fmt in vocabulary.presets} == {1, main.num_frames}


def test_prompts_open_what_they_name(vocabulary: Vocabulary) -> None:
    ids = opened(vocabulary, [Task("talk"), Text("caption", "red")], "<video>")
    state = Grammar(vocabulary).start()
    for token in ids:
        state.push(token)
    assert state.mode == "header" and torch.tensor(ids)[-1] == vocabulary.special("<video>")
