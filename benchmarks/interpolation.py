"""What the parts of the interpolation bring: ``python benchmarks/interpolation.py --data PATH``.

Passes, guided filter and learned numbers, each switched on in turn, without any network.
"""

from __future__ import annotations

import argparse

from hscaunet.floors import Grid
from hscaunet.grid import HintGrid
from hscaunet.photos import load_photos
from hscaunet.protocols import parse_protocols

from hscaunet.checkpoints import load_checkpoint
from hscaunet.evaluate import evaluate, table
from hscaunet.weights import bundled_weights


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", nargs="+", required=True, metavar="PATH")
    parser.add_argument("--photos", type=int, default=24, metavar="N", help="use the first N")
    args = parser.parse_args()
    photos = [rgb for _, rgb in load_photos(args.data, short_side=256, limit=args.photos)]
    methods = []
    for passes in (1, 2, 3):
        for smooth in (False, True):
            method = Grid()
            method.grid = HintGrid(passes=passes, smooth=smooth, diffuse=False)
            method.name = f"{passes} pass{'es' * (passes > 1)}{', guided filter' * smooth}"
            methods.append(method)
    diffused = Grid()
    diffused.grid = HintGrid()
    diffused.name = "2 passes, guided filter, diffusion"
    methods.append(diffused)
    learned = Grid(load_checkpoint(bundled_weights()).model)
    learned.name = "the bundled network's, learned"
    methods.append(learned)
    print(table(evaluate(methods, parse_protocols(["published", "zhang"], [10, 100]), photos)))


if __name__ == "__main__":
    main()
