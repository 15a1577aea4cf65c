"""Brush strokes and regions. ``python examples/with_strokes.py [OUT]``."""

import sys
from pathlib import Path

from runtime import Colorizer, Hints, Region, Stroke, read_image, write_image

here, out = Path(__file__).parent, Path(sys.argv[1] if len(sys.argv) > 1 else ".")

photo = read_image(here / "chelsea-grey.jpg")
height, width = photo.shape[:2]
hints = Hints(
    [
        # Everything is fur, unless something later says otherwise.
        Region("#b08a68", [(0, 0), (width - 1, 0), (width - 1, height - 1), (0, height - 1)]),
        Stroke([(170, 110), (185, 104), (200, 112)], "#a8b060", width=9),  # an eye
        Stroke([(225, 175), (240, 182)], "#c08080", width=11),  # the nose
    ],
    image_size=(width, height),
)
hints.save(out / "strokes.hints.json")  # strokes and regions are kept in hint files too
write_image(out / "strokes.png", Colorizer().colorize(photo, hints))
