"""INT8: quantize an exported network, with ranges measured on what users do.

``python -m calibration MODEL.onnx --data PHOTOS -o MODEL.int8.onnx``; see docs/calibration.md.
"""
