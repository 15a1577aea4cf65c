"""Brush strokes and regions. ``python examples/with_strokes.py [OUT]``."""

import sys
from pathlib import Path

from runtime import Colorizer, Hints, Region, Stroke, read_image, write_image

here, out = Path(__file__).parent, Path(sys.argv[1] if len(sys.argv) > 1 else ".")

photo = read_image(here / "chelsea-grey.jpg")
height, width = photo.shape[:2]
hints = Hints(
    [
        Stroke([(120, 40), (230, 70), (245, 190)], "#a58a6c", size=15),  # fur
        Stroke([(70, 190), (150, 250)], "#c8b090", size=15),
        Stroke([(148, 98), (148, 116), (170, 126)], "#a3a860", size=9),  # eyes
        Stroke([(324, 126), (322, 152)], "#a3a860", size=7),
        Stroke([(252, 238), (268, 238)], "#b57a70", size=11),  # nose
        Region("#8f979c", [(395, 40), (450, 5), (450, 80), (400, 75)]),  # what lies behind
        Region("#a79a92", [(395, 200), (450, 190), (450, 290), (400, 290)]),
    ],
    image_size=(width, height),
)
hints.save(out / "strokes.hints.json")  # strokes and regions are kept in hint files too
write_image(out / "strokes.png", Colorizer().colorize(photo, hints))
