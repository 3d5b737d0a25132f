"""What is drawn in which part of a run, and codes read as random ones."""

from typing import Any, cast

import numpy as np
import pytest
import torch

from lm.batches import Documents, Mixture, corrupted, pack, pad
from lm.corpus import Corpus
from lm.curriculum import Curriculum, Stage
from lm.document import Document, Task, Video
from lm.grammar import Grammar
from lm.loss import language_loss
from lm.model import Decoder
from lm.sequence import Sequence, join
from lm.vocabulary import Vocabulary

STAGES = (Stage(until=0.25, rates=(1,)), Stage(until=0.5, tokens=25))


def rates(sequences: list[Sequence], vocabulary: Vocabulary) -> set[int]:
    """Tokens a block of all videos of some documents."""
    documents = [Grammar(vocabulary).read(s.ids.tolist()) for s in sequences]
    videos = [i for d in documents for i in d.items if isinstance(i, Video)]
    return {len(block) for video in videos for block in video.tokens.codes}


def test_stages_follow_each_other(corpus: Corpus, vocabulary: Vocabulary) -> None:
    mixture = Mixture(rates=(2,), generate=0.2)
    documents = Curriculum(corpus, mixture, STAGES, 40, context=128)
    everyone = list(range(len(corpus)))
    seen = [documents.draw(step, everyone) for step in range(40)]
    assert rates(sum(seen[:10], []), vocabulary) == {1}
    assert rates(sum(seen[10:], []), vocabulary) == {2, 3}
    longest = [max(map(len, step)) for step in seen]
    assert max(longest[10:20]) <= 25 < min(longest[20:])
    plain = Documents(corpus, mixture, context=128)
    for got, want in zip(documents.draw(20, everyone), plain.draw(20, everyone), strict=True):
        assert torch.equal(got.ids, want.ids)


def test_a_stage_has_its_own_share_of_films(corpus: Corpus, vocabulary: Vocabulary) -> None:
    stages = (Stage(until=0.5, generate=1.0, rates=(1,)), Stage(until=0.75, rates=(1,)))
    mixture = Mixture(rates=(2,), generate=0.0, film_full=5)
    with pytest.warns(UserWarning, match="film_full=5 has no effect: no document has a video"):
        documents = Curriculum(corpus, mixture, stages, 4)
    everyone = list(range(len(corpus)))
    for step, films in enumerate([True, True, False, False]):
        read = [Grammar(vocabulary).read(s.ids.tolist()) for s in documents.draw(step, everyone)]
        assert all((document.items[0] == Task("film")) is films for document in read)
    assert rates(documents.draw(0, everyone), vocabulary) == {1}  # at the stage's rates alone


@pytest.mark.parametrize("wrong", [{"generate": 1.5}, {"rates": (-1,)}, {"tokens": 0}])
def test_a_stage_names_what_is_wrong_with_it(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"curriculum {next(iter(wrong))}="):
        Stage(until=1, **wrong)


def test_long_clips_give_way(corpus: Corpus, vocabulary: Vocabulary) -> None:
    mixture = Mixture(generate=0.0, rates=(1,))
    limit = 12  # of a clip at one token a block, with its marks 10 tokens; at all three 14
    documents = Curriculum(corpus, mixture, (Stage(until=1, tokens=limit),), 4)
    drawn = documents.draw(0, list(range(6)))
    assert len(drawn) == 6 and max(map(len, drawn)) <= limit
    assert rates(drawn, vocabulary) == {1}
    with pytest.raises(ValueError, match="no clip fits .* 3 tokens: raise tokens"):
        Curriculum(corpus, mixture, (Stage(until=1, tokens=3),), 4).draw(0, [0])


