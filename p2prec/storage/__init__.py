"""What a peer keeps on its own disk: the state directory and the SQLite store in it."""
