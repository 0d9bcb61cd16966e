"""The asyncio side: sockets, clock, store and life cycle around the sans-I/O peer. Small on purpose."""
