"""Teacher-forced figures: what they take for true, and that greedy decoding forces to itself."""

import torch

from data.clip import Clip
from lm.batches import pad
from lm.completing import GREEDY
from lm.document import Document, Task, Text, Video
from lm.evaluate import evaluate
from lm.filming import film, plan_shot
from lm.forced_figures import forced_caption, forced_video
from lm.sampling import Sampling
from lm.sequence import write
from lm.tasks import Model


def test_a_greedy_film_is_its_own_forced_one(model: Model) -> None:
    shot = plan_shot(model.vocabulary, model.framing)
    sampling = Sampling(video=GREEDY, guidance=1.0)
    (made,) = film(model.decoder, model.grammar, ["a red circle"], [0], shot, sampling)
    forced = forced_video(model, made, "a red circle")
    assert all(torch.equal(a, b) for a, b in zip(forced.codes, made.codes, strict=True))
    other = made.codes[0].clone()
    other[-1] = (other[-1] + 1) % made.codebook_size  # nothing before it changes
    wrong = forced_video(
        model, type(made)(**{**vars(made), "codes": (other, *made.codes[1:])}), "a red circle"
    )
    assert torch.equal(wrong.codes[0], made.codes[0])


def test_a_forced_caption_reads_prefixes_of_the_true_one(model: Model, clips: list[Clip]) -> None:
    seen = model.encode(clips[0])
    items = Task("watch"), Video(seen), Text("caption", "a red circle stops")
    ids = pad([write(Document.of(*items), model.vocabulary)], model.vocabulary).ids[0].tolist()
    text = model.vocabulary.encode_text("a red circle stops")
    at = next(i for i in range(len(ids)) if ids[i : i + len(text)] == text)
    stop = model.vocabulary.special("<stop>")
    allowed = torch.tensor(
        [stop, *range(model.vocabulary.text_start, model.vocabulary.video_start)]
    )
    said = []
    row = pad([write(Document.of(*items), model.vocabulary)], model.vocabulary)
    for end in range(at, at + len(text) + 1):
        hidden = model.decoder(row.ids[:, :end], slots=row.slots[:, :end])[0, -1]
        logits = model.decoder.logits(hidden, 0, model.vocabulary.video_start)
        said.append(int(allowed[logits[allowed].argmax()]))
    expected = model.vocabulary.decode_text(i for i in said if i != stop)
    assert forced_caption(model, seen, "a red circle stops") == expected


def test_evaluation_at_a_lower_rate(model: Model, clips: list[Clip]) -> None:
    full = evaluate(model, clips[:2], num_films=1)
    low = evaluate(model, clips[:2], num_films=1, tokens_per_frame=1)
    assert low.protocol["tokens_per_frame"] == "1"
    tokens = model.encode(clips[0])
    share = tokens.keep(tokens.block_frames).num_tokens / tokens.num_tokens
    cost, less = full.value("video_cost"), low.value("video_cost")
    assert 0.5 * share < less / cost < 1.5 * share  # bits a frame of as many fewer codes
    names = {figure.name for figure in low.figures}
    assert "caption_forced_exact" in names and "continue_psnr" not in names
