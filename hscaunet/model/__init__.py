"""The networks: HSCAU-Net as published, and the one made for clicks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .network import HSCAUNet
from .published import PublishedNet

__all__ = ["HSCAUNet", "Network", "PublishedNet", "build_network"]

Network = HSCAUNet | PublishedNet

_FORMS: dict[str, type[HSCAUNet] | type[PublishedNet]] = {
    network.form: network for network in (HSCAUNet, PublishedNet)
}


def build_network(config: Mapping[str, Any]) -> Network:
    """The untrained network that a `config` describes.

    Raises
    ------
    ValueError, TypeError
        If it describes none.
    """
    rest = dict(config)
    form = rest.pop("form", None)
    if form not in _FORMS:
        raise ValueError(f"form must be one of {', '.join(sorted(_FORMS))}, not {form!r}.")
    return _FORMS[form](**rest)
