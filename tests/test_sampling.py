"""Samplers: kept frames carry their own true times, whatever the rate."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from data.clip import Clip
from data.sampling import EveryNth, Sampler, TargetFps, Uniform, Window, parse_sampler, sample


def clip_of(times):
    frames = torch.arange(len(times), dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 2, 2)
    return Clip(frames.contiguous(), torch.tensor(times, dtype=torch.float64))


gaps = st.lists(st.floats(0.001, 2.0), min_size=0, max_size=40)
samplers = st.one_of(
    st.integers(1, 50).map(Uniform),
    st.integers(1, 50).map(EveryNth),
    st.floats(0.1, 200).map(TargetFps),
    st.builds(Window, st.integers(1, 50), st.just(0.0), st.integers(1, 5)),
)


@given(gaps, samplers, st.floats(0, 100))
def test_times_are_true_and_order_is_kept(gaps, sampler, origin):
    times = torch.tensor([origin, *gaps], dtype=torch.float64).cumsum(0)
    clip = clip_of(times.tolist())
    if isinstance(sampler, Window):
        sampler = Window(sampler.num_frames, origin, sampler.stride)
    kept = sample(clip, sampler)
    shown = kept.frames[:, 0, 0, 0].long()
    assert (kept.timestamps == clip.timestamps[shown]).all()
    assert 1 <= len(kept) <= len(clip)
    assert shown[0] == 0 or sampler == Uniform(1)


@pytest.mark.parametrize("native", [5, 12.5, 23.976, 24, 25, 29.97, 30, 60])
@pytest.mark.parametrize("target", [0.5, 1, 2, 7.3, 8, 24, 29.97, 61, 1000])
def test_target_fps(native, target):
    """LLaVA-NeXT strode by round(native / target): stride 0 above the native rate, and its times
    were multiples of the stride instead of seconds."""
    times = torch.arange(100, dtype=torch.float64) / native
    kept = times[TargetFps(target).select(times)]
    if target >= native:
        assert len(kept) == 100  # all there is, nothing invented
        return
    grid = torch.arange(len(kept), dtype=torch.float64) / target
    assert float((kept - grid).abs().max()) <= 0.5 / native + 1e-6
    assert abs(len(kept) - 100 * target / native) <= 1


def test_target_fps_goes_by_time_not_by_number():
    times = [0, 0.01, 0.02, 0.03, 0.5, 1.0, 1.01, 1.02, 3.0]
    kept = TargetFps(2).select(torch.tensor(times))
    assert kept.tolist() == [0, 4, 5, 7, 8]  # nothing nearer to 1.5 than 1.02 and then 3.0
    assert TargetFps(10).select(torch.tensor([4.0])).tolist() == [0]


@given(st.integers(1, 300), st.integers(1, 300))
def test_uniform(total, wanted):
    kept = Uniform(wanted).select(torch.arange(total) / 24)
    assert len(kept) == min(total, wanted)
    if 1 < wanted < total:
        steps = kept.diff()
        assert kept[0] == 0 and kept[-1] == total - 1
        assert int(steps.max() - steps.min()) <= 1


def test_every_and_window():
    times = torch.arange(10) / 4
    assert EveryNth(4).select(times).tolist() == [0, 4, 8]
    assert Window(3, start=0.5).select(times).tolist() == [2, 3, 4]
    assert Window(3, start=0.51, stride=2).select(times).tolist() == [3, 5, 7]
    assert Window(9, start=2.0).select(times).tolist() == [8, 9]
    with pytest.raises(ValueError, match="starts at 3.0 s but the last frame is at 2.250 s"):
        Window(3, start=3.0).select(times)


def test_parse():
    for text, sampler in (
        ("uniform:16", Uniform(16)),
        ("every:3", EveryNth(3)),
        ("fps:7.5", TargetFps(7.5)),
        ("window:16", Window(16)),
        ("window:16@1.5", Window(16, 1.5)),
        ("window:16@1.5/2", Window(16, 1.5, 2)),
    ):
        assert parse_sampler(text) == sampler and isinstance(sampler, Sampler)
    for wrong in (
        "",
        "uniform",
        "uniform:0",
        "every:-1",
        "fps:0",
        "fps:nan",
        "window:x",
        "first:3",
    ):
        with pytest.raises(ValueError, match="write e.g. uniform:16") as error:
            parse_sampler(wrong)
        assert f"'{wrong}'" in str(error.value)
