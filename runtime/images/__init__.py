"""Picture files: what is read (`decode`), what is written (`encode`), and a `Photo` of both."""

from .decode import decode_image, decode_photo, read_image, read_photo
from .encode import check_writable, encode_image, fit_pixels, fits_format, write_image
from .photo import FORMATS, MAX_FILE_BYTES, MAX_PIXELS, READABLE, Metadata, Photo, to_rgb8

__all__ = [
    "FORMATS",
    "MAX_FILE_BYTES",
    "MAX_PIXELS",
    "READABLE",
    "Metadata",
    "Photo",
    "check_writable",
    "decode_image",
    "decode_photo",
    "encode_image",
    "fit_pixels",
    "fits_format",
    "read_image",
    "read_photo",
    "to_rgb8",
    "write_image",
]
