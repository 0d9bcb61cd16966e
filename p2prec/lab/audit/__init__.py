"""`p2prec lab audit`: attacks on what peers send, by the code that makes it, held against what is promised."""
