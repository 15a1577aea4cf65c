"""The file that a film's pieces make, with the sound and all else of the original."""

from __future__ import annotations

import contextlib
import heapq
import os
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ArgumentError, ImageError
from .clip import Clip, av, reason
from .encode import CODECS, Coding

ENDINGS = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".ts", ".m2ts", ".mts")
"""Of films that are written."""

JOINED = "joined"
"""Name, without its ending, of the file while it is written."""

_GLOBAL_HEADER = 0x40  # AVFMT_GLOBALHEADER
# What is left out first, if a container does not take all streams.
_LEAST = ("data", "attachment", "subtitle", "audio", "video")


@dataclass(frozen=True)
class Plan:
    """What goes into the output.

    Attributes
    ----------
    coding : Coding
    copied : tuple of int
        Other streams of the original, by their numbers.
    notes : tuple of str
        What is left out, a sentence each.
    """

    coding: Coding
    copied: tuple[int, ...]
    notes: tuple[str, ...]


def choose(clip: Clip, target: Path, codec: str | None, quality: int | None) -> Plan:
    """Find out what the output can hold, before any work: by its header, in a scratch file.

    Raises
    ------
    ArgumentError
        If it cannot hold the film in this codec, or its ending is none of `ENDINGS`.
    """
    suffix = target.suffix.lower()
    if suffix not in ENDINGS:
        raise ArgumentError(
            f"{target} has not the ending of a film that is written: {', '.join(ENDINGS)}."
        )
    usual = ["vp9", "av1"] if suffix == ".webm" else ["hevc", "h264"] if clip.deep else ["h264"]
    fault: BaseException | None = None
    for name in usual if codec is None else [codec]:
        coding = Coding.of(clip, name, quality)
        with tempfile.TemporaryDirectory(prefix="hscaunet-film-") as folder:
            found = _fit(clip, coding, Path(folder) / f"scratch{suffix}")
        if isinstance(found, Plan):
            return _noted(clip, found)
        fault = found
    names = codec or " or ".join(usual)
    raise ArgumentError(
        f"A {suffix} file cannot hold this film in {names} ({reason(fault) if fault else ''}); "
        "choose another --codec or ending."
    )


def _noted(clip: Clip, plan: Plan) -> Plan:
    odd = clip.width % 2 or clip.height % 2
    if odd and "444" in plan.coding.pixel_format and "444" not in clip.pixel_format:
        note = "Its size is odd; it is written with full colour resolution (4:4:4)."
        return replace(plan, notes=(*plan.notes, note))
    return plan


def _fit(clip: Clip, coding: Coding, scratch: Path) -> Plan | BaseException:
    """Streams with which a header can be written, or why there is none even without others."""
    library = av()
    with library.open(clip.path, metadata_errors="replace") as source:
        others = [one for one in source.streams if one.index != clip.stream.index]
        left: list[Any] = []
        for kind in (None, *_LEAST):
            if kind is not None:
                if not any(one.type == kind for one in others):
                    continue
                left += [one for one in others if one.type == kind]
                others = [one for one in others if one.type != kind]
            refused: list[Any] = []
            try:
                with library.open(str(scratch), "w") as out:
                    beside = bool(int(out.format.flags) & _GLOBAL_HEADER)
                    _streams(clip, replace(coding, beside=beside), out, others, refused)
                    out.start_encoding()
                fault = None
            except (library.FFmpegError, OSError, ValueError) as error:
                fault = error
            if fault is None:
                kept = tuple(one.index for one in others if one not in refused)
                notes = tuple(map(_left_out, [*left, *refused]))
                return Plan(replace(coding, beside=beside), kept, notes)
            if not others:
                return fault
        return fault or ValueError("no stream can be written")


def _left_out(stream: Any) -> str:
    kind = stream.type or "unknown data"
    name = getattr(getattr(stream, "codec_context", None), "name", None)
    return f"Its {kind} ({name}) is left out." if name else f"Its {kind} is left out."


