"""Where large files are cut: at places that their content chooses, so that versions share chunks.

docs/format.md says the rule, docs/decisions/0020-chunks-and-packs.md why it is this one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MIN_CHUNK: Final = 128 << 10
MAX_CHUNK: Final = 1 << 20

_WINDOW: Final = 32
_FACTORS: Final = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0xD6E8FEB86659FD93)
_BITS: Final = 9
# How far back the mix of a place looks, and what it must be.
_REACH: Final = 23
_WANTED: Final = 91
# Looked at at once: fits the second-level cache together with what is computed from it.
_BLOCK: Final = 64 << 10


class Cutter:
    """Finds the ends of chunks in a buffer.

    Args:
        factor: a power of two by which chunks are larger than those of other files; for very large ones.

    Example:
        >>> Cutter().cuts(bytes(3_000_000), final=True)
        [1048576, 2097152, 3000000]
    """

    def __init__(self, factor: int = 1) -> None:
        import numpy as np

        self._min = MIN_CHUNK * factor
        self._max = MAX_CHUNK * factor

        self._np = np
        self._factors = np.array(_FACTORS, np.uint64)
        self._limit = np.uint64((1 << (64 - _BITS)) // factor)
        self._reach = np.arange(1 - _WINDOW, 1)
        self._first = np.empty(_BLOCK + _REACH, np.uint8)
        self._second = np.empty(_BLOCK + _REACH, np.uint8)
        self._hits = np.empty(_BLOCK, np.bool_)

    def cuts(self, data: bytes | bytearray | memoryview, *, final: bool) -> list[int]:
        """Return where the chunks of `data` end, as offsets in it.

        Args:
            data: begins with a chunk.
            final: whether the file ends with it. If not, a last chunk that may go on is left out;
                it is to be given again together with what follows.
        """
        array = self._np.frombuffer(data, self._np.uint8)
        ends: list[int] = []
        start = 0
        while start < len(array):
            end = self._end(array, start)
            if end is None:
                if not final:
                    break
                end = len(array)
            ends.append(end)
            start = end
        return ends

    def _end(self, array: NDArray[np.uint8], start: int) -> int | None:
        """Return the end of the chunk that begins at `start`, None where it may go on."""
        low = start + self._min - 1
        high = min(start + self._max, len(array))
        while low < high:
            upto = min(low + _BLOCK, high)
            found = self._find(array, low, upto)
            if found is not None:
                return found + 1
            low = upto
        if high < start + self._max:
            return None
        return self._greatest(array, start + self._min - 1, high) + 1

    def _find(self, array: NDArray[np.uint8], low: int, high: int) -> int | None:
        """Return the first place of a range that both conditions hold for."""
        np = self._np
        hits = np.equal(self._mix(array, low, high), _WANTED, out=self._hits[: high - low])
        places = np.flatnonzero(hits)
        if not len(places):
            return None
        good = np.flatnonzero(self._sums(array, places + low) < self._limit)
        return low + int(places[good[0]]) if len(good) else None

    def _greatest(self, array: NDArray[np.uint8], low: int, high: int) -> int:
        """Return, of the places with the greatest mix, the last one with the greatest sum."""
        np = self._np
        if (array[low:high] == array[low]).all():
            return high - 1
        mix = np.concatenate(
            [self._mix(array, at, min(at + _BLOCK, high)).copy() for at in range(low, high, _BLOCK)]
        )
        places = np.flatnonzero(mix == mix.max())[::-1] + low
        return int(places[np.argmax(self._sums(array, places))])

    def _mix(self, array: NDArray[np.uint8], low: int, high: int) -> NDArray[np.uint8]:
        """Return eight bits for each place of a range, made of eight of the 24 bytes that end there.

        The result is valid until the next call.
        """
        np = self._np
        count = high - low + _REACH
        first, second = self._first[:count], self._second[:count]
        np.multiply(array[low - _REACH : high], 157, out=first)
        np.add(first[3:], first[:-3], out=second[3:])
        np.bitwise_xor(second[10:], second[3:-7], out=first[10:])
        np.add(first[_REACH:], first[10:-13], out=second[_REACH:])
        return second[_REACH:]

    def _sums(self, array: NDArray[np.uint8], places: NDArray[np.intp]) -> NDArray[np.uint64]:
        """Return the sum of products for the 32 bytes that end at each place."""
        windows = array[places[:, None] + self._reach]
        products = windows.view("<u8") * self._factors
        total: NDArray[np.uint64] = products.sum(axis=1, dtype=self._np.uint64)
        return total
