"""The libp2p transport (`p2prec[libp2p]`): py-libp2p's Noise and yamux over TCP, in a trio thread behind the asyncio interface.

Nothing here is imported unless somebody chose this transport: py-libp2p takes a second and 50 MB (docs/transports.md).
"""
