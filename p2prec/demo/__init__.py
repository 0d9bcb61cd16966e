"""`p2prec demo`: a swarm of real daemons on one machine, each with one real person's history."""
