"""Reading a film: its frames as people see them, upright and in sRGB, one after the other."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ImageError, MissingDependencyError, first_line

MAX_PIXELS = 100_000_000
"""Most pixels of one frame."""

# As H.273 numbers them: matrices, and the transfer curves of high dynamic range.
_BT709, _BT601, _BT2020 = 1, 5, (9, 10)
_HDR = {16: "PQ", 18: "HLG"}
_FULL = 2


def av() -> Any:
    """PyAV, or an error that says how to get it."""
    try:
        import av
    except ImportError:
        raise MissingDependencyError(
            'Films need PyAV; install it: pip install "hscaunet[film]".'
        ) from None
    av.logging.set_level(av.logging.PANIC)  # what matters is raised
    return av


@dataclass(frozen=True)
class Still:
    """One frame: its number from 0, when it is shown, in units of the clip's `time_base`; pixels
    (h, w, 3) RGB, uint8 or uint16."""

    number: int
    pts: int
    pixels: NDArray[Any]


class Clip:
    """A film that is open for reading.

    Parameters
    ----------
    path : path

    Attributes
    ----------
    width, height : int
        Of the upright frames.
    frames : int
        As many as the file says, or about as many as its length says; 0 if it says neither.
    deep : bool
        Whether it has more than 8 bits a channel.
    aspect : Fraction
        Of a pixel, its width to its height.
    notes : list of str
        What is not carried over, a sentence each; grows while frames are read.

    Raises
    ------
    ImageError
        If there is no such file, or it holds no frames that can be read.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        # Absolute: FFmpeg takes what stands before a colon for a protocol.
        self.path, self.notes = os.path.abspath(path), []
        self._av = av()
        if not os.path.isfile(path):
            raise ImageError(f"There is no film {path}.")
        try:
            self.container = self._av.open(self.path, metadata_errors="replace")
        except (self._av.FFmpegError, OSError, ValueError) as error:
            raise ImageError(f"{path} is no film that can be read: {reason(error)}.") from None
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        streams = [s for s in self.container.streams.video if not _is_cover(s)]
        if not streams:
            raise ImageError(f"{self.path} holds no film: there is no video in it.")
        self.stream = stream = streams[0]
        if len(streams) > 1:
            self.notes.append(f"It holds {len(streams)} films; the first is colorized.")
        first = next(self._decoded(), None)
        if first is None:
            raise ImageError(f"{self.path} holds no frame that can be decoded.")
        self._upright = _upright(first)
        self.height, self.width = self._upright(np.empty((first.height, first.width, 1))).shape[:2]
        turned = self.width != first.width
        aspect = stream.sample_aspect_ratio or Fraction(1)
        self.aspect = aspect if aspect > 0 else Fraction(1)
        if turned:
            self.aspect = 1 / self.aspect
        if self.width * self.height > MAX_PIXELS:
            raise ImageError(f"{self.path} has frames of {self.width}x{self.height}: too large.")
        bits = max(component.bits for component in first.format.components)
        self.deep = bits > 8
        self.pixel_format = first.format.name
        curve = _HDR.get(int(first.color_trc or 0))
        if curve:
            raise ImageError(
                f"{self.path} is of high dynamic range ({curve}); make it an SDR film first."
            )
        self._look_closer(first, bits)
        self.time_base: Fraction = stream.time_base
        # Streams cut out of a broadcast begin at any time; films begin at 0.
        self.start = max(Fraction(0), Fraction(self.container.start_time or 0, 1_000_000))
        self.rate = stream.average_rate or stream.guessed_rate or Fraction(25)
        self.frames = stream.frames or self._guessed()
        self.rewind()

    def _look_closer(self, first: Any, bits: int) -> None:
        """Name what of the frames is not kept."""
        if bits > 10:
            self.notes.append(f"Its {bits} bits become 10.")
        if first.interlaced_frame:
            self.notes.append("It is interlaced; colours are better if it is deinterlaced first.")
        if len(first.format.components) in (2, 4) and first.format.name != "pal8":
            self.notes.append("Its alpha is left out.")
        if int(first.colorspace or 0) in _BT2020:
            self.notes.append("Its primaries are those of BT.2020; they are taken as BT.709's.")

    def _guessed(self) -> int:
        seconds = 0.0
        if self.stream.duration:
            seconds = float(self.stream.duration * self.stream.time_base)
        elif self.container.duration:
            seconds = self.container.duration / 1e6
        return round(seconds * float(self.rate))

    def _said(self) -> int:
        """Frames by what the file says of this stream alone; 0 if it says nothing."""
        if self.stream.frames:
            return int(self.stream.frames)
        seconds = float((self.stream.duration or 0) * self.time_base)
        told = re.fullmatch(
            r"(\d+):(\d+):(\d+(?:\.\d+)?)", self.stream.metadata.get("DURATION", "")
        )
        if told and not seconds:  # Matroska's
            seconds = 3600 * int(told[1]) + 60 * int(told[2]) + float(told[3]) - float(self.start)
        return round(seconds * float(self.rate))

    def rewind(self) -> None:
        """Begin again."""
        number = self.stream.index  # which is gone with its container
        self.container.close()
        self.container = self._av.open(self.path, metadata_errors="replace")
        self.stream = self.container.streams[number]
        self.stream.thread_type = "AUTO"

    def close(self) -> None:
        self.container.close()

    def __enter__(self) -> Clip:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _decoded(self) -> Iterator[Any]:
        """Frames as FFmpeg decodes them; damaged packets are passed over and counted."""
        broken = 0
        packets = self.container.demux(self.stream)
        while True:
            try:
                packet = next(packets, None)
            except self._av.FFmpegError as error:
                self.notes.append(f"It ends early, by a fault: {reason(error)}.")
                break
            if packet is None:
                break
            try:
                for frame in packet.decode():
                    broken += bool(frame.is_corrupt)
                    yield frame
            except self._av.FFmpegError:
                broken += 1
        with contextlib.suppress(self._av.FFmpegError, EOFError):
            yield from self.stream.codec_context.decode(None)  # held back, if reading broke off
        if broken:
            self.notes.append(f"{broken} damaged pieces of it cannot be decoded and are left out.")

    def read(
        self, first: int = 0, wanted: Callable[[int], bool] = lambda number: True
    ) -> Iterator[Still]:
        """Frames from a number on, upright, each later than the one before; those alone whose
        number is wanted."""
        last, offset = -1, -round(self.start / self.time_base)
        number = -1
        # One that lacks its time comes one frame after the last one.
        step = max(1, round(1 / (self.rate * self.time_base)))
        for number, frame in enumerate(self._decoded()):
            pts = last + step if frame.pts is None else frame.pts + offset
            if number and pts <= last:
                if last - pts > 4 * step:
                    self.notes.append(f"Its times jump back at frame {number}; it is joined there.")
                offset += last + step - pts
                pts = last + step
            last = pts
            if number >= first and wanted(number):
                yield Still(number, pts, self._pixels(frame))
        done = number + 1
        said = self._said()
        if done < 0.98 * said - 2:
            self.notes.append(f"By what it says it has {said} frames; {done} can be decoded.")

    def _pixels(self, frame: Any) -> NDArray[Any]:
        """RGB of a frame: its matrix and range are its own, or those that its height suggests."""
        matrix = int(frame.colorspace or 0)
        source = {1: _BT709, 4: 4, 5: _BT601, 6: _BT601, 7: 7, 9: 9, 10: 9}.get(
            matrix, usual_matrix(frame.height)
        )
        full = int(frame.color_range or 0) == _FULL or frame.format.name.startswith("yuvj")
        made = frame.reformat(
            format="rgb48le" if self.deep else "rgb24",
            src_colorspace=source,
            src_color_range=_FULL if full else 1,
            dst_color_range=_FULL,
            interpolation="BICUBIC",
        )
        pixels = self._upright(made.to_ndarray())
        if pixels.shape[:2] != (self.height, self.width):
            raise ImageError(
                f"{self.path} changes its size on the way, to {pixels.shape[1]}x{pixels.shape[0]}; "
                "cut it there first."
            )
        return np.ascontiguousarray(pixels)


def _upright(frame: Any) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """How a stored frame becomes upright: turned and mirrored as its display matrix says."""
    turns = round(frame.rotation / 90) % 4  # counter-clockwise
    found = frame.side_data.get("DISPLAYMATRIX")
    if found is not None:
        a, b, _, c, d = np.frombuffer(bytes(found), np.int32)[:5].astype(float)
        if a * d - b * c < 0:  # mirrored; FFmpeg's own cases
            if turns % 2 and c > 0:
                return lambda pixels: pixels.transpose(1, 0, 2)
            if turns % 2:
                return lambda pixels: pixels[::-1, ::-1].transpose(1, 0, 2)
            return lambda pixels: pixels[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]
    return lambda pixels: np.rot90(pixels, turns)


def usual_matrix(height: int) -> int:
    """The matrix of films that do not say theirs: BT.709 of high definition, else BT.601."""
    return _BT709 if height >= 720 else _BT601


def _is_cover(stream: Any) -> bool:
    return bool(stream.disposition & stream.disposition.__class__.attached_pic)


def reason(error: BaseException) -> str:
    """What FFmpeg or the system says of a failure."""
    text = getattr(error, "strerror", None) or first_line(error)
    return text.rstrip(".")
