"""The kernels of a lab's round in machine code: the same numbers to the bit, several times as fast. Needs numba."""
