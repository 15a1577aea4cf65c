"""A TensorRT engine where there is a GPU. ``python examples/with_tensorrt.py [OUT]``.

Build the engine first, on the machine that is to run it: ``python -m export.trt``.
"""

import sys
from pathlib import Path

from runtime import ColorizationError, Colorizer, Hints, read_image, write_image

here, out = Path(__file__).parent, Path(sys.argv[1] if len(sys.argv) > 1 else ".")

try:
    colorizer = Colorizer("hscaunet-lite.fp16.engine")
except ColorizationError as error:
    # No GPU, no engine, or one built for another GPU: the message says which.
    print(f"Going on without TensorRT: {error}")
    colorizer = Colorizer()

with colorizer:  # frees the GPU's memory at the end
    print(colorizer)
    hints = Hints.load(here / "coffee.hints.json")
    rgb = colorizer.colorize(read_image(here / "coffee-grey.jpg"), hints)
write_image(out / "tensorrt.png", rgb)
