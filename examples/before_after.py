"""Grey photo, its hints and the result side by side: the picture at the top of the README."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from runtime import Colorizer, Hints, read_image, write_image
from runtime.images import to_rgb8


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", nargs="+", help="such as examples/astronaut")
    parser.add_argument("-o", "--output", required=True)
    parser.add_argument("--height", type=int, default=360, help="of each row, in pixels")
    args = parser.parse_args()

    import cv2

    colorizer = Colorizer()
    rows = []
    for name in args.name:
        photo = read_image(f"{name}-grey.jpg")
        hints = Hints.load(Path(f"{name}.hints.json"))
        result, photo = colorizer.colorize(photo, hints), to_rgb8(photo)
        scale = args.height / photo.shape[0]
        size = (round(photo.shape[1] * scale), args.height)
        photo, result = (cv2.resize(p, size, interpolation=cv2.INTER_AREA) for p in (photo, result))
        clicks = photo.copy()
        for hint in hints:
            place = (round((hint.x + 0.5) * scale), round((hint.y + 0.5) * scale))
            cv2.circle(clicks, place, 7, (255, 255, 255), -1, cv2.LINE_AA)
            cv2.circle(clicks, place, 5, hint.color, -1, cv2.LINE_AA)
        gap = np.full((args.height, 6, 3), 255, np.uint8)
        rows.append(np.hstack([photo, gap, clicks, gap, result]))
    width = max(row.shape[1] for row in rows)
    rows = [np.pad(r, ((0, 6), (0, width - r.shape[1]), (0, 0)), constant_values=255) for r in rows]
    write_image(args.output, np.vstack(rows)[:-6])


if __name__ == "__main__":
    main()
