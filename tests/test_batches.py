"""Laws of batches: what is drawn, and that branches read as if each stood alone."""

from collections.abc import Iterable
from itertools import combinations, pairwise

import numpy as np
import pytest
import torch

from lm.batches import GROUPS, WORTH, Documents, Mixture, _splits, grouped, pack, pad
from lm.corpus import Corpus, make_vocabulary
from lm.document import Document, Nothing, Task, Text, Video
from lm.grammar import Grammar
from lm.learning import Learner, Recipe, make_decoder
from lm.model import Decoder, Sizes
from lm.prompting import about_video, condition, to_video
from lm.sampling import Prompt, continue_streams
from lm.sequence import Sequence, join
from lm.vocabulary import Vocabulary
from tests.conftest import CODES


def draw_many(corpus: Corpus, mixture: Mixture | None = None, steps: int = 40) -> list[Sequence]:
    documents = Documents(corpus, mixture, context=128, seed=3)
    return [s for step in range(steps) for s in documents.draw(step, list(range(len(corpus))))]


def read(sequence: Sequence, vocabulary: Vocabulary) -> Document:
    return Grammar(vocabulary).read(sequence.ids.tolist())


def test_every_document_is_a_valid_stream(corpus: Corpus, vocabulary: Vocabulary) -> None:
    for sequence in draw_many(corpus, Mixture(rates=(1, 2), captions=2, branch=0.5)):
        document = read(sequence, vocabulary)
        assert sum(isinstance(item, Video) for item in document.items) == 1


def test_draws_depend_on_seed_and_step_alone(corpus: Corpus) -> None:
    first, again = Documents(corpus, seed=1), Documents(corpus, seed=1)
    again.draw(0, [3, 4])
    for step in (7, 2):
        for a, b in zip(first.draw(step, [0, 1, 2]), again.draw(step, [0, 1, 2]), strict=True):
            assert torch.equal(a.ids, b.ids) and torch.equal(a.weights, b.weights)


def test_every_evaluation_layout_occurs_in_training(corpus: Corpus, vocabulary: Vocabulary) -> None:
    """A prompt's items and roles, and the header's ids, must begin some training document."""
    example = corpus.record(0)
    tokens = example.tokens
    fmt = vocabulary.presets[0]
    prompts = {
        "caption": about_video(vocabulary, tokens, "caption"),
        "label": about_video(vocabulary, tokens, "label"),
        "answer": about_video(vocabulary, tokens, "answer", example.questions[0].question),
        "generate": to_video(vocabulary, condition(vocabulary, example.captions[0]), fmt),
        "null": to_video(vocabulary, condition(vocabulary, None), fmt),
    }
    trained = [sequence.ids.tolist() for sequence in draw_many(corpus)]
    for name, ids in prompts.items():
        assert any(stream[: len(ids)] == ids for stream in trained), name


def test_losses_fall_on_what_is_to_be_said(corpus: Corpus, vocabulary: Vocabulary) -> None:
    for sequence in draw_many(corpus, steps=10):
        document = read(sequence, vocabulary)
        learned = sequence.ids[sequence.weights > 0].tolist()
        task, *items = document.items
        told = task == Task("watch")
        codes = [i for i in learned if i >= vocabulary.video_start]
        assert bool(codes) != told
        if not told:
            assert task == Task("film") and len(items) == 2
            assert vocabulary.special("<stop>") not in learned
        else:
            texts = [i for i in items if isinstance(i, Text)]
            said = [t for t in texts if t.role != "question"]
            assert learned.count(vocabulary.special("<stop>")) == len(said)
            assert vocabulary.special("<question>") not in learned


def test_captions_are_dropped_at_the_rate_asked(corpus: Corpus, vocabulary: Vocabulary) -> None:
    drawn = draw_many(corpus, Mixture(generate=1.0, drop_caption=0.5))
    without = [isinstance(read(s, vocabulary).items[1], Nothing) for s in drawn]
    assert 0.35 < np.mean(without) < 0.65


def test_rates_are_mixed_and_named_in_the_header(corpus: Corpus, vocabulary: Vocabulary) -> None:
    kept = set()
    for sequence in draw_many(corpus, Mixture(rates=(1, 2))):
        video = next(i for i in read(sequence, vocabulary).items if isinstance(i, Video))
        kept.add(tuple(len(block) for block in video.tokens.codes))
    assert kept == {(1, 1), (2, 2), (3, 3)}


@pytest.mark.parametrize("full", [0, 1, 4])
def test_the_full_rate_is_as_frequent_as_asked(
    corpus: Corpus, vocabulary: Vocabulary, full: int
) -> None:
    whole = []
    for sequence in draw_many(corpus, Mixture(rates=(1,), full=full)):
        video = next(i for i in read(sequence, vocabulary).items if isinstance(i, Video))
        whole.append(len(video.tokens.codes[0]) == 3)
    share, spread = full / (1 + full), 3 * (full / (1 + full) ** 2 / len(whole)) ** 0.5
    assert abs(np.mean(whole) - share) <= spread


def test_films_have_the_full_rate_as_often_as_asked_of_them(
    corpus: Corpus, vocabulary: Vocabulary
) -> None:
    whole: dict[str, list[bool]] = {}
    for sequence in draw_many(corpus, Mixture(rates=(1,), full=1, film_full=9)):
        items = read(sequence, vocabulary).items
        task = next(item.name for item in items if isinstance(item, Task))
        video = next(item for item in items if isinstance(item, Video))
        whole.setdefault(task, []).append(len(video.tokens.codes[0]) == 3)
    film, watch = whole.pop("film"), [each for some in whole.values() for each in some]
    assert abs(np.mean(film) - 0.9) <= 3 * (0.09 / len(film)) ** 0.5
    assert abs(np.mean(watch) - 0.5) <= 3 * (0.25 / len(watch)) ** 0.5


