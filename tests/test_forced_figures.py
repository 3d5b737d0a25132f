"""Teacher-forced figures: what they take for true, and that greedy decoding forces to itself."""

import pytest
import torch

from data.clip import Clip
from lm.completing import GREEDY
from lm.drawing import Sampling
from lm.evaluate import evaluate
from lm.filming import film, plan_shot
from lm.forced_figures import forced_video
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


def test_evaluation_at_a_lower_rate(model: Model, clips: list[Clip]) -> None:
    full = evaluate(model, clips[:2], num_films=1)
    with pytest.warns(UserWarning, match="a rate the model was not trained at"):
        low = evaluate(model, clips[:2], num_films=1, tokens_per_frame=1)
    assert low.protocol["tokens_per_frame"] == "1"
    tokens = model.encode(clips[0])
    share = tokens.keep(tokens.block_frames).num_tokens / tokens.num_tokens
    cost, less = full.value("video_cost"), low.value("video_cost")
    assert 0.5 * share < less / cost < 1.5 * share  # bits a frame of as many fewer codes
    names = {figure.name for figure in low.figures}
    assert {"caption_cost", "continue_psnr", "continue_psnr_unguided"} <= names
