"""Writing a film: pieces that stand for themselves, and the file that they make with the sound."""

from __future__ import annotations

import contextlib
import heapq
import io
import os
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ArgumentError, ImageError
from ..safe_files import write_atomically
from .clip import Clip, av, reason, usual_matrix
from .names import ENDINGS

CODECS = {
    "h264": "libx264",
    "hevc": "libx265",
    "vp9": "libvpx-vp9",
    "av1": "libsvtav1",
    "ffv1": "ffv1",
    "prores": "prores_ks",
}
# So many threads whatever the machine has: the same film gives the same file anywhere.
_THREADS = 4
_UNKNOWN = (0, 2, 3)
_LIMITED, _FULL = 1, 2


@dataclass(frozen=True)
class Coding:
    """How a film is encoded.

    Attributes
    ----------
    codec : str
        Of `CODECS`.
    pixel_format : str
        Of FFmpeg.
    matrix, primaries, curve : int
        As H.273 numbers them.
    quality : int or None
        1 to 100.
    """

    codec: str
    pixel_format: str
    matrix: int
    primaries: int
    curve: int
    quality: int | None

    @classmethod
    def of(cls, clip: Clip, target: Path, codec: str | None, quality: int | None) -> Coding:
        """For a film and a file to write.

        Raises
        ------
        ArgumentError
            If there is no such codec here, or the file's ending is no film's.
        """
        if target.suffix.lower() not in ENDINGS:
            raise ArgumentError(f"{target} has not the ending of a film, such as .mp4 or .mkv.")
        if codec is None:
            codec = "vp9" if target.suffix.lower() == ".webm" else "hevc" if clip.deep else "h264"
        if codec not in CODECS:
            raise ArgumentError(f"The codec must be one of {', '.join(CODECS)}, not {codec!r:.60}.")
        try:
            found = av().Codec(CODECS[codec], "w")
        except ValueError:
            raise ArgumentError(f"This PyAV cannot write {codec}; choose another codec.") from None
        context = clip.stream.codec_context
        matrix = int(context.colorspace)
        if matrix not in (1, 5, 6):
            matrix = 1 if usual_matrix(clip.height) == 1 else 6
        primaries, curve = int(context.color_primaries), int(context.color_trc)
        return cls(
            codec,
            _pixel_format(clip, [f.name for f in found.video_formats or ()]),
            matrix,
            matrix if primaries in (*_UNKNOWN, 9) else primaries,
            (1 if matrix == 1 else 6) if curve in (*_UNKNOWN, 14, 15) else curve,
            quality,
        )

    @property
    def options(self) -> dict[str, str]:
        """Of the encoder. Without a quality: one at which losses are hard to see."""
        crf = 17 if self.quality is None else round((100 - self.quality) * 0.51)
        return {
            "h264": {"crf": str(crf), "preset": "medium"},
            "hevc": {
                "crf": str(crf),
                "preset": "medium",
                "x265-params": f"log-level=none:frame-threads=1:pools={_THREADS}",
            },
            "vp9": {"crf": str(min(63, crf + 6)), "b": "0", "row-mt": "1", "cpu-used": "2"},
            "av1": {"crf": str(min(63, crf + 6)), "preset": "7", "svtav1-params": "lp=2"},
            "ffv1": {"level": "3"},
            "prores": {"profile": "3"},
        }[self.codec]

    def prepare(self, context: Any, clip: Clip) -> None:
        """Set up an encoder."""
        context.width, context.height = clip.width, clip.height
        context.pix_fmt = self.pixel_format
        context.time_base, context.framerate = clip.time_base, clip.rate
        context.sample_aspect_ratio = clip.aspect
        context.colorspace, context.color_range = self.matrix, _LIMITED
        context.color_primaries, context.color_trc = self.primaries, self.curve
        context.thread_count = _THREADS
        context.options = self.options
        if self.codec == "hevc":
            context.codec_tag = "hvc1"  # which Apple's players ask for

    def frame(self, pixels: NDArray[Any], pts: int, clip: Clip) -> Any:
        """RGB (h, w, 3), uint8 or uint16, as the encoder takes it."""
        kind = "rgb48le" if pixels.dtype == np.uint16 else "rgb24"
        made = (
            av()
            .VideoFrame.from_ndarray(pixels, format=kind)
            .reformat(
                format=self.pixel_format,
                dst_colorspace=5 if self.matrix == 6 else self.matrix,
                src_color_range=_FULL,
                dst_color_range=_LIMITED,
                interpolation="BICUBIC",
            )
        )
        made.pts, made.time_base = pts, clip.time_base
        return made