def test_a_video_longer_than_the_context_is_refused(corpus: Corpus) -> None:
    with pytest.raises(ValueError, match="raise the model's context"):
        Documents(corpus, context=8).draw(0, [0])


def test_texts_that_do_not_fit_are_left_out(corpus: Corpus, vocabulary: Vocabulary) -> None:
    documents = Documents(corpus, Mixture(generate=0.0), context=22, seed=0)
    for sequence in documents.draw(0, list(range(6))):
        assert len(sequence) <= 22
        read(sequence, vocabulary)


def test_branches_are_as_if_each_stood_alone(
    decoder: Decoder, corpus: Corpus, vocabulary: Vocabulary
) -> None:
    spelled = corpus.spelled(0)
    (question, answer), label, caption = spelled.questions[1], spelled.label, spelled.captions[0]
    assert label is not None
    texts = [([caption], 1), ([question, answer], 2), ([label], 3)]
    apart = [join([spelled.video, *spans], vocabulary, end=True) for spans, _ in texts]
    branches = [0, *(number for spans, number in texts for _ in spans)]
    items = [spelled.video, *(span for spans, _ in texts for span in spans)]
    tree = join(items, vocabulary, end=True, branches=branches)
    assert Grammar(vocabulary).read(tree.ids.tolist()).items[1:] == (
        Text("caption", corpus.record(0).captions[0]),
        Text("question", "how does it move?"),
        Text("answer", "falls"),
        Text("label", "falls"),
    )

    def states(sequence: Sequence) -> torch.Tensor:
        batch = pad([sequence], vocabulary)
        return decoder(
            batch.ids, slots=batch.slots, positions=batch.positions, segments=batch.segments
        )[0]

    got, at = states(tree), 1 + len(spelled.video.ids)
    for sequence, (spans, _) in zip(apart, texts, strict=True):
        length, start = sum(len(span.ids) for span in spans), 1 + len(spelled.video.ids)
        want = states(sequence)[start : start + length]
        torch.testing.assert_close(got[at : at + length], want, rtol=1e-5, atol=1e-5)
        assert tree.positions[at] == start
        assert (tree.weights[at] == 0) == (at != start)  # its predecessor is not in the row
        at += length


def test_a_packed_row_is_full_of_documents(corpus: Corpus, vocabulary: Vocabulary) -> None:
    sequences = draw_many(corpus, steps=4)
    batch = pack(sequences, vocabulary, 128)
    assert batch.segments is not None
    assert len(batch.ids) < len(sequences)
    assert int((batch.segments >= 0).sum()) == sum(map(len, sequences))
    with pytest.raises(ValueError, match="raise the context"):
        pack(sequences, vocabulary, 10)


def test_vocabulary_of_shards(corpus: Corpus, vocabulary: Vocabulary) -> None:
    assert [f.tokens_per_block for f in vocabulary.presets] == [(3, 3), (1, 1), (3,), (1,)]
    mixed = [corpus.records[0], (corpus.records[1][0], {**corpus.records[1][1], "codec_id": "b"})]
    with pytest.raises(ValueError, match="one codec"):
        make_vocabulary(mixed)
    with pytest.raises(ValueError, match="no records"):
        make_vocabulary([])


def test_a_tiny_set_is_learned_by_heart(corpus: Corpus, vocabulary: Vocabulary) -> None:
    sizes = Sizes(width=32, layers=2, heads=4, kv_heads=2, head_dim=8, hidden=64, context=128)
    model = make_decoder(vocabulary, torch.randn(CODES, 3), sizes)
    learner = Learner(model, Recipe(lr=2e-2))
    documents = Documents(corpus, Mixture(generate=0.1), context=128)
    for step in range(120):
        sequences = documents.draw(step, [0, 3, 4] * 3)
        learner.step(grouped(sequences, vocabulary), step / 120)
    grammar = Grammar(vocabulary)
    for i in (0, 3, 4):
        example = corpus.record(i)
        tokens = example.tokens
        prompts = [about_video(vocabulary, tokens, role) for role in ("caption", "label")]
        prompts += [
            about_video(vocabulary, tokens, "answer", q.question) for q in example.questions
        ]
        states = continue_streams(model, grammar, [Prompt(ids) for ids in prompts], num_items=1)
        caption, label, *answers = (state.items[-1] for state in states)
        assert isinstance(caption, Text) and caption.text in example.captions
        assert label == Text("label", example.labels["action"])
        assert answers == [Text("answer", q.answer) for q in example.questions]


def test_documents_are_parted_where_least_is_padded() -> None:
    luck = np.random.default_rng(0)
    for _ in range(200):
        lengths = sorted(luck.integers(1, 60, luck.integers(1, 9)).tolist())
        total = len(lengths)

        def places(edges: Iterable[int], lengths: list[int] = lengths) -> int:
            pairs = pairwise([0, *edges, len(lengths)])
            return sum((stop - start) * lengths[stop - 1] for start, stop in pairs)

        found = _splits(lengths, GROUPS)
        best = [
            min(places(edges) for edges in combinations(range(1, total), count))
            for count in range(min(GROUPS, total))
        ]
        assert len(found) < GROUPS and places(found) == best[len(found)]
        for more, fewer in zip(best[1 : len(found) + 1], best, strict=False):
            assert more <= (1 - WORTH) * fewer  # each batch was worth it
        if len(found) + 1 < len(best):
            assert best[len(found) + 1] > (1 - WORTH) * best[len(found)]
