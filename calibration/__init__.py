"""INT8: quantize an exported network, with ranges measured on what users do.

``python -m calibration MODEL.onnx --data PHOTOS -o MODEL.int8.onnx``; see docs/deploy.md.
"""

METHODS = ("max", "percentile", "entropy")
"""Ways to choose a tensor's range from the values seen: ONNX Runtime's calibrators."""

DEFAULT = "entropy"
"""The one that loses least colour; docs/benchmarks.md has the figures."""
