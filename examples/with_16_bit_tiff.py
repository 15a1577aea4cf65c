"""A 16-bit scan stays 16-bit, with its EXIF data. ``python examples/with_16_bit_tiff.py [OUT]``."""

import sys
from pathlib import Path

import numpy as np

from runtime import Colorizer, Hints, Metadata, read_image, read_photo, write_image

here, out = Path(__file__).parent, Path(sys.argv[1] if len(sys.argv) > 1 else ".")

# In place of a scan of your own: the example, with grain finer than 8 bits can hold.
grey = read_image(here / "coffee-grey.jpg").astype(np.int64)
grain = np.random.default_rng(0).integers(-99, 100, grey.shape)
scan = np.clip(grey * 257 + grain, 0, 65535).astype(np.uint16)
write_image(out / "scan.tif", scan, Metadata(dpi=(600, 600)))

photo = read_photo(out / "scan.tif")
rgb = Colorizer().colorize(photo.pixels, Hints.load(here / "coffee.hints.json"))
write_image(out / "colour.tif", rgb, photo.metadata)
print(f"colour.tif: {rgb.dtype}, {len(np.unique(rgb[..., 1]))} levels of green")
