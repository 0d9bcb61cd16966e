"""Production peers and codec in a simulated world: virtual clock, network faults, one seed."""
