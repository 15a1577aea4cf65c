"""ICC profiles: pixels of any other colour space are brought to sRGB, or refused."""

from __future__ import annotations

import io
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ImageError, first_line
from ..tiles import row_tiles
from .curves import convert, space_of_icc

# Colours over which a profile must agree with sRGB to count as it: a step of 17 is 16 a channel.
_STEPS = np.arange(0, 256, 17, dtype=np.uint8)
# Relative colorimetric, with black point compensation, by LittleCMS's numbers: saturated colours as
# near as sRGB has them; black stays black.
_INTENT, _FLAGS = 1, 0x2000
# Left to itself, it makes tables of few steps out of a profile's, off by up to 16 of 255.
_NO_SHORTCUTS = 0x0100
_SAME = 2  # of 255; profiles that are called sRGB round their curves otherwise


@lru_cache(maxsize=1)
def srgb_profile() -> bytes:
    """An ICC profile of sRGB."""
    from PIL import ImageCms

    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def _transform(icc: bytes, mode: str) -> Any:
    from PIL import ImageCms

    return ImageCms.buildTransform(
        ImageCms.ImageCmsProfile(io.BytesIO(icc)),
        ImageCms.createProfile("sRGB"),
        mode,
        "RGB",
        ImageCms.Intent(_INTENT),
        ImageCms.Flags(_FLAGS),
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
    image: Any, mode: str, icc: bytes | None, name: str, notes: list[str]
) -> tuple[NDArray[Any], bytes | None]:
    """Bring pixels to sRGB.

    Parameters
    ----------
    image : PIL.Image.Image or ndarray
        An array is one of more than 8 bits a channel, or was no picture of Pillow's.
    mode : str
        What its channels are: L, LA, RGB, RGBA or CMYK.
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
        If more than 8 bits a channel would have to be converted by lookup tables, and imagecodecs
        is not installed.
    """
    from PIL import Image, ImageCms

    if not icc:
        return _without_cmyk(image, mode), None
    if isinstance(image, np.ndarray) and image.dtype == np.uint8:
        image = Image.fromarray(np.ascontiguousarray(image), mode)
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        space = profile.profile.xcolor_space.strip()
        if space != {"L": "GRAY", "LA": "GRAY", "CMYK": "CMYK"}.get(mode, "RGB"):
            # A profile for other channels than the file has; viewers ignore it too.
            notes.append(f"Its ICC profile is for {space}, not for its pixels, and was left out.")
            return _without_cmyk(image, mode), None
        if _is_same(icc, space):
            return np.asarray(image), icc if space == "RGB" else None
        what = ImageCms.getProfileDescription(profile).strip()
        if isinstance(image, np.ndarray):
            made = _convert_array(image, mode, icc, what, name)
        else:
            made = _convert_image(image, icc, space)
        notes.append(converted_from(repr(what)))
        return made, None if space == "GRAY" else srgb_profile()
    except ImageError:
        raise
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError) as error:
        notes.append(f"Its ICC profile is damaged and was left out ({first_line(error)}).")
        return _without_cmyk(image, mode), None


def converted_from(what: str) -> str:
    """The note that says so."""
    return f"Its colours were converted from {what} to sRGB."


def _is_same(icc: bytes, space: str) -> bool:
    """Whether a profile is as good as that of sRGB."""
    if space == "GRAY":
        return bool(np.abs(_ramp(icc).astype(int) - np.arange(256)[:, None]).max() <= _SAME)
    return space == "RGB" and _is_srgb(icc)


def _convert_image(image: Any, icc: bytes, space: str) -> NDArray[np.uint8]:
    """8 bits a channel, by LittleCMS."""
    from PIL import ImageCms

    if space == "GRAY":
        return _through_ramp(np.asarray(image), _ramp(icc))
    alpha = image.getchannel("A") if image.mode == "RGBA" else None
    source = image.convert("RGB") if alpha is not None else image
    made: Any = ImageCms.applyTransform(source, _transform(icc, source.mode))
    if alpha is not None:
        made.putalpha(alpha)
    return np.asarray(made)


def _convert_array(
    pixels: NDArray[Any], mode: str, icc: bytes, what: str, name: str
) -> NDArray[Any]:
    """An array at its own depth: by curves and a matrix, or by imagecodecs' LittleCMS."""
    space = None if mode == "CMYK" else space_of_icc(icc, grey=mode in ("L", "LA"))
    made = None if space is None else convert(pixels, space)
    if made is not None:
        return made
    try:
        import imagecodecs
    except ImportError:
        raise ImageError(
            f"{name} has more than 8 bits a channel and a colour profile of lookup tables, "
            f"{what!r}; pip install 'hscaunet[tiff]' converts it, or convert it to sRGB first."
        ) from None
    names = {"L": "gray", "LA": "gray", "CMYK": "cmyk"}
    channels = {"L": 1, "LA": 1, "CMYK": 4}.get(mode, 3)
    colour = pixels if pixels.ndim == 2 else np.ascontiguousarray(pixels[..., :channels])
    if mode == "CMYK" and colour.dtype == np.float32:
        colour = colour * np.float32(100)  # LittleCMS has ink in per cent
    if channels == 1:
        colour = np.ascontiguousarray(colour.reshape(pixels.shape[:2]))
    try:
        made = imagecodecs.cms_transform(
            colour,
            icc,
            srgb_profile(),
            colorspace=names.get(mode, "rgb"),
            outcolorspace="rgb",
            outdtype=pixels.dtype.name,
            intent=_INTENT,
            flags=_FLAGS | _NO_SHORTCUTS,
        )
    except Exception as error:  # imagecodecs' own
        raise ValueError(first_line(error)) from None
    made = np.asarray(made)
    if made.dtype == np.float32:
        np.clip(made, 0, 1, out=made)  # what sRGB lacks
    if channels == 1:
        made = made[..., 1]
    if mode in ("LA", "RGBA"):
        made = np.dstack([made, pixels[..., -1]])
    return made


def _through_ramp(pixels: NDArray[np.uint8], ramp: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Grey pixels through a grey profile; what comes out is grey as well."""
    grey = ramp[:, 1]
    if pixels.ndim == 2:
        return grey[pixels]
    return np.dstack([grey[pixels[..., 0]], pixels[..., 1]])


def _without_cmyk(image: Any, mode: str) -> NDArray[Any]:
    """Pixels without a profile; ink over white paper, as Pillow has it."""
    if not isinstance(image, np.ndarray):
        return np.asarray(image.convert("RGB") if mode == "CMYK" else image)
    if mode != "CMYK":
        return image
    top = {np.uint8: 255, np.uint16: 65535}.get(image.dtype.type, 1)
    out = np.empty((*image.shape[:2], 3), image.dtype)
    for rows in row_tiles(image.shape):
        light = top - image[rows].astype(np.float32)
        made = light[..., :3] * (light[..., 3:] / top)
        out[rows] = made if top == 1 else np.rint(made)
    return out
