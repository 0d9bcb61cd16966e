"""Swarms of thousands in one program, with the product's own kernels; nothing that a device runs imports this.

The cores are shared out among processes (`team`), so BLAS gets one thread in each unless the environment says otherwise.
With two, a swarm with 24 factors took 4.7 times as long on two cores (docs/research/0004-learning-core.md). This must come before
the first import of numpy, which reads it then.
"""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