@pytest.mark.parametrize(
    ("stages", "steps", "message"),
    [
        (STAGES, -1, "give --trainer.max_steps"),
        (STAGES[::-1], 9, "give rising shares"),
        ((Stage(until=1.5),), 9, "give rising shares"),
    ],
)
def test_senseless_stages_are_refused(
    corpus: Corpus, stages: tuple[Stage, ...], steps: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Curriculum(corpus, Mixture(), stages, steps)


def test_codes_are_read_as_others_while_the_true_ones_are_predicted(
    corpus: Corpus, vocabulary: Vocabulary
) -> None:
    def draw(corrupt: float) -> list[Sequence]:
        documents = Documents(corpus, Mixture(corrupt=corrupt, prompt_video=0.5), context=128)
        return [s for step in range(60) for s in documents.draw(step, list(range(len(corpus))))]

    changed, codes = 0, 0
    for told, true in zip(draw(0.3), draw(0.0), strict=True):
        assert torch.equal(told.ids, true.ids) and torch.equal(told.weights, true.weights)
        assert told.inputs is not None and true.inputs is None
        other = told.inputs != true.ids
        assert bool((told.inputs[other] >= vocabulary.video_start).all())
        assert bool((true.ids[other] >= vocabulary.video_start).all())
        film = Grammar(vocabulary).read(true.ids.tolist()).items[0] == Task("film")
        if film:
            changed += int(other.sum())
            codes += int((true.ids >= vocabulary.video_start).sum())
        else:
            assert not other.any()  # its texts tell of what was seen
    others = len(vocabulary) - vocabulary.video_start
    assert changed / codes == pytest.approx(0.3 * (1 - 1 / others), abs=0.04)


def test_of_several_clips_only_those_after_the_last_text_change(
    corpus: Corpus, vocabulary: Vocabulary
) -> None:
    clip = corpus.spelled(0)
    spans = [clip.video, clip.captions[0], clip.video]
    sequence = join(spans, vocabulary, [0.5, 1.0, 1.0], end=True)
    told = corrupted(sequence, 1.0, vocabulary, np.random.default_rng(0))
    assert told.inputs is not None
    changed = (told.inputs != told.ids).nonzero()[:, 0]
    last_text = int((sequence.modality == 1).nonzero()[-1, 0])
    assert len(changed) and int(changed[0]) > last_text
    with pytest.raises(ValueError, match="corrupt=2"):
        Mixture(corrupt=2)
    with pytest.raises(ValueError, match="fill=-1: give a share"):
        Mixture(fill=-1)
    with pytest.raises(ValueError, match="questions=-2: give 0 or more"):
        Mixture(questions=-2)
    with pytest.raises(ValueError, match=r"rates=\[0\]"):
        Mixture(rates=(0,))
    for full in (True, 1.5):
        with pytest.raises(ValueError, match=f"full={full}: give a whole number"):
            Mixture(rates=(1,), full=cast(Any, full))
        with pytest.raises(ValueError, match=f"film_full={full}: give a whole number"):
            Mixture(rates=(1,), film_full=cast(Any, full))
    with pytest.raises(ValueError, match="full=-1: give a whole number, 0 or more"):
        Mixture(rates=(1,), full=-1)
    with pytest.raises(ValueError, match="full=0 without mixture.rates"):
        Mixture(full=0)
    for name in ("full", "film_full"):
        with pytest.warns(UserWarning, match=f"{name}=3 has no effect: there are no mixture.rates"):
            Mixture(**cast(Any, {name: 3}))


def test_models_read_inputs_and_are_judged_by_ids(
    decoder: Decoder, corpus: Corpus, vocabulary: Vocabulary
) -> None:
    documents = Documents(corpus, Mixture(corrupt=0.5), context=128)
    sequences = documents.draw(0, list(range(6)))
    for batch in (pad(sequences, vocabulary), pack(sequences, vocabulary, 128)):
        assert batch.inputs is not None
        hidden = decoder(
            batch.inputs[:, :-1],
            slots=batch.slots[:, :-1],
            positions=batch.positions[:, :-1],
            segments=None if batch.segments is None else batch.segments[:, :-1],
        )
        codes = (batch.modality[:, 1:] == 2) & batch.learned
        start = vocabulary.video_start
        chances = decoder.logits(hidden[codes], start).log_softmax(-1)
        want = -chances.gather(1, batch.ids[:, 1:][codes][:, None] - start).mean()
        got = language_loss(decoder, [batch], (0.0, 0.0, 1.0)).total
        torch.testing.assert_close(got, want)


def test_documents_are_the_same_however_many_devices_share_a_step(corpus: Corpus) -> None:
    documents = Documents(corpus, Mixture(corrupt=0.2), context=128)
    whole = documents.draw(5, [3, 1, 4, 1])
    halves = documents.draw(5, [3, 1], 0) + documents.draw(5, [4, 1], 2)
    for a, b in zip(whole, halves, strict=True):
        assert torch.equal(a.ids, b.ids)
        assert a.inputs is not None and b.inputs is not None and torch.equal(a.inputs, b.inputs)
    again = [documents.one(1, 5, place).ids.tolist() for place in range(9)]
    assert any(ids != again[0] for ids in again)  # one clip, at several places


def test_corrupted_documents_are_streams_still(corpus: Corpus, vocabulary: Vocabulary) -> None:
    for sequence in Documents(corpus, Mixture(corrupt=1.0), context=128).draw(0, [0, 1, 2]):
        assert sequence.inputs is not None
        assert isinstance(Grammar(vocabulary).read(sequence.inputs.tolist()), Document)
