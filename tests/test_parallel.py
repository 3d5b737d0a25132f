"""Laws of drawing several codes a step: exact is as one by one, and seeds, grammar, blocks hold."""

import json
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from data.clip import Clip
from data.reading import read_clip
from lm.batches import Documents, Mixture, pack, pad, passes
from lm.corpus import Corpus
from lm.document import Document, Video
from lm.drawing import Draw, Sampling
from lm.evaluate_command import evaluate
from lm.exporting import export_model
from lm.film_commands import generate
from lm.grammar import Grammar, State
from lm.learning import Learner, Recipe, training_loss
from lm.loss import language_loss
from lm.model import Decoder, Sizes
from lm.parallel import judge
from lm.prompting import condition, to_video
from lm.requests import run_requests
from lm.sampling import Prompt, continue_streams, prefill
from lm.sequence import Sequence, write
from lm.step import Step
from lm.tasks import Model
from lm.vocabulary import Vocabulary
from tests.conftest import BLOCKS, CODES, PER_BLOCK, blocks_of_six, tiny_config

AHEAD = 3
HOT = Sampling(text=Draw(1.0), video=Draw(1.0, top_p=0.95), guidance=1.7)


@pytest.fixture
def ahead(vocabulary: Vocabulary) -> Decoder:
    """Random weights, heads of their own minds."""
    torch.manual_seed(0)
    made = Decoder(tiny_config(vocabulary, ahead=AHEAD), torch.randn(CODES, 3))
    for parameter in made.parameters():
        if parameter.ndim == 2:
            torch.nn.init.normal_(parameter, std=0.5)
    return made.eval()


def film_prompts(vocabulary: Vocabulary, *texts: str | None) -> list[Prompt]:
    """Prompts of one video each, with twins for guidance, whose lengths differ."""
    null = condition(vocabulary, None)
    fmt = vocabulary.presets[0]
    made = [to_video(vocabulary, condition(vocabulary, text), fmt) for text in texts]
    return [Prompt(ids, to_video(vocabulary, null, fmt)) for ids in made]


def codes_of(states: list[State]) -> list[list[int]]:
    found = []
    for state in states:
        video = state.items[-1]
        assert isinstance(video, Video)
        found.append(torch.cat(video.tokens.codes).tolist())
    return found


TEXTS = ("red falls", None, "a ball in blue: it rises")


def test_one_code_a_step_has_no_heads_and_the_same_weights(vocabulary: Vocabulary) -> None:
    made = []
    for count in (1, AHEAD):
        torch.manual_seed(0)
        made.append(Decoder(tiny_config(vocabulary, ahead=count), torch.ones(CODES, 3)))
    plain, more = (decoder.state_dict() for decoder in made)
    assert set(more) - set(plain) == {"ahead.maps.weight"}
    assert all(torch.equal(more[name], weight) for name, weight in plain.items())


def test_fresh_heads_foretell_what_comes_next(vocabulary: Vocabulary) -> None:
    fresh = Decoder(tiny_config(vocabulary, ahead=AHEAD), torch.ones(CODES, 3))
    assert fresh.ahead is not None
    hidden = torch.randn(5, fresh.config.width)
    assert torch.equal(fresh.ahead(hidden), hidden[:, None].expand(-1, AHEAD - 1, -1))


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("parallel", [2, 3])
@pytest.mark.parametrize("budget", [3, 14, 40, None])
def test_streams_are_valid(
    ahead: Decoder, vocabulary: Vocabulary, exact: bool, parallel: int, budget: int | None
) -> None:
    grammar, begin = Grammar(vocabulary), vocabulary.special("<begin>")
    ways = replace(HOT, parallel=parallel, exact=exact)
    prompts = [Prompt([begin, *([vocabulary.special("<video>")] * k)]) for k in (0, 1, 0, 1)]
    if budget == 3:
        prompts = prompts[:1]
    drawn: list[int] = []
    states = continue_streams(
        ahead, grammar, prompts, sampling=ways, max_new=budget, progress=drawn.append
    )
    spelled = 0
    for state, prompt in zip(states, prompts, strict=True):
        assert state.mode == "done"
        document = Document(tuple(state.items))
        ids = write(document, vocabulary).ids.tolist()
        assert grammar.read(ids) == document.canonical()
        spelled += len(ids) - len(prompt.ids)
    if budget is not None:
        assert sum(drawn) <= budget * len(prompts)


