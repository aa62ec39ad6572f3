"""Zstandard, where a sample says that it pays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gml.domain.errors import CorruptError

if TYPE_CHECKING:
    from collections.abc import Iterator

LEVEL: Final = 1
WORTH: Final = 0.9
"""Compressed bytes are kept only where they are at most this share of the plain ones."""

_LEAST: Final = 256
_SAMPLE: Final = 4096
_SAMPLES: Final = 4
_WINDOW: Final = 1 << 27
# What is fed at once: a frame of zeros expands some ten thousand times.
_STEP: Final = 8192


class Compressor:
    """Compresses one piece after the other; not for several threads at once."""

    def __init__(self) -> None:
        import zstandard

        self._inner = zstandard.ZstdCompressor(level=LEVEL, write_checksum=False, write_content_size=True)

    def compress(self, data: bytes | memoryview) -> bytes | None:
        """Return a zstd frame of `data`, or None where it would not pay; see `compress`."""
        size = len(data)
        if size < _LEAST or (size > 4 * _SAMPLE * _SAMPLES and not self._pays(data)):
            return None
        made: bytes = self._inner.compress(data)
        return made if len(made) <= WORTH * size else None

    def _pays(self, data: bytes | memoryview) -> bool:
        view = memoryview(data)
        step = (len(view) - _SAMPLE) // (_SAMPLES - 1)
        sample = b"".join(view[at * step : at * step + _SAMPLE] for at in range(_SAMPLES))
        return len(self._inner.compress(sample)) <= WORTH * len(sample)


def compress(data: bytes | memoryview) -> bytes | None:
    """Return a zstd frame of `data`, or None where it would not pay.

    Four small pieces are tried first: photographs, archives and trained weights cost next to nothing.

    Example:
        >>> compress(os.urandom(1_000_000)) is None
        True
    """
    return Compressor().compress(data) if len(data) >= _LEAST else None


def expand(data: bytes | memoryview, size: int) -> bytes:
    """Return what a zstd frame holds.

    Args:
        data: exactly one frame.
        size: how long the content must be; a frame of more is refused before memory is taken for it.

    Raises:
        CorruptError: it is no such frame.
    """
    import zstandard

    decompressor = zstandard.ZstdDecompressor(max_window_size=_WINDOW)
    try:
        if zstandard.frame_content_size(data) not in {size, -1}:
            raise CorruptError("a zstd frame has another size than its index says")
        content: bytes = decompressor.decompress(data, max_output_size=size, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise CorruptError(f"a zstd frame is damaged: {error}") from error
    if len(content) != size:
        raise CorruptError("a zstd frame has another size than its index says")
    return content


class Expander:
    """Expands one zstd frame piece by piece, in bounded memory.

    Attributes:
        ended: whether the frame is complete.
    """

    def __init__(self) -> None:
        import zstandard

        self._error = zstandard.ZstdError
        self._inner = zstandard.ZstdDecompressor(max_window_size=_WINDOW).decompressobj()
        self.ended = False

    def feed(self, data: bytes | memoryview) -> Iterator[bytes]:
        """Yield what the next bytes of the frame give.

        Raises:
            CorruptError: they are no part of a frame, or follow its end.
        """
        view = memoryview(data)
        for start in range(0, len(view), _STEP):
            if self.ended:
                raise CorruptError("bytes follow a zstd frame")
            try:
                piece = self._inner.decompress(view[start : start + _STEP])
            except self._error as error:
                raise CorruptError(f"a zstd frame is damaged: {error}") from error
            self.ended = bool(self._inner.eof)
            if self.ended and self._inner.unused_data:
                raise CorruptError("bytes follow a zstd frame")
            if piece:
                yield piece
