"""A page and an HTTP interface on this machine: ``python -m runtime.studio [PHOTO|FOLDER]``.

`make_app` gives the ASGI application for servers of one's own. What it needs beside the runtime
(Starlette, uvicorn, python-multipart, prometheus-client) comes by the extra ``studio``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .app import make_app
    from .store import Limits

__all__ = ["Limits", "make_app"]


def __getattr__(name: str) -> Any:
    if name == "make_app":
        from .app import make_app

        return make_app
    if name == "Limits":
        from .store import Limits

        return Limits
    raise AttributeError(name)
