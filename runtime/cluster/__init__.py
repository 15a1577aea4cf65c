"""Folders of millions of photos on many machines: ``python -m runtime.cluster``. Needs Ray."""