def _pixel_format(clip: Clip, offered: list[str]) -> str:
    """As finely sampled and as deep as the film, as far as the encoder can."""
    name = clip.pixel_format
    fine = "444" if "444" in name or "rgb" in name or "gbr" in name else "420"
    fine = "422" if "422" in name else fine
    if fine != "444" and (clip.width % 2 or (fine == "420" and clip.height % 2)):
        fine = "444"  # half a pixel cannot be written
        clip.notes.append("Its size is odd; it is written with full colour resolution (4:4:4).")
    deep = "10le" if clip.deep else ""
    wanted = [f"yuv{fine}p{deep}", f"yuv444p{deep}", f"yuv422p{deep}", f"yuv420p{deep}"]
    wanted += [kind.removesuffix("10le") for kind in wanted]
    wanted += [kind.removesuffix("10le") + "10le" for kind in wanted]  # ProRes has no 8 bits
    return next((kind for kind in wanted if kind in offered), "yuv420p")


class Piece:
    """Some frames in a row, encoded without the others.

    Parameters
    ----------
    clip : Clip
    coding : Coding
    """

    def __init__(self, clip: Clip, coding: Coding) -> None:
        self._clip, self._coding = clip, coding
        self._context = av().CodecContext.create(CODECS[coding.codec], "w")
        coding.prepare(self._context, clip)
        self._context.flags |= 1 << 22  # global header: parameters lie beside, not in the stream
        self._packets: list[Any] = []
        self.frames = 0

    def add(self, pixels: NDArray[Any], pts: int) -> None:
        """One frame more."""
        self._packets += self._context.encode(self._coding.frame(pixels, pts, self._clip))
        self.frames += 1

    def save(self, path: Path, state: dict[str, Any]) -> None:
        """End it, and write it with what going on from here needs."""
        self._packets += self._context.encode(None)
        data = b"".join(bytes(packet) for packet in self._packets)
        buffer = io.BytesIO()
        np.savez(
            buffer,
            data=np.frombuffer(data, np.uint8),
            sizes=np.array([packet.size for packet in self._packets], np.int64),
            pts=np.array([packet.pts for packet in self._packets], np.int64),
            key=np.array([packet.is_keyframe for packet in self._packets]),
            frames=np.int64(self.frames),
            **state,
        )
        write_atomically(path, buffer.getvalue())


def _packets(pieces: Iterable[Path]) -> Iterator[tuple[bytes, int, bool]]:
    """Encoded frames of all pieces: bytes, when each is shown, whether it stands for itself."""
    for path in pieces:
        with np.load(path, allow_pickle=False) as piece:
            data, sizes = piece["data"].tobytes(), piece["sizes"].tolist()
            start = 0
            for size, pts, key in zip(sizes, piece["pts"].tolist(), piece["key"], strict=True):
                yield data[start : start + size], pts, bool(key)
                start += size


def _timed(pieces: list[Path], step: int) -> Iterator[tuple[bytes, int, int, bool]]:
    """The same with the times of decoding: each frame's place in the order of showing, early
    enough for the one that is moved most. Pieces are in both orders one after the other."""
    shown: list[int] = []
    moved = 0
    for path in pieces:
        with np.load(path, allow_pickle=False) as piece:
            pts = piece["pts"]
        moved = max(moved, int((np.arange(len(pts)) - np.argsort(np.argsort(pts))).max(initial=0)))
        shown += sorted(pts.tolist())
    early = [shown[0] - step * n for n in range(moved, 0, -1)] if shown else []
    times = early + shown
    for place, (data, pts, key) in enumerate(_packets(pieces)):
        yield data, pts, times[place], key


