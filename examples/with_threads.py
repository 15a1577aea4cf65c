"""One Colorizer for all threads of a server. ``python examples/with_threads.py [OUT]``."""

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from runtime import Colorizer, Hints, read_image, write_image

here, out = Path(__file__).parent, Path(sys.argv[1] if len(sys.argv) > 1 else ".")

# Many requests at a time: one core for each gives more pictures an hour than all cores for one.
colorizer = Colorizer(threads=1)


def answer(name: str) -> str:
    """What a request handler would do."""
    hints = Hints.load(here / f"{name}.hints.json")
    write_image(
        out / f"{name}-threads.png",
        colorizer.colorize(read_image(here / f"{name}-grey.jpg"), hints),
    )
    return name


with ThreadPoolExecutor(4) as pool:
    for done in pool.map(answer, ["astronaut", "chelsea", "coffee"]):
        print(done)