def _streams(
    clip: Clip, coding: Coding, out: Any, others: Iterable[Any], refused: list[Any]
) -> tuple[Any, dict[int, Any]]:
    """Add the film's stream and those that are copied; those that cannot be go to `refused`."""
    library = av()
    film = out.add_stream(CODECS[coding.codec], rate=clip.rate)
    coding.prepare(film.codec_context, clip)
    film.time_base = clip.time_base
    film.metadata.update(clip.stream.metadata)
    copied: dict[int, Any] = {}
    for other in others:
        try:
            made = out.add_stream_from_template(other)
        except (ValueError, TypeError, AttributeError, library.FFmpegError):
            refused.append(other)
            continue
        made.metadata.update(other.metadata)
        with contextlib.suppress(AttributeError, TypeError, ValueError):
            made.disposition = other.disposition
        copied[other.index] = made
    return film, copied


def join(clip: Clip, plan: Plan, pieces: list[Path], folder: Path, target: Path) -> None:
    """Write the film: the pieces, and sound, subtitles, chapters and metadata of the clip.

    Parameters
    ----------
    clip : Clip
    plan : Plan
    pieces : list of Path
    folder : Path
        Beside `target`; holds the file until it is whole.
    target : Path

    Raises
    ------
    ImageError
        If it cannot be written; an older file is then untouched.
    """
    library = av()
    place = target.resolve() if target.is_symlink() else target
    temporary = folder / f"{JOINED}{target.suffix}"
    options = {"movflags": "+faststart"} if target.suffix.lower() in (".mp4", ".m4v") else {}
    try:
        with library.open(str(temporary), "w", options=options) as out:
            _mux(clip, plan, pieces, out)
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        if place.exists():
            os.chmod(temporary, place.stat().st_mode & 0o777)
        os.replace(temporary, place)
    except (library.FFmpegError, OSError, ValueError) as error:
        raise ImageError(f"{target} cannot be written: {reason(error)}.") from None
    finally:
        with contextlib.suppress(OSError):
            os.unlink(temporary)


def _mux(clip: Clip, plan: Plan, pieces: list[Path], out: Any) -> None:
    library = av()
    with library.open(clip.path, metadata_errors="replace") as source:
        others = [source.streams[index] for index in plan.copied]
        stream, copied = _streams(clip, plan.coding, out, others, [])
        out.metadata.update(source.metadata)
        with contextlib.suppress(ValueError, TypeError, library.FFmpegError):
            out.set_chapters(source.chapters())
        step = max(1, round(1 / (clip.rate * clip.time_base)))
        film = _film_packets(stream, _timed(pieces, step), clip.time_base)
        rest = _copied_packets(source, copied, clip.start)
        for _, _, packet in heapq.merge(film, rest, key=lambda row: row[:2]):
            out.mux_one(packet)


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


Row = tuple[Fraction, int, Any]


def _film_packets(
    stream: Any, timed: Iterable[tuple[bytes, int, int, bool]], time_base: Fraction
) -> Iterator[Row]:
    library = av()
    for data, pts, dts, key in timed:
        packet = library.Packet(data)
        packet.pts, packet.dts, packet.time_base = pts, dts, time_base
        packet.is_keyframe = key
        packet.stream = stream
        yield dts * time_base, -1, packet


def _copied_packets(source: Any, copied: dict[int, Any], start: Fraction) -> Iterator[Row]:
    """Packets of all other streams, as they are; the times of each go on where they jump back."""
    library = av()
    shifts: dict[int, int] = {}
    last: dict[int, int] = {}
    now = Fraction(0)
    wanted = [source.streams[index] for index in copied]
    packets = source.demux(wanted) if wanted else iter(())
    while True:
        try:
            packet = next(packets, None)
        except library.FFmpegError:  # which reading the film has told
            return
        if packet is None:
            return
        if not packet.size:  # the end of a stream
            continue
        index = packet.stream.index
        shift = shifts.setdefault(index, -round(start / packet.time_base))
        dts = packet.dts if packet.dts is not None else packet.pts
        if dts is None:  # a cover, which is shown at all times
            dts = packet.pts = last.get(index, -1) + 1 - shift
        if index in last and dts + shift <= last[index]:
            shift = shifts[index] = last[index] + max(1, packet.duration or 1) - dts
        packet.dts = last[index] = dts + shift
        if packet.pts is not None:
            packet.pts += shift
        now = max(now, packet.dts * packet.time_base)
        packet.stream = copied[index]
        yield now, index, packet
