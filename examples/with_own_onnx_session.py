"""An ONNX Runtime session of your own. ``python examples/with_own_onnx_session.py [OUT]``."""

import sys
from pathlib import Path

import onnxruntime as ort

from runtime import Colorizer, Hints, read_image, write_image
from runtime.models.manifest import find_model

here, out = Path(__file__).parent, Path(sys.argv[1] if len(sys.argv) > 1 else ".")

options = ort.SessionOptions()
options.intra_op_num_threads = 1  # whatever else the application needs of its sessions
session = ort.InferenceSession(
    find_model("hscaunet-lite"), options, providers=["CPUExecutionProvider"]
)
colorizer = Colorizer(session=session)

hints = Hints.load(here / "coffee.hints.json")
write_image(
    out / "own-session.png", colorizer.colorize(read_image(here / "coffee-grey.jpg"), hints)
)
