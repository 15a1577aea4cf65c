"""The tables of figures in README and docs, written from what ``evaluate --json`` wrote.

``python benchmarks/figures.py objects.json photos.json`` takes their figures into
docs/figures.json, which holds those of floors and earlier networks too; without arguments it only
writes the tables anew. A test holds the documents to docs/figures.json.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

from hscaunet.tables import markdown

ROOT = Path(__file__).parent.parent
KEPT = ROOT / "docs" / "figures.json"
DOCUMENTS = (ROOT / "README.md", ROOT / "docs" / "model-card.md")
BUNDLED = "hscaunet-lite"
OURS = f"**{BUNDLED}**"
CLICKS = (1, 3, 5)

_PLACE = re.compile(r"(<!-- figures: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def take(kept: dict[str, Any], report: dict[str, Any]) -> None:
    """Put a report's figures in the place of those that are kept of the same methods."""
    for row in report["rows"]:
        method = OURS if row["method"].startswith(BUNDLED) else row["method"]
        if "took" in row:
            _, task, k = row["protocol"].split()
            figures = {key: round(row[key], 4) for key in ("took", "spill", "harmed")}
            tasks = kept["objects"].setdefault(method, {})
            tasks.setdefault(task, {})[k.removeprefix("k=")] = figures
        else:
            figures = [round(row["psnr"], 2), round(row["ssim"], 4)]
            kept["photos"].setdefault(method, {})[row["protocol"]] = figures


def objects_table(kept: dict[str, Any]) -> str:
    """Clicks on things: a line a method and task."""
    lines = []
    for method, tasks in kept["objects"].items():
        for task, by_k in tasks.items():
            cells = [
                " / ".join(f"{by_k[str(k)][key]:.2f}".lstrip("0") for k in CLICKS)
                if all(key in by_k[str(k)] for k in CLICKS)
                else ""
                for key in ("took", "spill", "harmed")
            ]
            lines.append([method, task, *cells])
    return markdown(["k = 1 / 3 / 5", "task", "took", "spill", "harmed"], lines)


def photos_table(kept: dict[str, Any]) -> str:
    """Hints all over: a line a method, a column a protocol that all were measured with."""
    methods = kept["photos"].values()
    protocols = [p for p in kept["photos"][OURS] if all(p in figures for figures in methods)]
    lines = []
    for method, figures in kept["photos"].items():
        cells = [f"{figures[p][0]:.2f} / {figures[p][1]:.4f}" for p in protocols]
        lines.append([method, *cells])
    return markdown(["PSNR / SSIM", *protocols], lines)


def filled(text: str, kept: dict[str, Any]) -> str:
    """A document with its tables written anew."""
    tables = {"objects": objects_table(kept), "photos": photos_table(kept)}
    return _PLACE.sub(lambda m: f"{m[1]}{tables[m[2]]}\n{m[3]}", text)


def main() -> None:
    """Take reports, if any, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("reports", nargs="*", type=Path, help="what evaluate --json wrote")
    args = parser.parse_args()
    kept = json.loads(KEPT.read_text("utf-8"))
    for path in args.reports:
        take(kept, json.loads(path.read_text("utf-8")))
    KEPT.write_text(json.dumps(kept, indent=1) + "\n", "utf-8")
    for document in DOCUMENTS:
        document.write_text(filled(document.read_text("utf-8"), kept), "utf-8")


if __name__ == "__main__":
    main()
