"""What a training is said to take is what the real network has and keeps."""

from pathlib import Path
from typing import Any

import pytest
import torch

from lm.learning import Recipe
from lm.model import Decoder, DecoderConfig
from lm.plan_training import TrainingPlan, _shape, plan_training, read_configs
from lm.training_cost import count_parameters, kept_for_backward, memory

CONFIGS = Path(__file__).parents[1] / "configs" / "lm"
NAMED = {"15m": 15e6, "110m": 110e6, "1b": 1e9, "7b": 7e9}


def shape(**changes: Any) -> DecoderConfig:
    fields = {"width": 32, "layers": 2, "heads": 4, "kv_heads": 2, "head_dim": 8, "hidden": 48}
    ids = {"num_ids": 90, "video_start": 50, "code_dim": 5, "num_slots": 7, "summary": 3}
    return DecoderConfig(**{**fields, **ids, "context": 64, **changes})


def plan(name: str, *more: Path, **options: Any) -> TrainingPlan:
    files = [CONFIGS / "base.yaml", CONFIGS / "size" / f"{name}.yaml", *more]
    return plan_training(files, flops=1e14, precision="bf16-mixed", **options)


@pytest.mark.parametrize("name", NAMED)
def test_parameters_are_those_of_the_network(name: str) -> None:
    sizes = read_configs([CONFIGS / "base.yaml", CONFIGS / "size" / f"{name}.yaml"]).model.sizes
    config = _shape(sizes, 512, 1000)
    with torch.device("meta"):
        decoder = Decoder(config)
    counts = count_parameters(config)
    assert counts.total == decoder.num_parameters
    blocks = [p for block in decoder.blocks for p in block.parameters()]
    assert counts.matrices == sum(p.numel() for p in blocks if p.ndim > 1)
    assert counts.gains == sum(p.numel() for p in blocks if p.ndim == 1)
    assert plan(name).parameters == pytest.approx(NAMED[name], rel=0.05)


OTHERS = [{"tied": True}, {"code_dim": 0}, {"num_slots": 0}, {"ahead": 4}]
OTHERS += [{"summary": 0}, {"summary": 11, "regional": 2, "num_slots": 20}]


@pytest.mark.parametrize("changes", OTHERS)
def test_parameters_of_other_shapes(changes: dict[str, Any]) -> None:
    config = shape(**changes)
    assert count_parameters(config).total == Decoder(config).num_parameters


@pytest.mark.parametrize("packed", [False, True])
def test_what_is_kept_is_what_a_real_pass_keeps(packed: bool) -> None:
    config, kept = shape(), {}
    decoder = Decoder(config)
    own = {p.untyped_storage().data_ptr() for p in (*decoder.parameters(), *decoder.buffers())}

    def keep(x: torch.Tensor) -> torch.Tensor:
        if x.untyped_storage().data_ptr() not in own:
            kept[x.untyped_storage().data_ptr()] = x
        return x

    ids = torch.randint(50, 90, (3, 64))
    more = {"positions": ids * 0, "segments": ids * 0} if packed else {}
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        hidden = decoder(ids, slots=ids * 0 + config.summary, **more)
        logits = decoder.logits(hidden, 50)
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids.flatten() - 50)
    want = sum(x.untyped_storage().nbytes() for x in kept.values()) + logits.numel() * 4
    got = kept_for_backward(config, 3, 64, bf16=False, recipe=Recipe(), packed=packed)
    assert got == pytest.approx(want, rel=0.02)


def test_recomputed_blocks_keep_little() -> None:
    def kept(layers: int, checkpointing: bool) -> int:
        recipe = Recipe(checkpointing=checkpointing)
        config = shape(layers=layers)
        return kept_for_backward(config, 3, 64, bf16=False, recipe=recipe, packed=False)

    one_more = kept(3, False) - kept(2, False), kept(3, True) - kept(2, True)
    assert one_more[1] < one_more[0] / 5
    assert one_more[1] >= 3 * 64 * 32 * 4  # its input


def test_sharding_divides_states_and_nothing_else() -> None:
    config, recipe = shape(), Recipe(matrices="adamw", average=0.9)
    alone, ddp, fsdp = (
        memory(config, recipe, 100.0, n, s) for n, s in ((1, False), (8, False), (8, True))
    )
    total = 4 * Decoder(config).num_parameters
    assert (alone.weights, alone.gradients, alone.optimizer) == (2 * total, total, 2 * total)
    assert ddp.weights == alone.weights and ddp.peak > alone.peak
    for name in ("weights", "gradients", "optimizer"):
        assert getattr(fsdp, name) == getattr(alone, name) / 8
    assert fsdp.activations == alone.activations


def test_a_plan_is_arithmetic_on_what_a_device_does() -> None:
    found = plan("110m", devices=[1, 4], num_tokens=1e9)
    assert [(p.devices, p.strategy) for p in found.plans] == [(1, "alone"), (4, "ddp"), (4, "fsdp")]
    alone, ddp, _ = found.plans
    assert not found.measured and found.achieved == pytest.approx(4e13)
    assert alone.tokens_per_second < found.achieved / found.operations_per_token
    assert alone.days == pytest.approx(1e9 / alone.tokens_per_second / 86400)
    assert 3 < ddp.tokens_per_second / alone.tokens_per_second <= 4
    lean = plan("110m", CONFIGS / "recipe" / "saving-memory.yaml", devices=[1])
    assert lean.plans[0].activations < alone.activations / 4


def test_without_flops_this_machine_is_measured() -> None:
    found = plan_training([CONFIGS / "base.yaml"], [1], precision="32-true")
    assert found.measured and found.achieved > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"devices": [0]}, "devices="),
        ({"utilisation": 0.0}, "utilisation=0: give a number above 0"),
        ({"num_tokens": -1.0}, "num_tokens=-1"),
    ],
)
def test_senseless_questions_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plan("15m", **options)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("model: {recipe: {lr: -1}}", "recipe.lr=-1.0: give 0 or more"),
        ("model: {recipe: {schedule: {floor: 5}}}", "schedule.floor=5.0: give a share, 0 to 1"),
        ("model: {sizes: {rope_scaling: [1, 2]}}", "rope_scaling=.*: give four numbers above 0"),
        ("trainer: {accumulate_grad_batches: 0}", "accumulate_grad_batches=0: give at least 1"),
        ("trainer: {devices: 0}", "trainer.devices=0: give at least 1"),
    ],
)
def test_what_a_training_refuses_is_not_planned(
    settings: str, message: str, tmp_path: Path
) -> None:
    (tmp_path / "wrong.yaml").write_text(settings)
    with pytest.raises(ValueError, match=message):
        plan("15m", tmp_path / "wrong.yaml")
