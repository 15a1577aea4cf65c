"""One command for all of it: ``hscaunet VERB ...`` is ``python -m MODULE ...``."""

from __future__ import annotations

import sys
from importlib import import_module

VERBS = {
    "colorize": ("runtime.__main__", "colorize photos or a film from hints"),
    "studio": ("runtime.studio.__main__", "open a page where photos are colorized by clicks"),
    "cluster": ("runtime.cluster.__main__", "colorize folders of millions with Ray"),
    "train": ("hscaunet.train", "train a network"),
    "segment": ("hscaunet.segment", "find the things in training photos"),
    "evaluate": ("hscaunet.evaluate", "measure networks on photos"),
    "export": ("export.onnx", "write a network as ONNX"),
    "engine": ("export.trt", "compile a TensorRT engine"),
    "triton": ("export.triton.__main__", "write a model repository for Triton"),
    "parity": ("export.parity", "compare two forms of a network"),
    "calibrate": ("calibration.__main__", "quantize a network to INT8"),
}


def usage() -> str:
    """What there is, for ``--help``."""
    lines = [f"  {verb:<10}{text}" for verb, (_, text) in VERBS.items()]
    return "\n".join(
        ["usage: hscaunet VERB ...", "", *lines, "", "hscaunet VERB --help says more."]
    )


def main(argv: list[str] | None = None) -> int:
    """Hand the rest of the command line to the verb's module; returns the exit status."""
    words = sys.argv[1:] if argv is None else argv
    if words and words[0] in ("-h", "--help"):
        print(usage())
        return 0
    if words and words[0] == "--version":
        from runtime import __version__

        print(f"hscaunet {__version__}")
        return 0
    if not words or words[0] not in VERBS:
        if words:
            print(f"error: there is no verb {words[0]!r:.60}.", file=sys.stderr)
        print(usage(), file=sys.stderr)
        return 2
    module = import_module(VERBS[words[0]][0])
    status: int = module.main(words[1:])
    return status


if __name__ == "__main__":
    sys.exit(main())
