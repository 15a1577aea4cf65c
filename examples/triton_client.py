"""Colorize on a Triton server. ``python examples/triton_client.py [URL] [OUT.png]``.

The server runs the repository of ``python -m export.triton -o repository``; the client needs
``pip install hscaunet "tritonclient[http]"`` and no engine.
"""

import sys
from pathlib import Path

import numpy as np
import tritonclient.http as triton

from runtime import Hints, read_image, write_image
from runtime.images import to_rgb8
from runtime.layout import network_size

here = Path(__file__).parent
url = sys.argv[1] if len(sys.argv) > 1 else "localhost:8000"
out = sys.argv[2] if len(sys.argv) > 2 else "astronaut-triton.png"

photo = to_rgb8(read_image(here / "astronaut-grey.jpg"))
hints = Hints.load(here / "astronaut.hints.json")
height, width = photo.shape[:2]
high, wide = network_size(height, width)
colors, mask = hints.draw((width, height), (wide, high))

inputs = []
for name, value in {"photo": photo, "hint": colors, "mask": mask.astype(np.uint8)}.items():
    one = triton.InferInput(name, [1, *value.shape], "UINT8")
    one.set_data_from_numpy(np.ascontiguousarray(value[None]))
    inputs.append(one)
answer = triton.InferenceServerClient(url).infer(
    "hscaunet_photo", inputs, outputs=[triton.InferRequestedOutput("colorized")]
)
write_image(out, answer.as_numpy("colorized")[0])
print(out)
