"""Which metadata a format can hold; what cannot be carried is named."""

from __future__ import annotations

from dataclasses import replace

from . import exif as exif_data
from .jpeg import MAX_EXIF, fits_segment
from .photo import Metadata
from .png import keyword_of

_EXIF = ("JPEG", "PNG", "WEBP", "AVIF", "TIFF")
_XMP = _EXIF
_IPTC = ("JPEG", "TIFF")
_COMMENTS = ("JPEG", "PNG")
_TEXTS = ("PNG",)
_ICC = _EXIF


def fit_metadata(metadata: Metadata, kind: str) -> tuple[Metadata, list[str]]:
    """Metadata that a format can hold, and what was left out.

    Parameters
    ----------
    metadata : Metadata
    kind : str
        A value of `runtime.images.FORMATS`.

    Returns
    -------
    metadata : Metadata
    notes : list of str
        At most one sentence for what the format cannot hold, and one for EXIF that is too long.
    """
    lost, notes = [], []
    if metadata.exif and kind not in _EXIF:
        lost.append("EXIF")
        metadata = replace(metadata, exif=None)
    if metadata.xmp and kind not in _XMP:
        lost.append("XMP")
        metadata = replace(metadata, xmp=None)
    if metadata.iptc and kind not in _IPTC:
        lost.append("IPTC")
        metadata = replace(metadata, iptc=None)
    if metadata.comments and kind not in _COMMENTS:
        lost.append("comments")
        metadata = replace(metadata, comments=())
    if metadata.texts and kind not in _TEXTS:
        names = dict.fromkeys(keyword_of(body) for _, body in metadata.texts)
        lost.append(f"PNG texts ({', '.join(names)})")
        metadata = replace(metadata, texts=())
    if metadata.icc and kind not in _ICC:
        metadata = replace(metadata, icc=None)  # of sRGB, which is what is taken without one
    if kind == "JPEG":
        metadata, long = _fit_segments(metadata)
        notes += long
    if lost:
        notes.insert(0, f"{kind} cannot hold {' or '.join(lost)}; written without.")
    return metadata, notes


def _tag_name(tag: int) -> str:
    from PIL.ExifTags import TAGS

    return str(TAGS.get(tag, f"tag 0x{tag:04X}"))


def _fit_segments(metadata: Metadata) -> tuple[Metadata, list[str]]:
    """A JPEG's segments hold 64 kB each."""
    notes = []
    if metadata.exif and len(metadata.exif) - len(exif_data.PREFIX) > MAX_EXIF:
        block = metadata.exif.removeprefix(exif_data.PREFIX)
        block, left = exif_data.shortened(block, MAX_EXIF)
        what = "without it" if block is None else "without " + ", ".join(map(_tag_name, left))
        notes.append(f"Its EXIF data is longer than a JPEG may hold; written {what}.")
        metadata = replace(metadata, exif=None if block is None else exif_data.PREFIX + block)
    long = [name for name in ("xmp", "iptc") if not fits_segment(getattr(metadata, name) or b"")]
    if long:
        metadata = replace(metadata, **dict.fromkeys(long))
        names = " and ".join(name.upper() for name in long)
        notes.append(f"Its {names} is longer than a JPEG may hold; written without.")
    comments = tuple(c for c in metadata.comments if fits_segment(c))
    if len(comments) < len(metadata.comments):
        metadata = replace(metadata, comments=comments)
        notes.append("A comment is longer than a JPEG may hold; written without.")
    return metadata, notes
