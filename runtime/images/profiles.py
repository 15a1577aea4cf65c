"""ICC profiles: pixels of any other colour space are brought to sRGB, or refused."""

from __future__ import annotations

import io
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ImageError, first_line
from .matrix_profiles import convert_deep

# Colours over which a profile must agree with sRGB to count as it: a step of 17 is 16 a channel.
_STEPS = np.arange(0, 256, 17, dtype=np.uint8)
_SAME = 2  # of 255; profiles that are called sRGB round their curves otherwise


@lru_cache(maxsize=1)
def srgb_profile() -> bytes:
    """An ICC profile of sRGB."""
    from PIL import ImageCms

    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def _transform(icc: bytes, mode: str) -> Any:
    from PIL import ImageCms

    # Saturated colours as near as sRGB has them; black stays black.
    return ImageCms.buildTransform(
        ImageCms.ImageCmsProfile(io.BytesIO(icc)),
        ImageCms.createProfile("sRGB"),
        mode,
        "RGB",
        ImageCms.Intent.RELATIVE_COLORIMETRIC,
        ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )


@lru_cache(maxsize=8)
def _ramp(icc: bytes) -> NDArray[np.uint8]:
    """(256, 3): what a grey profile makes of each byte."""
    from PIL import Image, ImageCms

    image = Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    return np.asarray(ImageCms.applyTransform(image, _transform(icc, "L")))[0]


@lru_cache(maxsize=8)
def _is_srgb(icc: bytes) -> bool:
    from PIL import Image, ImageCms

    cube = np.stack(np.meshgrid(_STEPS, _STEPS, _STEPS, indexing="ij"), -1).reshape(1, -1, 3)
    made = np.asarray(ImageCms.applyTransform(Image.fromarray(cube), _transform(icc, "RGB")))
    return int(np.abs(made.astype(int) - cube).max()) <= _SAME


def to_srgb(
    image: Any, icc: bytes | None, name: str, notes: list[str]
) -> tuple[NDArray[Any], bytes | None]:
    """Bring pixels to sRGB.

    Parameters
    ----------
    image : PIL.Image.Image of mode L, LA, RGB, RGBA or CMYK, or ndarray
        An array is one of more than 8 bits a channel.
    icc : bytes, optional
        Its profile.
    name : str
        What to call it in errors.
    notes : list of str
        Gets a sentence for what was changed.

    Returns
    -------
    pixels : ndarray
    icc : bytes or None
        Profile to write with them; None if the file had none, or was grey.

    Raises
    ------
    ImageError
        If more than 8 bits a channel would have to be converted by lookup tables.
    """
    from PIL import ImageCms

    deep = isinstance(image, np.ndarray)
    mode = image.mode if not deep else "L" if image.ndim == 2 or image.shape[2] == 2 else "RGB"
    if not icc:
        return (image if deep else np.asarray(_without_cmyk(image))), None
    try:
        space = ImageCms.ImageCmsProfile(io.BytesIO(icc)).profile.xcolor_space.strip()
        if space != {"L": "GRAY", "LA": "GRAY", "CMYK": "CMYK"}.get(mode, "RGB"):
            # A profile for other channels than the file has; viewers ignore it too.
            notes.append(f"Its ICC profile is for {space}, not for its pixels, and was left out.")
            return (image if deep else np.asarray(_without_cmyk(image))), None
        if space == "GRAY":
            ramp = _ramp(icc)
            same = np.abs(ramp.astype(int) - np.arange(256)[:, None]).max() <= _SAME
        else:
            same = space == "RGB" and _is_srgb(icc)
        if same:
            return (image if deep else np.asarray(image)), icc if space == "RGB" else None
        what = ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(icc))).strip()
        if deep:
            converted = convert_deep(image, icc)
            if converted is None:
                raise ImageError(
                    f"{name} has more than 8 bits a channel and a colour profile of lookup tables, "
                    f"{what!r}; convert it to sRGB first, which here would cost its depth."
                )
            notes.append(f"Its colours were converted from {what!r} to sRGB.")
            return converted, srgb_profile() if space == "RGB" else None
        notes.append(f"Its colours were converted from {what!r} to sRGB.")
        if space == "GRAY":
            return _through_ramp(np.asarray(image), ramp), None
        alpha = image.getchannel("A") if mode == "RGBA" else None
        source = image.convert("RGB") if alpha is not None else image
        made: Any = ImageCms.applyTransform(source, _transform(icc, source.mode))
        if alpha is not None:
            made.putalpha(alpha)
        return np.asarray(made), srgb_profile()
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError) as error:
        if isinstance(error, ImageError):
            raise
        notes.append(f"Its ICC profile is damaged and was left out ({first_line(error)}).")
        return (image if deep else np.asarray(_without_cmyk(image))), None


def _through_ramp(pixels: NDArray[np.uint8], ramp: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Grey pixels through a grey profile; what comes out is grey as well."""
    grey = ramp[:, 1]
    if pixels.ndim == 2:
        return grey[pixels]
    return np.dstack([grey[pixels[..., 0]], pixels[..., 1]])


def _without_cmyk(image: Any) -> Any:
    return image.convert("RGB") if image.mode == "CMYK" else image
