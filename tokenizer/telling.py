"""What users are told of an error, in one line. Knows no command."""

from __future__ import annotations

import errno

_REMEDIES = {
    errno.ENOENT: "check the path",
    errno.EACCES: "change its permissions or give another place",
    errno.EPERM: "change its permissions or give another place",
    errno.EROFS: "give a place that can be written to",
    errno.ENOSPC: "make room or give another place",
    errno.EDQUOT: "make room or give another place",
    errno.ENAMETOOLONG: "give a shorter name",
    errno.EEXIST: "give another name, or move that away",
    errno.ENOTDIR: "one of its folders is a file, give another place",
}


def reason_of(error: Exception) -> str | None:
    """What a user is told of an error, in one line; None for one that is ours to mend."""
    if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
        return "not enough memory: give fewer or smaller clips (--height, --width, --num-frames)"
    if isinstance(error, RuntimeError):
        return None
    if isinstance(error, OSError) and error.strerror:
        place = "" if error.filename is None else f"{error.filename}: "
        remedy = _REMEDIES.get(error.errno or 0)
        return f"{place}{error.strerror.lower()}" + (f"; {remedy}" if remedy else "")
    return " ".join(str(error).split())
