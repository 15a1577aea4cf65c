"""A model repository for NVIDIA Triton: ``python -m export.triton [MODEL ...] -o REPOSITORY``."""
