"""Logs interactions without end, some hundred batches a second, and acknowledges each batch only after it was stored.

`python writer.py STATE FIRST`: interactions are numbered from FIRST on; a line on stdout names the last number that is safe.
What the store does is what `p2prec log` and `p2prec import` do; what the acknowledgement means is their exit code.
"""

from __future__ import annotations

import os
import random
import sys
import time
from pathlib import Path

from p2prec.data.interactions import Interaction
from p2prec.storage.state import StateDirectory
from p2prec.types import ItemKey

N_ITEMS = 60


def main() -> None:
    directory, number = StateDirectory.open(Path(sys.argv[1])), int(sys.argv[2])
    sizes = random.Random(number)
    with directory.open_store() as store:
        while True:
            batch = range(number, number + sizes.randint(1, 5))
            store.add_interactions(Interaction(ItemKey(f"i{n % N_ITEMS}"), "play", None, float(n)) for n in batch)
            number = batch.stop
            os.write(1, f"{batch[0]} {batch[-1]}\n".encode())  # one write: whole, or not at all
            time.sleep(sizes.uniform(0.0, 0.01))  # SQLite's lock is not fair: without a pause nobody else would get it


if __name__ == "__main__":
    main()
