"""Photos that are open in the studio: found by a secret number, closed when nobody comes back."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import secrets
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from ..errors import ColorizationError
from ..hints import Hints
from ..images import Metadata, Photo, decode_photo
from ..images.headers import image_size, kind_of
from ..lightness import Lightness

if TYPE_CHECKING:
    from ..colorizer import Colorizer
    from ..session import Session

PLAIN = Lightness()


@dataclass(frozen=True)
class Limits:
    """What a client may ask for.

    Attributes
    ----------
    pixels : int
        Of one photo.
    file_bytes : int
        Of one photo's file.
    hint_bytes : int
        Of the hints of one request.
    memory : int
        Bytes that the photos which are open may hold together; the one used longest ago is closed
        for a new one.
    idle : float
        Seconds after which a photo that nobody uses is closed.
    stall : float
        Seconds that a client may take for the next piece of a request.
    uploads : int
        Photos that are received at once, and pictures that are sent; more are told to come again.
    requests : int
        Requests at once, of any kind.
    areas : int
        Strokes and regions of one request.
    side : int
        Largest side of a preview, in pixels.
    """

    pixels: int = 100_000_000
    file_bytes: int = 512 << 20
    hint_bytes: int = 4 << 20
    memory: int = 3 << 30
    idle: float = 1800.0
    stall: float = 20.0
    uploads: int = 4
    requests: int = 32
    areas: int = 2000
    side: int = 4096


class TooLargeError(ColorizationError):
    """A photo that is over a limit."""


class GoneError(ColorizationError):
    """There is no open photo of that number, or not any more."""


@dataclass(eq=False)
class Read:
    """A photo that was decoded.

    Attributes
    ----------
    name : str
        Of the file, without a folder; only to name downloads.
    kind : str
        Format of the file.
    photo : Photo
    """

    name: str
    kind: str
    photo: Photo


@dataclass(eq=False)
class Opened(Read):
    """One photo that is open.

    Attributes
    ----------
    key : str
    session : Session
    lightness : Lightness
        With which the session is open.
    lock : Lock
        Held while its hints are set and what follows from them is computed.
    used : float
        When, by the store's clock.
    """

    key: str
    session: Session
    lightness: Lightness = PLAIN
    lock: threading.Lock = field(default_factory=threading.Lock)
    used: float = 0.0

    def use(self, colorizer: Colorizer, hints: Hints, lightness: Lightness) -> None:
        """Put hints in place, and another lightness; to be called with the lock held."""
        if lightness != self.lightness:
            self.session = colorizer.open(self.photo.pixels, lightness=lightness)
            self.lightness = lightness
        size = self.session.width, self.session.height
        hints = Hints(image_size=size) + hints.fitted(*size)
        if hints != self.session.hints:
            self.session.set_hints(hints, undo=False)  # the page keeps the steps

    @property
    def nbytes(self) -> int:
        """About how much memory it holds."""
        pixels = self.photo.pixels.nbytes
        grey = 0 if self.lightness == PLAIN else pixels // 3
        return pixels + grey + _beside(self.photo.metadata) + self.session.nbytes


def give_memory_back() -> None:
    """Let the system have what closed photos held: C's allocator would keep it for later."""
    gc.collect()
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # of another C library
            ctypes.CDLL("libc.so.6").malloc_trim(0)


def _beside(metadata: Metadata) -> int:
    """Bytes of what lies beside a photo's pixels."""
    blocks = (metadata.exif, metadata.icc, metadata.xmp, metadata.iptc, *metadata.comments)
    return sum(len(block or b"") for block in blocks) + sum(len(b) for _, b in metadata.texts)


class Store:
    """The photos that are open.

    Parameters
    ----------
    colorizer : Colorizer
        Shared by all.
    limits : Limits
    clock : callable
        Seconds, as `time.monotonic`.
    """

    def __init__(
        self, colorizer: Colorizer, limits: Limits, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.colorizer, self.limits = colorizer, limits
        self._clock = clock
        self._open: OrderedDict[str, Opened] = OrderedDict()  # the one used longest ago first
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._open)

    @property
    def nbytes(self) -> int:
        """What the open photos hold together."""
        with self._lock:
            return sum(one.nbytes for one in self._open.values())

    def check_header(self, data: bytes, name: str) -> None:
        """Refuse a photo that claims more pixels than one may have, from its first bytes.

        Raises
        ------
        TooLargeError
        """
        size = image_size(data)
        if size and size[0] * size[1] > self.limits.pixels:
            raise TooLargeError(
                f"{name} has {size[0]}x{size[1]} pixels, but this server takes "
                f"{self.limits.pixels} at most; make it smaller."
            )

    def read(self, data: bytes, name: str, **reading: Any) -> Read:
        """Decode a photo.

        Raises
        ------
        ImageError
            If it cannot be read.
        TooLargeError
        """
        name = PurePath(name.replace("\\", "/")).name[:200] or "photo"
        self.check_header(data, name)
        photo = decode_photo(data, name=name, max_pixels=self.limits.pixels, **reading)
        return Read(name, kind_of(data[:4096]) or "PNG", photo)

    def open(self, data: bytes, name: str, **reading: Any) -> Opened:
        """Decode a photo and open it.

        Raises
        ------
        ImageError
            If it cannot be read.
        TooLargeError
            If it alone would hold more memory than all may.
        """
        read = self.read(data, name, **reading)
        if read.photo.pixels.nbytes * 2 + _beside(read.photo.metadata) > self.limits.memory:
            raise TooLargeError(f"{name} needs more memory than this server gives to all photos.")
        key, session = secrets.token_urlsafe(16), self.colorizer.open(read.photo.pixels)
        made = Opened(read.name, read.kind, read.photo, key, session, used=self._clock())
        with self._lock:
            self._open[made.key] = made
        self.sweep(keep=made.key)
        return made

    def find(self, key: str) -> Opened:
        """An open photo, which counts as used now.

        Raises
        ------
        GoneError
        """
        with self._lock:
            one = self._open.get(key)
            if one is None:
                raise GoneError("This photo is not open any more; open it again.")
            one.used = self._clock()
            self._open.move_to_end(key)
        return one

    def close(self, key: str) -> None:
        """Close a photo, if it is open."""
        with self._lock:
            self._open.pop(key, None)

    def sweep(self, keep: str | None = None) -> int:
        """Close what nobody came back to, and what is too much; how many that were."""
        with self._lock:
            before = len(self._open)
            late = self._clock() - self.limits.idle
            for key, one in list(self._open.items()):
                if one.used < late:
                    del self._open[key]
            held = sum(one.nbytes for one in self._open.values())
            for key, one in list(self._open.items()):
                if held <= self.limits.memory:
                    break
                if key != keep:
                    held -= one.nbytes
                    del self._open[key]
            return before - len(self._open)

    def clear(self) -> None:
        """Close all."""
        with self._lock:
            self._open.clear()
