"""Giving out job ids (FLUID): in order, none twice (spec 06, 1.1). Pure."""

from __future__ import annotations

from flux.core.fluid import make

#: The highest rank that can give out ids.
MAX_GENERATOR = 16367

_SEQUENCES = 1023


class Ids:
    """The ids of one generator.

    Args:
        generator: the rank.
        timestamp: milliseconds at which they begin.
        now: monotonic time, in seconds, at this moment.
    """

    def __init__(self, generator: int, timestamp: int, now: float) -> None:
        self.generator = generator
        self._timestamp = timestamp
        self._sequence = -1
        self._offset = timestamp - int(now * 1000)

    def timestamp(self, now: float) -> int:
        """The time in ids, in milliseconds: that of the clock, or of the last id if that is ahead."""
        return max(self._timestamp, self._offset + int(now * 1000))

    def next(self, now: float) -> int:
        """Another id. Raises OverflowError when there are none left."""
        timestamp = self.timestamp(now)
        if timestamp > self._timestamp:
            self._timestamp = timestamp
            self._sequence = 0
        elif self._sequence + 1 < _SEQUENCES:
            self._sequence += 1
        else:
            # So many in one millisecond: those of the next are taken, rather than waiting for it.
            self._timestamp += 1
            self._sequence = 0
        return make(self._timestamp, self.generator, self._sequence)
