"""Every quantizer keeps the face's promises."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml

from lm.learning import code_features
from tokenizer.backbone import ConvBackbone
from tokenizer.codec import Codec
from tokenizer.learning import Learner
from tokenizer.quantizer import (
    BSQ,
    FSQ,
    LFQ,
    QUANTIZERS,
    VQ,
    Quantizer,
    ResidualFSQ,
    ResidualVQ,
    SimVQ,
    Unquantized,
)
from tokenizer.quantizer.face import unfold
from tokenizer.recipe import Recipe

CONFIGS = Path(__file__).parents[1] / "configs" / "tokenizer" / "quantizer"
MADE = {
    "FSQ": lambda: FSQ((8, 5, 5, 5)),
    "FSQ of one level": lambda: FSQ((3,)),
    "FSQ of odd levels": lambda: FSQ((7, 7, 7, 5)),
    "FSQ of even levels": lambda: FSQ((4, 6)),
    "ResidualFSQ": lambda: ResidualFSQ((3, 4), 2),
    "ResidualFSQ of bits": lambda: ResidualFSQ((2, 2, 2), 3),
    "VQ": lambda: VQ(100, 5),
    "ResidualVQ": lambda: ResidualVQ(12, 3, 4),
    "SimVQ": lambda: SimVQ(100, 5),
    "LFQ": lambda: LFQ(7),
    "BSQ": lambda: BSQ(7),
}


@pytest.fixture(params=MADE)
def quantizer(request: pytest.FixtureRequest) -> Quantizer:
    """A quantizer in eval mode, after two steps of training where it learns."""
    torch.manual_seed(0)
    made = MADE[request.param]().train()
    optimizer = torch.optim.SGD([*made.parameters(), torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    for _ in range(2):
        vectors = torch.randn(4, 50, made.dim, requires_grad=True)
        out = made(vectors)
        (out.loss + out.quantized.square().mean()).backward()
        optimizer.step()
    return made.eval()


def test_every_family_is_here() -> None:
    kinds = {type(make()).__name__ for make in MADE.values()} | {"Unquantized"}
    assert kinds == set(QUANTIZERS)


def test_decode_from_codes_equals_quantized(quantizer: Quantizer) -> None:
    result = quantizer(torch.randn(3, 50, quantizer.dim) * 3)
    assert result.codes.dtype == torch.int64 and result.codes.shape == (3, 50)
    assert torch.equal(quantizer.vectors(result.codes), result.quantized)
    assert 0 <= int(result.codes.min()) and int(result.codes.max()) < quantizer.codebook_size
    assert result.loss == 0


def test_every_code_has_its_own_vector_and_comes_back(quantizer: Quantizer) -> None:
    vectors = quantizer.code_vectors()
    assert vectors.shape == (quantizer.codebook_size, quantizer.dim)
    assert len(vectors.unique(dim=0)) == quantizer.codebook_size
    if isinstance(quantizer, FSQ):
        assert vectors.abs().max() <= 1


@pytest.mark.parametrize("kind", [ResidualVQ, ResidualFSQ])
def test_split_depths_are_the_digits_of_the_folded_code(kind: type[Quantizer]) -> None:
    sizes = (12, 3, 4) if kind is ResidualVQ else ((3, 4), 3)
    torch.manual_seed(0)
    folded, split = kind(*sizes).eval(), kind(*sizes, split=True).eval()
    split.load_state_dict(folded.state_dict())
    vectors = torch.randn(2, 9, folded.dim)
    one, parts = folded(vectors), split(vectors)
    assert parts.codes.shape == (2, 3 * 9) and int(parts.codes.max()) < split.codebook_size
    digits = unfold(one.codes, split.codebook_size, 3)
    assert torch.equal(parts.codes, torch.cat(digits, 1))
    assert torch.equal(split.vectors(parts.codes), parts.quantized)
    assert torch.allclose(parts.quantized.unflatten(1, (3, 9)).sum(1), one.quantized)
    with pytest.raises(ValueError, match="set the quantizer's split to false"):
        split.code_vectors()


@pytest.mark.parametrize("rounding", [True, False])
def test_split_depths_pass_the_gradient_of_the_folded(rounding: bool) -> None:
    torch.manual_seed(0)
    folded, split = ResidualVQ(12, 3, 4), ResidualVQ(12, 3, 4, split=True)
    split.load_state_dict(folded.state_dict())
    vectors, pull = torch.randn(2, 9, 4), torch.randn(2, 9, 4)
    gradients, losses = [], []
    for quantizer in (folded, split):
        leaf = vectors.clone().requires_grad_()
        out = quantizer(leaf, rounding)
        summed = out.quantized.unflatten(1, (-1, 9)).sum(1)
        ((summed * pull).sum() + out.loss).backward()
        gradients.append(leaf.grad)
        losses.append(out.loss)
    assert torch.allclose(gradients[0], gradients[1], atol=1e-6) and losses[0] == losses[1]


def test_codes_in_range_and_fp32_under_bf16(quantizer: Quantizer) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = quantizer((torch.randn(2, 200, quantizer.dim) * 5).bfloat16())
        again = quantizer.vectors(result.codes)
    assert result.quantized.dtype == torch.float32 and torch.equal(again, result.quantized)
    assert 0 <= int(result.codes.min()) and int(result.codes.max()) < quantizer.codebook_size


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("rounding", [True, False])
def test_gradient_reaches_the_encoder(quantizer: Quantizer, rounding: bool, training: bool) -> None:
    vectors = torch.randn(2, 9, quantizer.dim, requires_grad=True)
    quantizer.train(training)(vectors, rounding).quantized.pow(3).sum().backward()
    assert vectors.grad is not None and bool((vectors.grad.abs().sum((0, 1)) > 0).all())


def test_rounding_passes_the_gradient_of_the_unrounded(quantizer: Quantizer) -> None:
    vectors = torch.randn(2, 9, quantizer.dim)
    pull = torch.randn(2, 9, quantizer.dim)
    gradients = []
    for rounding in (True, False):
        leaf = vectors.clone().requires_grad_()
        (quantizer(leaf, rounding).quantized * pull).sum().backward()
        gradients.append(leaf.grad)
    assert torch.allclose(gradients[0], gradients[1], atol=1e-6)


def test_the_unrounded_is_bounded_and_takes_the_same_codes(quantizer: Quantizer) -> None:
    vectors = torch.randn(2, 100, quantizer.dim)
    soft, hard = quantizer(vectors, False), quantizer(vectors)
    assert torch.equal(soft.codes, hard.codes)
    assert not torch.equal(soft.quantized, hard.quantized)
    most = max(quantizer.code_vectors().abs().max() + 0.6, quantizer.dim**0.5)  # half a level
    assert quantizer(vectors * 1e4, False).quantized.abs().max() <= most


def test_codes_are_the_nearest_to_the_unrounded(quantizer: Quantizer) -> None:
    vectors = torch.randn(1, 300, quantizer.dim)
    soft, out = quantizer(vectors, False).quantized[0], quantizer(vectors)
    hard, codes = out.quantized[0], quantizer.code_vectors()
    if isinstance(quantizer, ResidualVQ):  # only the first codebook sees the vectors themselves
        codes = quantizer.books[0].table
        hard = codes[unfold(out.codes[0], quantizer.base, len(quantizer.books))[0]]
    elif isinstance(quantizer, FSQ):  # rounds in units of each dimension's spacing
        half = torch.tensor(quantizer.arguments["levels"]) // 2
        soft, hard, codes = soft * half, hard * half, codes * half
    best = torch.cdist(soft, codes).amin(1)
    assert torch.allclose((soft - hard).norm(dim=1), best, atol=1e-3)


def test_a_row_does_not_depend_on_those_beside_it(quantizer: Quantizer) -> None:
    vectors = torch.randn(5, 37, quantizer.dim)
    whole = quantizer(vectors)
    for count in (1, 2):
        part = quantizer(vectors[:count])
        assert torch.equal(part.codes, whole.codes[:count])
        assert torch.equal(part.quantized, whole.quantized[:count])


def test_only_training_passes_with_gradients_change_it(quantizer: Quantizer) -> None:
    def state() -> list[torch.Tensor]:
        return [value.clone() for value in quantizer.state_dict().values()]

    before = state()
    vectors = torch.randn(2, 40, quantizer.dim, requires_grad=True)
    quantizer.eval()(vectors)
    with torch.no_grad():
        assert quantizer.train()(vectors).loss == 0
    assert all(map(torch.equal, before, state()))
    quantizer(vectors)
    counted = [v for k, v in quantizer.state_dict().items() if k.endswith("updates")]
    assert [int(v) for v in counted] == [3] * len(counted)  # two in the fixture and this one


def test_arguments_build_it_again(quantizer: Quantizer) -> None:
    again = QUANTIZERS[type(quantizer).__name__](**quantizer.arguments)
    again.load_state_dict(quantizer.state_dict())
    assert again.arguments == quantizer.arguments
    assert torch.equal(again.code_vectors(), quantizer.code_vectors())


def test_saved_and_loaded_with_its_codec_is_identical(quantizer: Quantizer, tmp_path: Path) -> None:
    codec = Codec(ConvBackbone(quantizer.dim, channels=4, latent_channels=4), quantizer).eval()
    codec.save(tmp_path)
    again = Codec.load(tmp_path)
    frames = torch.randint(0, 256, (9, 3, 16, 16), dtype=torch.uint8)
    tokens = codec.encode(frames)
    assert again.codec_id == codec.codec_id
    assert all(map(torch.equal, again.encode(frames).codes, tokens.codes))
    assert torch.equal(again.decode(tokens).frames, codec.decode(tokens).frames)


def test_streams_and_batches_equal_a_clip_alone(quantizer: Quantizer) -> None:
    backbone = ConvBackbone(quantizer.dim, channels=4, latent_channels=4, summary=2)
    codec = Codec(backbone, quantizer, block_frames=4).eval()
    frames = torch.randint(0, 256, (3, 9, 3, 16, 24), dtype=torch.uint8)
    alone = codec.encode(frames[1])
    assert all(map(torch.equal, codec.encode_batch(frames)[1].codes, alone.codes))
    state, codes = codec.start(), []
    for part in frames[1:2].split((1, 6, 2), 1):
        blocks, state = codec.encode_step(part, state)
        codes += blocks
    codes += codec.finish(state)
    assert all(torch.equal(a[0], b) for a, b in zip(codes, alone.codes, strict=True))


def test_identity_follows_the_codebook() -> None:
    codec = Codec(ConvBackbone(3, channels=4, latent_channels=4), VQ(8, 3))
    name = codec.codec_id
    codec.quantizer(torch.randn(1, 20, 3, requires_grad=True))
    assert codec.codec_id != name


def test_a_language_model_is_told_of_codes(quantizer: Quantizer) -> None:
    features = code_features(quantizer.code_vectors())
    few = {"FSQ", "ResidualFSQ", "LFQ", "BSQ"}  # values of a dimension: told one-hot
    assert features.shape[0] == quantizer.codebook_size and bool(features.isfinite().all())
    assert not features.requires_grad
    assert (features.shape[1] > quantizer.dim) == (type(quantizer).__name__ in few)
    assert code_features(VQ(1024, 8).code_vectors()).shape == (1024, 8)


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_config_trains_and_resumes(path: Path) -> None:
    base = yaml.safe_load((CONFIGS.parent / "base.yaml").read_text())["model"]
    delta = yaml.safe_load(path.read_text())["model"]
    dim = delta.get("backbone", base["backbone"])["init_args"]["dim"]
    frames = torch.randint(0, 256, (3, 4, 4, 3, 16, 16), dtype=torch.uint8)

    def make() -> Learner:
        torch.manual_seed(0)
        part = delta["quantizer"]
        quantizer = QUANTIZERS[part["class_path"]](**part["init_args"])
        backbone = ConvBackbone(dim, channels=4, latent_channels=4, latent_blocks=0)
        codec = Codec(backbone, quantizer, block_frames=4)
        return Learner(codec, Recipe(crop=0, average=0.0))

    straight, stopped, resumed = make(), make(), make()
    for i, clips in enumerate(frames):
        report = straight.step(clips, i / 3)
        assert not report.skipped
        if i < 2:
            stopped.step(clips, i / 3)
    resumed.load_state_dict(stopped.state_dict())
    resumed.step(frames[2], 2 / 3)
    assert resumed.finished().codec_id == straight.finished().codec_id


@pytest.mark.parametrize("levels", [(2, 5), (), (256, 256, 257)])
def test_levels_that_cannot_work(levels: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="FSQ wants levels"):
        FSQ(levels)


def test_other_arguments_that_cannot_work() -> None:
    with pytest.raises(ValueError, match="num_codes=1000, depth=3: 1000000000 codes, .* 2 to 2"):
        ResidualVQ(1000, 3)
    with pytest.raises(ValueError, match="num_codes=1, dim=4: give at least 2"):
        SimVQ(1, 4)
    with pytest.raises(ValueError, match="num_codes=9, dim=1: give at least 2"):
        VQ(9, 1)
    with pytest.raises(ValueError, match="decay=1.5"):
        VQ(9, 4, decay=1.5)
    with pytest.raises(ValueError, match="bits=25"):
        LFQ(25)
    with pytest.raises(ValueError, match="temperature=0"):
        BSQ(4, temperature=0)
    with pytest.raises(ValueError, match="levels of at least 2"):
        ResidualFSQ((1, 4))
    with pytest.raises(ValueError, match="depth=9: 134217728 codes"):
        ResidualFSQ((2, 2, 2), 9)


def test_unquantized_passes_vectors_and_cannot_decode() -> None:
    vectors = torch.randn(1, 3, 4)
    result = Unquantized(4)(vectors)
    assert torch.equal(result.quantized, vectors) and int(result.codes.max()) == 0
    with pytest.raises(ValueError, match="no codes to decode"):
        Unquantized(4).vectors(result.codes)
