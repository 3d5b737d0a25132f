"""Times in the stream: seconds spelled in digit tokens, and the machine that reads them back.

    time = <at> seconds [<for> seconds] <stop>        seconds = digits [<.> digits]

The first is when something begins, the second how long it lasts; without it, a moment. Decimals
go down to milliseconds and never end in 0, so every time has one spelling. Knows digit tokens
only.
"""

from __future__ import annotations

from lm.vocabulary import Vocabulary

MOST_SECONDS = 99_999_999  # whole seconds that a time may hold
DECIMALS = 3


def spell_time(start_ms: int, length_ms: int | None) -> list[str]:
    """Names of the special tokens of a time, `<stop>` included.

    Raises:
        ValueError: a time before 0, beyond `MOST_SECONDS`, or of no length.
    """
    names = ["<at>", *_spell_seconds(start_ms)]
    if length_ms is not None:
        if length_ms < 1:
            raise ValueError(f"a time that lasts {length_ms} ms: give an end after its start")
        names += ["<for>", *_spell_seconds(length_ms)]
    return [*names, "<stop>"]


def _spell_seconds(ms: int) -> list[str]:
    whole, rest = divmod(ms, 10**DECIMALS)
    if not 0 <= whole <= MOST_SECONDS:
        raise ValueError(f"{ms / 1000:g} s: a time lies between 0 and {MOST_SECONDS} s")
    decimals = f"{rest:0{DECIMALS}d}".rstrip("0")
    return [f"<{d}>" for d in str(whole)] + [f"<{d}>" for d in decimals and "." + decimals]


class TimeReader:
    """A time being read, after its `<at>`.

    start, length: milliseconds; length is None for a moment.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.start, self.length = 0, None
        self._zero = vocabulary.special("<0>")
        self._marks = {name: vocabulary.special(name) for name in ("<.>", "<for>", "<stop>")}
        self._whole, self._decimals = "", None  # digits that have come; decimals from <.> on
        self._lasting = False  # the length is being read

    def ids(self) -> list[int]:
        """Ids that may come next; `<stop>` ends the time."""
        if self._decimals is not None:
            more = [*range(len(self._decimals) == DECIMALS - 1, 10)]
            digits = [self._zero + d for d in more if len(self._decimals) < DECIMALS]
            return digits + (self._ends() if self._decimals.rstrip("0") == self._decimals else [])
        if not self._whole:
            return [self._zero + d for d in range(10)]
        room = self._whole != "0" and int(self._whole) * 10 <= MOST_SECONDS
        digits = [self._zero + d for d in range(10) if room]
        return [*digits, self._marks["<.>"], *self._ends()]

    def _ends(self) -> list[int]:
        if self._decimals == "" or (self._lasting and not self._ms()):
            return []
        stop = [self._marks["<stop>"]]
        return stop if self._lasting else [self._marks["<for>"], *stop]

    def cost(self) -> int:
        """Fewest tokens from here, `<stop>` included."""
        if self._marks["<stop>"] in self.ids():
            return 1
        return 3 if self._decimals is None and self._whole else 2

    def cost_after(self, token: int) -> int:
        """`cost` once `token`, one of `ids()`, is taken; 0 after `<stop>`."""
        if token == self._marks["<stop>"]:
            return 0
        twin = self.copy()
        twin.take(token)
        return twin.cost()

    def copy(self) -> TimeReader:
        """An independent reader at the same point."""
        twin = object.__new__(TimeReader)
        twin.__dict__.update(self.__dict__)
        return twin

    def take(self, token: int) -> None:
        """Read the next token, one of `ids()`."""
        if token == self._marks["<.>"]:
            self._decimals = ""
        elif token in self._marks.values():
            if self._lasting:
                self.length = self._ms()
            else:
                self.start = self._ms()
            self._lasting, self._whole, self._decimals = True, "", None
        elif self._decimals is None:
            self._whole += str(token - self._zero)
        else:
            self._decimals += str(token - self._zero)

    def _ms(self) -> int:
        decimals = (self._decimals or "").ljust(DECIMALS, "0")
        return int(self._whole) * 10**DECIMALS + int(decimals)
