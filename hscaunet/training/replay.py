"""A training step's forward and backward pass as a CUDA graph that is replayed on each batch.

A step is some thousand small kernels, and launching them one by one from Python takes longer than
they take to run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

# Steps that are run as they are, so that nothing is chosen or compiled while recording.
_WARM_UP = 3


class Replay:
    """`compute` as a CUDA graph, recorded when it is first called.

    Parameters
    ----------
    compute : callable
        Takes tensors of the same shapes each time and returns one, the loss. It sets the
        parameters' gradients, anew and not added to what was there, asks the device for nothing and
        draws nothing at random.
    keep : iterable of Tensor
        What `compute` changes beside the gradients, such as BatchNorm's statistics: it is run a few
        times before it is recorded, which shall leave no trace.
    """

    def __init__(self, compute: Callable[..., Tensor], keep: Iterable[Tensor] = ()) -> None:
        self.compute, self.keep = compute, tuple(keep)
        self._graph: torch.cuda.CUDAGraph | None = None
        self._inputs: tuple[Tensor, ...] = ()
        self._loss = torch.empty(0)

    def __call__(self, *inputs: Tensor) -> Tensor:
        """The loss. Gradients lie where they lay the last time: never set them to None."""
        if self._graph is None:
            self._record(inputs)
        assert self._graph is not None
        for held, given in zip(self._inputs, inputs, strict=True):
            held.copy_(given)
        self._graph.replay()
        return self._loss.clone()

    def _record(self, inputs: tuple[Tensor, ...]) -> None:
        self._inputs = tuple(torch.empty_like(given).copy_(given) for given in inputs)
        kept = [tensor.clone() for tensor in self.keep]
        beside = torch.cuda.Stream()
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside):
            for _ in range(_WARM_UP):
                self.compute(*self._inputs)
        torch.cuda.current_stream().wait_stream(beside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._loss = self.compute(*self._inputs)
        for tensor, before in zip(self.keep, kept, strict=True):
            tensor.copy_(before)
        self._graph = graph
