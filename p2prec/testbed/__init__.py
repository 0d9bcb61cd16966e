"""`p2prec testbed`: a swarm of weak devices in containers on one machine; followed, disturbed and measured."""