def join(clip: Clip, coding: Coding, pieces: list[Path], target: Path) -> list[str]:
    """Write the film: the pieces, and sound, subtitles, chapters and metadata of the clip.

    Returns
    -------
    list of str
        What the target's format cannot hold, a sentence each.

    Raises
    ------
    ImageError
        If it cannot be written; an older file is then untouched.
    """
    library = av()
    temporary = target.parent / f".hscaunet-{secrets.token_hex(8)}{target.suffix}"
    try:
        options = {"movflags": "+faststart"} if target.suffix.lower() in (".mp4", ".m4v") else {}
        with library.open(str(temporary), "w", options=options) as out:
            notes = _mux(library, clip, coding, pieces, out)
        if target.exists():
            os.chmod(temporary, target.stat().st_mode & 0o777)
        os.replace(temporary, target)
    except (library.FFmpegError, OSError, ValueError) as error:
        raise ImageError(f"{target} cannot be written: {reason(error)}.") from None
    finally:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
    return notes


def _mux(library: Any, clip: Clip, coding: Coding, pieces: list[Path], out: Any) -> list[str]:
    notes: list[str] = []
    stream = out.add_stream(CODECS[coding.codec], rate=clip.rate)
    coding.prepare(stream.codec_context, clip)
    stream.time_base = clip.time_base
    stream.metadata.update(clip.stream.metadata)
    copied: dict[int, Any] = {}
    with library.open(clip.path, metadata_errors="replace") as source:
        for other in source.streams:
            if other.index == clip.stream.index:
                continue
            kind = other.type or "unknown data"
            try:
                copied[other.index] = out.add_stream_from_template(other)
                copied[other.index].metadata.update(other.metadata)
                with contextlib.suppress(AttributeError, TypeError, ValueError):
                    copied[other.index].disposition = other.disposition
            except (ValueError, TypeError, AttributeError, library.FFmpegError):
                name = getattr(getattr(other, "codec_context", None), "name", None)
                what = f"{kind} ({name})" if name else kind
                notes.append(f"Its {what} cannot go into such a file and is left out.")
        out.metadata.update(source.metadata)
        with contextlib.suppress(ValueError, TypeError, library.FFmpegError):
            out.set_chapters(source.chapters())
        step = max(1, round(1 / (clip.rate * clip.time_base)))
        film = _film_packets(library, stream, _timed(pieces, step), clip.time_base)
        rest = _copied_packets(library, source, copied)
        for _, _, packet in heapq.merge(film, rest, key=lambda row: row[:2]):
            out.mux_one(packet)
    return notes


Row = tuple[Fraction, int, Any]


def _film_packets(
    library: Any, stream: Any, timed: Iterable[tuple[bytes, int, int, bool]], time_base: Fraction
) -> Iterator[Row]:
    for data, pts, dts, key in timed:
        packet = library.Packet(data)
        packet.pts, packet.dts, packet.time_base = pts, dts, time_base
        packet.is_keyframe = key
        packet.stream = stream
        yield dts * time_base, -1, packet


def _copied_packets(library: Any, source: Any, copied: dict[int, Any]) -> Iterator[Row]:
    """Packets of all other streams, as they are."""
    last = Fraction(0)
    wanted = [source.streams[index] for index in copied]
    packets = source.demux(wanted) if wanted else iter(())
    while True:
        try:
            packet = next(packets, None)
        except library.FFmpegError:  # which reading the film has told
            return
        if packet is None:
            return
        if packet.dts is None:
            continue
        last = max(last, packet.dts * packet.time_base)
        index = packet.stream.index
        packet.stream = copied[index]
        yield last, index, packet
