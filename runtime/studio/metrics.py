"""Numbers for Prometheus."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

if TYPE_CHECKING:
    from .store import Store


class Metrics:
    """What is counted; of no photo anything but that it was there.

    Parameters
    ----------
    store : Store
    """

    def __init__(self, store: Store) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "hscaunet_requests", "Requests.", ["method", "route", "status"], registry=self._registry
        )
        self._seconds = Histogram(
            "hscaunet_request_seconds",
            "Time to answer.",
            ["route"],
            registry=self._registry,
            buckets=(0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30),
        )
        self._photos = Counter("hscaunet_photos", "Photos opened.", registry=self._registry)
        Gauge("hscaunet_open_photos", "Photos open.", registry=self._registry).set_function(
            lambda: len(store)
        )
        Gauge("hscaunet_open_bytes", "What they hold.", registry=self._registry).set_function(
            lambda: store.nbytes
        )

    def count(self, method: str, route: str, status: int, seconds: float) -> None:
        """One request that was answered."""
        if method not in ("GET", "HEAD", "POST", "DELETE", "OPTIONS"):
            method = "other"  # a client may name as many as it likes
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def opened(self) -> None:
        """One photo that was opened."""
        self._photos.inc()

    def text(self) -> bytes:
        """In Prometheus' text format."""
        return generate_latest(self._registry)
