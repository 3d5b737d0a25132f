"""The bytes of a block's frame times: ticks of a clock where that gives back the very same numbers.

It knows seconds, not blocks, records or files.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from fractions import Fraction

from tokenizer.varints import read_byte, read_varint, varint

_TIME = struct.Struct("<d")
_RAW, _EVEN, _TICKS = 0, 1, 2  # how a block's times are written
_MAX_CLOCK = 10**6  # ticks a second that times are looked for in


def check_times(times: Sequence[float], after: float = -math.inf) -> None:
    """ValueError unless times are finite and increase, from later than `after` on."""
    for time in times:
        if not after < time < math.inf:
            raise ValueError(f"a frame at {time:g} s after one at {after:g} s: times must increase")
        after = time


def pack_times(times: Sequence[float]) -> bytes:
    """Seconds as ticks of a clock where that gives back the very same numbers."""
    found = _ticks(times)
    if found is None:
        return bytes([_RAW]) + struct.pack(f"<{len(times)}d", *times)
    clock, ticks = found
    steps = [after - before for before, after in zip(ticks, ticks[1:], strict=False)]
    lead = varint(clock) + varint(ticks[0])
    if len(set(steps)) <= 1:
        return bytes([_EVEN]) + lead + b"".join(map(varint, steps[:1]))
    return bytes([_TICKS]) + lead + b"".join(map(varint, steps))


def going_on(before: Sequence[float], count: int) -> tuple[float, ...] | None:
    """The next times after evenly spaced ones; None where those are not, or on no clock."""
    found = _ticks(before) if len(before) > 1 else None
    if found is None:
        return None
    clock, ticks = found
    step = ticks[1] - ticks[0]
    if any(b - a != step for a, b in zip(ticks, ticks[1:], strict=False)):
        return None
    return tuple((ticks[-1] + step * (i + 1)) / clock for i in range(count))


def unpack_times(body: bytes, place: int, count: int) -> tuple[tuple[float, ...], int]:
    how, place = read_byte(body, place)
    if how == _RAW:
        stop = place + _TIME.size * count
        if stop > len(body):
            raise ValueError("a block ends within its times")
        return struct.unpack_from(f"<{count}d", body, place), stop
    clock, place = read_varint(body, place)
    tick, place = read_varint(body, place)
    if how not in (_EVEN, _TICKS) or clock < 1:
        raise ValueError("times on no clock")
    steps = []
    for _ in range(min(1, count - 1) if how == _EVEN else count - 1):
        step, place = read_varint(body, place)
        steps.append(step)
    ticks = [tick]
    for step in steps * (count - 1) if how == _EVEN else steps:
        ticks.append(ticks[-1] + step)
    return tuple(tick / clock for tick in ticks), place


def _ticks(times: Sequence[float]) -> tuple[int, list[int]] | None:
    """A clock in ticks a second, and each time in its ticks; None where none gives them exactly."""
    clock = 1
    for time in times:
        if not 0 <= time < 1e9:
            return None
        clock = math.lcm(clock, Fraction(time).limit_denominator(_MAX_CLOCK).denominator)
        if clock > _MAX_CLOCK:
            return None
    ticks = [round(time * clock) for time in times]
    exact = all(tick / clock == time for tick, time in zip(ticks, times, strict=True))
    return (clock, ticks) if exact else None
