"""What settings a resumed run has that it did not have before.

Compares the config.yaml that a run keeps with the one it is to go on with. Knows no trainer.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml

# Where a run lies, how often it reports and how fast it is make no other run of it.
FREE = ("out", "ckpt_path", "restart", "checkpoint_every", "data.workers", "trainer.logger")
FREE = (*FREE, "trainer.default_root_dir", "trainer.enable_", "trainer.log_every_n_steps")


def changed_settings(before: str, now: str) -> list[str]:
    """Settings of two config files that differ, such as `data.batch_size=8 (16 before)`.

    Args:
        before: The text of the first, YAML; nothing can be said of one that is no YAML.
        now: The text of the second.
    """
    try:
        old = dict(_flat(yaml.safe_load(before)))
    except yaml.YAMLError:
        return []
    new = dict(_flat(yaml.safe_load(now)))
    return [
        f"{name}={new.get(name)} ({old.get(name)} before)"
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name) and not name.startswith(FREE)
    ]


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else str(key))
    else:
        yield name, value
