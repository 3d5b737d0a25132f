"""Stub."""

WorldReport = None


def write_world(*a, **k): ...
