"""Photos of a folder, many to a call of the engine. ``python examples/with_batch_folder.py OUT``.

The command line goes through folders as well, and on past bad files:
``python -m runtime PHOTOS --hints-dir HINTS --out-dir OUT``, with NAME.json for NAME.jpg.
"""

import sys
from pathlib import Path

from runtime import Colorizer, Hints, read_photo, write_image

here, out = Path(__file__).parent, Path(sys.argv[1] if len(sys.argv) > 1 else ".")

colorizer = Colorizer()
colorizer.warm_up()
paths = sorted(here.glob("*-grey.jpg"))
photos = [read_photo(path) for path in paths]
hints = [Hints.load(str(path).replace("-grey.jpg", ".hints.json")) for path in paths]

for path, photo, rgb in zip(
    paths, photos, colorizer.batch([p.pixels for p in photos], hints), strict=True
):
    write_image(out / path.name, rgb, photo.metadata)
    print(path.name, rgb.shape)
