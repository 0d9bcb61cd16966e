"""Catalogues and interactions: from files as people have them to what a peer trains on."""
