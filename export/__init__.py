"""Export networks: ``python -m export.onnx``."""
