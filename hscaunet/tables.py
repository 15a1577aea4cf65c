"""Tables as text: Markdown, and columns for a terminal."""

from __future__ import annotations

from collections.abc import Sequence


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]], *, pad: bool = False) -> str:
    """A Markdown table; with `pad`, its columns are as wide as their widest cell."""
    lines = [list(head), *map(list, rows)]
    widths = _widths(lines) if pad else [0] * len(head)
    texts = ["| " + " | ".join(_padded(line, widths)) + " |" for line in lines]
    rule = "|".join("-" * (w + 2) for w in widths) if pad else "|".join([" --- "] * len(head))
    return "\n".join([texts[0], f"|{rule}|", *texts[1:]])


def columns(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The first column to the left, the others to the right."""
    lines = [list(head), *map(list, rows)]
    widths = _widths(lines)
    return "\n".join(
        "  ".join([line[0].ljust(widths[0])]
                  + [c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True)]).rstrip()
        for line in lines
    )  # fmt: skip


def _widths(lines: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(len, column)) for column in zip(*lines, strict=True)]


def _padded(line: Sequence[str], widths: Sequence[int]) -> list[str]:
    return [cell.ljust(width) for cell, width in zip(line, widths, strict=True)]
