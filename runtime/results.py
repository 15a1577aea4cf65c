"""Results as files: their names, what they can hold, and what is written beside the pixels."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from .hints import Hints
from .images import (
    FORMATS,
    MAX_PIXELS,
    READABLE,
    Metadata,
    Photo,
    check_writable,
    encode_image,
    fit_pixels,
    write_image,
)
from .images.headers import kind_of
from .images.xmp import with_provenance

if TYPE_CHECKING:
    from .colorizer import Colorizer
    from .lightness import Lightness


ENDINGS = {"JPEG": ".jpg", "PNG": ".png", "TIFF": ".tif", "WEBP": ".webp", "AVIF": ".avif",
           "BMP": ".bmp"}  # fmt: skip
"""Of each format that is written, the usual ending."""


@dataclass(frozen=True)
class Settings:
    """How photos are read and written.

    Attributes
    ----------
    max_pixels, page, tolerant
        See `runtime.images.decode_photo`.
    quality : int or None
        See `runtime.images.encode_image`.
    metadata : bool
        Whether to write what lies beside the pixels.
    provenance : bool
        Whether to say in XMP how the colours were made.
    in_place : bool
        Whether a photo may be written over itself.
    lightness : Lightness or None
        How photos become grey.
    look : dict of str to float
        What of a `runtime.Look` counts in place of that of the hints.
    """

    max_pixels: int = MAX_PIXELS
    page: int | None = None
    tolerant: bool = False
    quality: int | None = None
    metadata: bool = True
    provenance: bool = False
    in_place: bool = False
    lightness: Lightness | None = None
    look: dict[str, float] = field(default_factory=dict)

    def looked(self, hints: Hints) -> Hints:
        """Hints with the look that is asked for."""
        return hints.with_look(replace(hints.look, **self.look)) if self.look else hints

    @property
    def reading(self) -> dict[str, Any]:
        """Arguments of `read_photo`."""
        return {"max_pixels": self.max_pixels, "page": self.page, "tolerant": self.tolerant}

    def check(
        self, target: str | Path, photo: str | Path | None, others: Iterable[str | Path] = ()
    ) -> None:
        """Raise `ImageError` unless the target may be written: over its own photo if that is asked
        for, over other files that are read never."""
        own = [] if photo is None or self.in_place else [photo]
        check_writable(target, inputs=[*own, *others])


def target_name(path: Path, place: Path, extension: str | None) -> Path:
    """Place of a photo's result below the folder for all, with an ending that can be written."""
    if extension is not None:
        return place.with_suffix(extension)
    if place.suffix.lower() in FORMATS:
        return place
    try:
        with open(path, "rb") as file:
            kind = kind_of(file.read(4096))
    except (OSError, ValueError):
        kind = None
    ending = ENDINGS.get(kind or "", ".png")  # GIF, HEIC and JPEG 2000 are only read
    known = place.suffix.lower() in READABLE
    return place.with_suffix(ending) if known else place.with_name(place.name + ending)


def _settled(
    photo: Photo,
    hints: Hints,
    colorizer: Colorizer,
    settings: Settings,
    notes: list[str],
    hint_file: str | Path | None,
) -> Metadata | None:
    """Metadata to write beside a result."""
    metadata = photo.metadata if settings.metadata else None
    if settings.provenance:
        from . import __version__

        facts = {
            "Software": f"hscaunet {__version__}",
            "Model": colorizer.metadata.get("name", "unnamed"),
            "ModelVersion": colorizer.metadata.get("hscaunet_version", "unknown"),
            "WeightsSHA256": colorizer.metadata.get("weights_sha256", "unknown"),
            "Hints": str(len(hints)),
            "HintsSHA256": hashlib.sha256(_hint_bytes(hints, hint_file)).hexdigest(),
        }
        metadata = metadata or Metadata()
        xmp = with_provenance(metadata.xmp, facts)
        if xmp is None:
            notes.append("Its XMP cannot be added to; it was replaced by --provenance.")
        metadata = replace(metadata, xmp=xmp or with_provenance(None, facts))
    return metadata


def _hint_bytes(hints: Hints, hint_file: str | Path | None) -> bytes:
    """The hint file, if one file holds all the hints; else what it would be."""
    try:
        if hint_file is not None and Path(hint_file).is_file():
            return Path(hint_file).read_bytes()
    except OSError:  # gone, or closed to us, since it was used
        pass
    return hints.to_json().encode()


def finish(
    target: Path,
    colored: NDArray[Any],
    photo: Photo,
    hints: Hints,
    colorizer: Colorizer,
    settings: Settings,
    notes: list[str],
    hint_file: str | Path | None = None,
) -> None:
    """Write a result; what its format cannot hold is added to `notes`.

    `hint_file` is where the hints came from, if from one file alone.
    """
    pixels, lost = fit_pixels(colored, FORMATS[target.suffix.lower()])
    notes += lost
    metadata = _settled(photo, hints, colorizer, settings, notes, hint_file)
    write_image(target, pixels, metadata, quality=settings.quality, notes=notes)


def encoded(
    ending: str,
    colored: NDArray[Any],
    photo: Photo,
    hints: Hints,
    colorizer: Colorizer,
    settings: Settings,
    notes: list[str],
    hint_file: str | Path | None = None,
) -> bytes:
    """As `finish`, for a stream."""
    kind = FORMATS[ending.lower()]
    pixels, lost = fit_pixels(colored, kind)
    notes += lost
    metadata = _settled(photo, hints, colorizer, settings, notes, hint_file)
    return encode_image(pixels, kind, metadata, quality=settings.quality, notes=notes)
