"""Live editing: add, move, undo, preview, suggest. ``python examples/with_session.py [OUT]``."""

import sys
from pathlib import Path

from runtime import Colorizer, Hint, read_photo, write_image

here, out = Path(__file__).parent, Path(sys.argv[1] if len(sys.argv) > 1 else ".")

photo = read_photo(here / "coffee-grey.jpg")
session = Colorizer().open(photo.pixels)  # what depends on the photo alone is computed now

coffee = session.add(Hint(285, 165, "#c08040", size=9))
write_image(out / "preview-1.png", session.preview(max_side=300))  # small, for the screen

cloth = session.add(Hint(500, 60, "#8c2d1a", size=9))
session.move(cloth, 130, 160)  # a person drags it
session.remove(coffee)
session.undo()  # ... and wants it back
write_image(out / "preview-2.png", session.preview(max_side=300))

print("Colours for the table:", session.suggest(40, 350, k=4))

session.save_hints(out / "session.hints.json")
write_image(out / "session.jpg", session.render(), photo.metadata)  # full size
