"""p2prec: private recommendations that devices learn together, by gossip."""

__version__ = "0.1.0"
