"""TensorRT and TensorRT for RTX: engine files built by ``python -m export.trt``, run here.

====================== ==========================================================================
module                 what it is responsible for
====================== ==========================================================================
`library`              which of the two libraries is installed, and its version
`sidecar`              what stands beside an engine file, and whether that engine may be loaded
`cuda`                 memory, streams and graphs, behind one interface with two implementations
`buffers`              page-locked host and device memory of one lane
`lane`                 one execution context with its stream, buffers and CUDA graph
`engine`               the engine as `runtime.Colorizer` uses it: lanes for its threads
====================== ==========================================================================
"""