@pytest.mark.parametrize("parallel", [2, 3])
def test_a_block_takes_as_many_steps_as_it_has_to(
    ahead: Decoder, vocabulary: Vocabulary, parallel: int
) -> None:
    """Codes do not reach over a block's end; the mark after it is a step of its own."""
    steps: list[int] = []
    states = continue_streams(
        ahead,
        Grammar(vocabulary),
        film_prompts(vocabulary, "red"),
        sampling=Sampling(parallel=parallel, exact=False),
        num_items=1,
        progress=steps.append,
    )
    assert len(codes_of(states)[0]) == BLOCKS * PER_BLOCK
    one = [parallel] * (PER_BLOCK // parallel) + [PER_BLOCK % parallel] * (PER_BLOCK % parallel > 0)
    assert steps == [*one, 1] * BLOCKS


@pytest.mark.parametrize("exact", [True, False])
def test_a_sample_does_not_depend_on_its_batch(
    ahead: Decoder, vocabulary: Vocabulary, exact: bool
) -> None:
    grammar, prompts = Grammar(vocabulary), film_prompts(vocabulary, *TEXTS)
    ways = replace(HOT, parallel=AHEAD, exact=exact)
    for first in range(0, 30, 3):
        seeds = [first, first + 1, first + 2]
        together = continue_streams(
            ahead, grammar, prompts, sampling=ways, seeds=seeds, num_items=1
        )
        for prompt, seed, state in zip(prompts, seeds, together, strict=True):
            alone = continue_streams(
                ahead, grammar, [prompt], sampling=ways, seeds=[seed], num_items=1
            )
            assert codes_of(alone) == codes_of([state])


GUIDED = [
    Sampling(video=Draw(0.0)),
    Sampling(video=Draw(0.0), guidance=2.5),
    Sampling(video=Draw(0.0), guidance=2.5, context_guidance=1.5, rescale=0.3),
]


@pytest.mark.parametrize("cold", GUIDED, ids=["alone", "guided", "three branches"])
@pytest.mark.parametrize("parallel", [2, 3])
def test_exact_and_greedy_is_greedy(vocabulary: Vocabulary, parallel: int, cold: Sampling) -> None:
    grammar, prompts = Grammar(vocabulary), film_prompts(vocabulary, *TEXTS)
    others = film_prompts(vocabulary, "it falls")
    prompts = [replace(prompt, bare=others[0].ids) for prompt in prompts]
    differing = 0
    for seed in range(8):
        torch.manual_seed(seed)
        decoder = Decoder(tiny_config(vocabulary, ahead=AHEAD), torch.randn(CODES, 3)).eval()
        for parameter in decoder.parameters():
            if parameter.ndim == 2:
                torch.nn.init.normal_(parameter, std=0.5)

        def films(sampling: Sampling, decoder: Decoder = decoder) -> list[list[int]]:
            return codes_of(
                continue_streams(decoder, grammar, prompts, sampling=sampling, num_items=1)
            )

        want = films(cold)
        assert films(replace(cold, parallel=parallel)) == want
        differing += films(replace(cold, parallel=parallel, exact=False)) != want
    assert differing  # the heads alone do not find it: judging did


def block_chances(
    decoder: Decoder, vocabulary: Vocabulary, prompt: Prompt, way: Sampling
) -> Tensor:
    """Probability of every first block, (CODES ** PER_BLOCK,), by whole passes without a cache."""
    blocks = torch.tensor(list(product(range(CODES), repeat=PER_BLOCK)))
    scores = []
    for ids in (prompt.ids, prompt.null or prompt.ids):
        rows = torch.cat(
            [torch.tensor(ids).expand(len(blocks), -1), blocks + vocabulary.video_start], 1
        )
        _, places = vocabulary.as_read(16, 24, PER_BLOCK)
        slots = torch.zeros_like(rows)
        slots[:, len(ids) :] = places
        with torch.no_grad():
            states = decoder(rows, slots=slots)[:, len(ids) - 1 : -1]
            scores.append(decoder.logits(states, vocabulary.video_start).double())
    p = (scores[1] + way.guidance * (scores[0] - scores[1])).softmax(-1)  # (N, K, CODES)
    p = p.masked_fill(p < way.video.min_p * p.amax(-1, keepdim=True), 0)
    p = p / p.sum(-1, keepdim=True)
    return p.gather(-1, blocks[..., None])[..., 0].prod(-1)


def misfit(states: list[State], chances: Tensor) -> float:
    """p-value of the blocks found under the chances, rare ones counted together."""
    index = torch.tensor(codes_of(states))[:, :PER_BLOCK] @ CODES ** torch.arange(
        PER_BLOCK - 1, -1, -1
    )
    counts = torch.bincount(index, minlength=len(chances)).double()
    want = chances * len(states)
    common = want >= 5
    got = torch.cat([counts[common], counts[~common].sum()[None]])
    due = torch.cat([want[common], want[~common].sum()[None]])
    assert len(got) > 15
    statistic = ((got - due) ** 2 / due).sum()
    freedom = torch.tensor(len(due) - 1.0).double()
    return float(torch.special.gammaincc(freedom / 2, statistic / 2))


WAYS = [Sampling(video=Draw(1.0)), Sampling(video=Draw(min_p=0.05), guidance=1.5)]


@pytest.mark.parametrize("way", WAYS, ids=["plain", "guided"])
def test_exact_has_the_distribution_of_one_by_one(
    ahead: Decoder, vocabulary: Vocabulary, way: Sampling
) -> None:
    for parameter in ahead.parameters():  # softer, so that blocks are many
        parameter.data *= 0.7
    grammar, prompts = Grammar(vocabulary), film_prompts(vocabulary, "red falls")
    chances = block_chances(ahead, vocabulary, prompts[0], way)
    assert float(chances.sum()) == pytest.approx(1)

    def found(sampling: Sampling) -> float:
        states = continue_streams(ahead, grammar, prompts * 1500, sampling=sampling, num_items=1)
        return misfit(states, chances)

    assert found(replace(way, parallel=3)) > 1e-3
    assert found(replace(way, parallel=3, exact=False)) < 1e-6  # and it can tell


def test_judging_keeps_as_much_as_can_be() -> None:
    """A proposal is kept with probability 1 - (total variation): no rule keeps more."""
    foretold = torch.tensor([0.5, 0.3, 0.2, 0.0]).double().expand(40_000, 1, 4)
    truth = torch.tensor([0.2, 0.3, 0.1, 0.4]).double().expand(40_000, 1, 4)
    torch.manual_seed(0)
    drawn = foretold[:, 0].multinomial(1)
    luck, again = torch.rand(2, 40_000, 1, dtype=torch.float64)
    counts = torch.ones(40_000, dtype=torch.int64)
    kept, anew = judge(drawn, foretold, truth, counts, luck, again)
    assert float(kept.double().mean()) == pytest.approx(0.6, abs=0.01)
    final = torch.where(kept > 0, drawn[:, 0], anew)
    shares = torch.bincount(final, minlength=4) / len(final)
    torch.testing.assert_close(shares.double(), truth[0, 0], atol=0.01, rtol=0)


SHAPES = [
    {},
    {"summary": 5, "regional": 1},
    {"kv_heads": 4},
    {"qk_norm": False, "num_slots": 0},
    {"tied": True, "code_dim": 0},
]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("lengths", [[5], [4, 4], [3, 7, 5]], ids=str)
@torch.inference_mode()
def test_several_tokens_are_read_as_by_the_decoder(
    vocabulary: Vocabulary, shape: dict[str, int], lengths: list[int]
) -> None:
    """Rows keep part of what was read, and go on at lengths of their own, to the context's end."""
    torch.manual_seed(0)
    config = tiny_config(vocabulary, context=12, **shape)
    decoder = Decoder(config, torch.randn(CODES, config.code_dim)).eval()
    for parameter in decoder.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    step, luck = Step(decoder), torch.Generator().manual_seed(1)
    texts = [list(range(n)) for n in lengths]
    spots = [[0] * n for n in lengths]
    cache, _ = prefill(decoder, list(zip(texts, spots, strict=True)), room=9, spare=4)
    for kept in ([1, 4, 2], [3, 1, 3], [1, 1, 1], [3, 1, 2]):
        begin = torch.tensor([len(text) for text in texts]) - torch.tensor(lengths)
        ids, slots = blocks_of_six(vocabulary, begin[:, None] + torch.arange(4), luck)
        before, room = cache.lengths, config.context - max(map(len, texts))
        counts = [min(count, room) for count, _ in zip(kept, texts, strict=False)]
        states = step.read_several(ids, slots, cache)
        cache.trim(before + torch.tensor(counts))
        for row, count in enumerate(counts):
            texts[row] += ids[row, :count].tolist()
            spots[row] += slots[row, :count].tolist()
            read, places = torch.tensor([texts[row]]), torch.tensor([spots[row]])
            want = decoder(read, slots=places)[0, len(texts[row]) - count :]
            torch.testing.assert_close(states[row, :count], want, rtol=1e-4, atol=1e-5)
    assert max(map(len, texts)) > config.context - 4  # where padding went beyond it


def test_the_command_draws_several(heads: Model, tmp_path: Path) -> None:
    heads.save(tmp_path / "model")
    for exact in (True, False):
        out, again = tmp_path / f"{exact}.mkv", tmp_path / f"{exact}2.mkv"
        for path in (out, again):
            generate(path, tmp_path / "model", "red", parallel=3, exact=exact, min_p=0.0, seed=5)
        assert torch.equal(read_clip(out).frames, read_clip(again).frames)
    one = tmp_path / "one.mkv"
    generate(one, tmp_path / "model", "red", min_p=0.0, seed=5)
    films = [read_clip(tmp_path / f"{name}.mkv").frames for name in ("True", "False", "one")]
    assert not torch.equal(films[0], films[1]) and not torch.equal(films[1], films[2])


def test_requests_and_evaluation_draw_several(heads: Model, tmp_path: Path) -> None:
    heads.save(tmp_path / "model")
    way = {"prompt": "red", "parallel": 3, "min_p": 0.0, "seed": 5}
    ways = (True, False)
    asked = [{**way, "exact": exact, "out": str(tmp_path / f"{exact}.mkv")} for exact in ways]
    lines = "".join(json.dumps(request) + "\n" for request in asked)
    (tmp_path / "in.jsonl").write_text(lines)
    report = run_requests("generate", tmp_path / "in.jsonl", tmp_path / "o", tmp_path / "model")
    assert report.failed == 0
    for request in asked:
        film = heads.generate("red", seed=5, parallel=3, exact=request["exact"], min_p=0.0)
        assert torch.equal(read_clip(request["out"]).frames, film.frames)
    found = [
        evaluate("scenes:easy", tmp_path / "model", num_clips=2, num_films=2, min_p=0.0, parallel=n)
        for n in (1, 3)
    ]
    assert found[1].protocol["films"] == found[0].protocol["films"] + ", 3 codes a step"
    with pytest.raises(ValueError, match="parallel=9: this model foretells"):
        evaluate("scenes:easy", tmp_path / "model", num_clips=2, num_films=2, parallel=9)


def test_a_video_is_continued_by_several(heads: Model, clips: list[Clip]) -> None:
    ways = [Sampling(video=Draw(0.0), parallel=parallel) for parallel in (1, 3)]
    films = [heads.continue_video(clips[0], 0.5, "red", sampling=way) for way in ways]
    assert torch.equal(films[0].frames, films[1].frames)


# Learning


@pytest.fixture
def sequences(corpus: Corpus) -> list[Sequence]:
    mixture = Mixture(prompt_text=0.5, prompt_video=0.25, branch=0.5, captions=2, rates=(1,))
    documents = Documents(corpus, mixture, context=128, seed=3)
    return [s for step in range(2) for s in documents.draw(step, list(range(len(corpus))))]


def test_the_loss_is_that_of_the_definition(
    ahead: Decoder, sequences: list[Sequence], vocabulary: Vocabulary
) -> None:
    """State by state, head by head: codes of the same block alone."""
    decoder = ahead.double()
    start, mark = vocabulary.video_start, vocabulary.special("<block>")
    total, codes = 0.0, 0.0
    maps = decoder.state_dict()["ahead.maps.weight"].unflatten(0, (AHEAD - 1, -1))
    for s in sequences:
        hidden = decoder(
            s.ids[None], slots=s.slots[None], positions=s.positions[None], segments=s.segments[None]
        )[0].detach()
        ids = s.ids.tolist()
        for i in range(len(ids)):
            codes += float(s.weights[i]) * (ids[i] >= start)
            if ids[i] != mark and ids[i] < start:
                continue  # a code follows a mark or a code
            for k in range(1, AHEAD):
                after = ids[i + 1 : i + 2 + k]
                if len(after) <= k or min(after) < start:
                    continue
                state = hidden[i] + F.silu(maps[k - 1] @ hidden[i])
                scores = decoder.logits(state, start).log_softmax(-1).detach()
                total -= float(s.weights[i + 1 + k]) * float(scores[after[k] - start])
    got = language_loss(decoder, [pad(sequences, vocabulary)], ahead_weight=0.7)
    assert float(got.ahead) == pytest.approx(total / codes / (AHEAD - 1), rel=1e-6)
    without = language_loss(decoder, [pad(sequences, vocabulary)])
    torch.testing.assert_close(got.total, without.total + 0.7 * got.ahead)


@pytest.mark.parametrize("row", [None, 128])
@pytest.mark.parametrize("parts", [1, 3])
def test_rows_and_passes_change_nothing(
    ahead: Decoder, sequences: list[Sequence], vocabulary: Vocabulary, row: int | None, parts: int
) -> None:
    decoder, recipe = ahead.double(), Recipe(ahead=0.5)

    def gradients(losses: list[Tensor]) -> dict[str, Tensor]:
        decoder.zero_grad()
        for loss in losses:
            loss.backward()
        return {
            name: p.grad.clone() for name, p in decoder.named_parameters() if p.grad is not None
        }

    want = training_loss(decoder, [pad(sequences, vocabulary)], recipe)
    wanted = gradients([want.total])
    assert bool(wanted["ahead.maps.weight"].any())
    got = [
        training_loss(decoder, each, recipe)
        for each in passes(sequences, vocabulary, parts=parts, row=row)
    ]
    torch.testing.assert_close(torch.stack([g.ahead for g in got]).sum(), want.ahead)
    for name, gradient in gradients([g.total for g in got]).items():
        torch.testing.assert_close(gradient, wanted[name], rtol=1e-5, atol=1e-9, msg=name)
    packed = training_loss(decoder, [pack(sequences, vocabulary, 128)], recipe)
    torch.testing.assert_close(packed.ahead, want.ahead)


def test_heads_learn(corpus: Corpus, vocabulary: Vocabulary) -> None:
    """Codes of few clips are learned by heart, those two places on as well."""
    torch.manual_seed(0)
    decoder = Decoder(tiny_config(vocabulary, ahead=AHEAD, width=32), torch.randn(CODES, 3))
    learner = Learner(decoder, Recipe(ahead=1.0))
    documents = Documents(corpus, Mixture(generate=1.0, drop_caption=0.0), context=128)
    batch = [pad(documents.draw(0, list(range(len(corpus)))), vocabulary)]
    before = float(training_loss(decoder, batch, learner.recipe).ahead)
    for step in range(60):
        learner.step(batch, step / 60)
    after = float(training_loss(learner.finished(), batch, learner.recipe).ahead)
    assert after < before / 2


# Models


@pytest.fixture
def heads(model: Model) -> Model:
    """The shared model, with heads."""
    torch.manual_seed(1)
    config = replace(model.decoder.config, ahead=AHEAD)
    decoder = Decoder(config, model.decoder.code_features)
    decoder.load_state_dict(model.decoder.state_dict(), strict=False)
    assert decoder.ahead is not None
    torch.nn.init.normal_(decoder.ahead.maps.weight, std=0.3)
    return Model(decoder, model.vocabulary, model.codec)


@pytest.mark.parametrize("exact", [True, False])
def test_a_loaded_model_films_alike(heads: Model, tmp_path: Path, exact: bool) -> None:
    heads.save(tmp_path / "model")
    again = Model.load(tmp_path / "model")
    films = [
        m.generate("a red ball", seed=3, parallel=3, exact=exact).frames for m in (heads, again)
    ]
    assert torch.equal(*films)
    other = heads.generate("a red ball", seed=4, parallel=3, exact=exact).frames
    assert not torch.equal(films[0], other)


def test_without_parallel_heads_change_nothing(heads: Model, model: Model) -> None:
    films = [m.generate("a red ball", seed=3).frames for m in (heads, model)]
    assert torch.equal(*films)


def test_an_export_leaves_heads_out(ahead: Decoder, vocabulary: Vocabulary, tmp_path: Path) -> None:
    config = replace(ahead.config, num_slots=0)
    more = Decoder(config, ahead.code_features)
    plain = Decoder(replace(config, ahead=1), ahead.code_features)
    plain.load_state_dict(more.state_dict(), strict=False)
    for name, decoder in (("more", more), ("plain", plain)):
        export_model(decoder, vocabulary, tmp_path / name)
    for file in ("config.json", "generation_config.json"):
        assert (tmp_path / "more" / file).read_text() == (tmp_path / "plain" / file).read_text()
    found, want = (load_file(tmp_path / name / "model.safetensors") for name in ("more", "plain"))
    assert found.keys() == want.keys() and all(torch.equal(found[k], want[k]) for k in want)


def test_what_cannot_be_is_refused(heads: Model, model: Model) -> None:
    with pytest.raises(ValueError, match="train it with --model.sizes.ahead 2"):
        model.generate("a red ball", parallel=2)
    with pytest.raises(ValueError, match="foretells 3 codes"):
        heads.generate("a red ball", parallel=4)
    with pytest.raises(ValueError, match="parallel=0"):
        Sampling(parallel=0)
    with pytest.raises(ValueError, match="ahead=0"):
        Sizes(ahead=0)


def test_engines_refuse(heads: Model, tmp_path: Path) -> None:
    heads.save(tmp_path / "model")
    other = Model.load(tmp_path / "model", engine="torch:int8")
    with pytest.raises(ValueError, match="only torch's has heads"):
        other.generate("a red ball", parallel=2)
    assert len(other.generate("a red ball"))
