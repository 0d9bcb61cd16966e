"""Exit 0 when the daemon of this container answers `status`.

Asks over the control socket as `p2prec status` does, without its command line: a tenth of the CPU, which counts where fifty peers
are asked every half minute.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from p2prec.api.client import call
from p2prec.errors import P2PRecError

try:
    status = call(Path(os.environ["P2PREC_STATE"]) / "control.sock", "status", deadline_s=15)
except P2PRecError as error:
    sys.exit(str(error))
print(status["state"], status["neighbours"], "neighbours")
