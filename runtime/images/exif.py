"""EXIF data: what of it is kept, orientation and resolution."""

from __future__ import annotations

from typing import Any

from ..errors import first_line

_ORIENTATION, _X_RESOLUTION, _Y_RESOLUTION, _UNIT = 0x0112, 0x011A, 0x011B, 0x0128
# Tags of EXIF's first directory that describe the photo; the others describe the old file.
_KEPT = (
    0x010E,  # ImageDescription
    0x010F,  # Make
    0x0110,  # Model
    0x0131,  # Software
    0x0132,  # DateTime
    0x013B,  # Artist
    0x013C,  # HostComputer
    0x8298,  # Copyright
)
_EXIF_IFD, _GPS_IFD = 0x8769, 0x8825


def orientation_of(image: Any) -> int:
    """EXIF's orientation, 1 to 8; 1 where there is none, or it is damaged."""
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
        return int(orientation) if orientation in range(1, 9) else 1
    except Exception:  # damaged files fail in many ways
        return 1


def read_exif(image: Any, notes: list[str]) -> bytes | None:
    """EXIF worth keeping."""
    from PIL import Image

    try:
        found, kept = image.getexif(), Image.Exif()
        for tag in _KEPT:
            if tag in found:
                kept[tag] = found[tag]
        for tag in (_EXIF_IFD, _GPS_IFD):
            directory = {
                key: value
                for key, value in found.get_ifd(tag).items()
                if key != 0xA005  # the interoperability directory, an offset in the old file
            }
            if directory:
                kept.get_ifd(tag).update(directory)
                kept[tag] = directory
        data = kept.tobytes() if len(kept) else None
        # Read back: what cannot be read again is not worth writing.
        if data is not None:
            again = Image.Exif()
            again.load(data)
            dict(again)
        return data
    except Exception as error:  # damaged files fail in many ways
        notes.append(f"Its EXIF data is damaged and was left out ({first_line(error)}).")
        return None


def resolution_of(image: Any) -> tuple[float, float] | None:
    """Pixels an inch, from the file itself or from its EXIF data."""
    try:
        dpi = image.info.get("dpi")
        if dpi is None:
            exif = image.getexif()
            factor = {2: 1.0, 3: 2.54}[exif.get(_UNIT, 0)]
            dpi = exif[_X_RESOLUTION] * factor, exif[_Y_RESOLUTION] * factor
        across, down = float(dpi[0]), float(dpi[1])
        return (across, down) if 0 < across < 1e6 and 0 < down < 1e6 else None
    except Exception:  # none, or damaged: as in decode_photo
        return None


def with_resolution(exif: bytes | None, dpi: tuple[float, float]) -> bytes:
    from PIL import Image

    tags = Image.Exif()
    if exif:
        tags.load(exif)
    tags[_X_RESOLUTION], tags[_Y_RESOLUTION], tags[_UNIT] = *dpi, 2
    return tags.tobytes()
