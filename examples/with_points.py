"""Points: colours at pixels of a photo. ``python examples/with_points.py [OUT]``."""

import sys
from pathlib import Path

from runtime import Colorizer, Hint, read_photo, write_image

here, out = Path(__file__).parent, Path(sys.argv[1] if len(sys.argv) > 1 else ".")

colorizer = Colorizer()
photo = read_photo(here / "coffee-grey.jpg")
hints = [
    Hint(285, 165, "#c08040", size=9),  # the coffee
    Hint(130, 160, "#8c2d1a", size=9),  # the cloth
]
rgb, report = colorizer.colorize_with_report(photo.pixels, hints)
write_image(out / "points.jpg", rgb, photo.metadata)
print(f"points.jpg: mean difference at the hints {report.mean:.1f} CIEDE2000")
