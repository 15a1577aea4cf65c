"""Writing a film: pieces that stand for themselves, and the file that they make with the sound."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ArgumentError, ImageError
from ..safe_files import write_atomically
from .clip import Clip, av, reason, usual_matrix

CODECS = {
    "h264": "libx264",
    "hevc": "libx265",
    "vp9": "libvpx-vp9",
    "av1": "libsvtav1",
    "ffv1": "ffv1",
    "prores": "prores_ks",
}
os.environ.setdefault("SVT_LOG", "1")  # the encoder of AV1 says much on standard error
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
    beside : bool
        Whether the container keeps the encoder's parameters beside the stream (a global header).
    """

    codec: str
    pixel_format: str
    matrix: int
    primaries: int
    curve: int
    quality: int | None
    beside: bool = True

    @classmethod
    def of(cls, clip: Clip, codec: str, quality: int | None) -> Coding:
        """For a film.

        Raises
        ------
        ArgumentError
            If there is no such codec here, or it has no qualities.
        """
        if codec not in CODECS:
            raise ArgumentError(f"The codec must be one of {', '.join(CODECS)}, not {codec!r:.60}.")
        try:
            found = av().Codec(CODECS[codec], "w")
        except ValueError:
            raise ArgumentError(f"This PyAV cannot write {codec}; choose another codec.") from None
        if quality is not None and codec in ("ffv1", "prores"):
            raise ArgumentError(f"{codec} has one quality; leave --quality out.")
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
    odd = fine != "444" and (clip.width % 2 or (fine == "420" and clip.height % 2))
    order = ["444" if odd else fine, "422", "444", "420"]  # half a pixel cannot be written
    wanted = [f"yuv{kind}p{'10le' if clip.deep else ''}" for kind in order]
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
        if coding.beside:
            self._context.flags |= 1 << 22  # AV_CODEC_FLAG_GLOBAL_HEADER
        self._packets: list[Any] = []
        self.frames = 0

    def add(self, pixels: NDArray[Any], pts: int) -> None:
        """One frame more."""
        self._encode(self._coding.frame(pixels, pts, self._clip))
        self.frames += 1

    def _encode(self, frame: Any) -> None:
        try:
            self._packets += self._context.encode(frame)
        except av().FFmpegError as error:
            codec = self._coding.codec
            raise ImageError(
                f"The encoder of {codec} fails: {reason(error)}; choose another codec."
            ) from None

    def save(self, path: Path, state: dict[str, Any]) -> None:
        """End it, and write it with what going on from here needs."""
        self._encode(None)
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
