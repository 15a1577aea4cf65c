"""From an ONNX file to a TensorRT engine: `graph`, `options`, `compile`, `layers`, `build`."""
