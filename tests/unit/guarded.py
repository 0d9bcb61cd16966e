"""A listening transport for tests of what it lets in and what it refuses."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from p2prec.config import TransportKind
from p2prec.identity import Identity
from p2prec.manifest import Manifest
from p2prec.transport.base import Connection
from p2prec.transport.tcp import InboundLimits, InboundRefusal, TcpTransport

HOST = "127.0.0.1"
LONG_S = 10.0


class GuardedListener:
    """Notes what was accepted, what was refused, and who spoke another transport."""

    def __init__(
        self,
        make: Callable[..., TcpTransport[Any]],
        manifest: Manifest,
        secret: bytes | None,
        limits: InboundLimits | None,
        host: str = HOST,
    ) -> None:
        self.refusals: asyncio.Queue[tuple[str, InboundRefusal, str]] = asyncio.Queue()
        self.mismatches: list[tuple[str, int, TransportKind]] = []
        self.accepted: asyncio.Queue[Connection] = asyncio.Queue()
        self.identity = Identity.generate()
        self.host = host
        self.transport = make(
            self.identity,
            manifest,
            secret,
            limits=limits,
            on_refused=lambda *args: self.refusals.put_nowait(args),
            on_mismatch=lambda *args: self.mismatches.append(args),
        )

    async def __aenter__(self) -> GuardedListener:
        await self.transport.listen(self.host, 0, self._accept)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.transport.close()

    async def _accept(self, connection: Connection) -> None:
        await self.accepted.put(connection)
        await asyncio.Event().wait()

    async def refusal(self) -> tuple[str, InboundRefusal, str]:
        async with asyncio.timeout(LONG_S):
            return await self.refusals.get()

    async def connection(self) -> Connection:
        async with asyncio.timeout(LONG_S):
            return await self.accepted.get()

    async def dial(self, transport: TcpTransport[Any]) -> Any:
        return await transport.dial(HOST, self.transport.listen_port, deadline_s=LONG_S)

    async def open_socket(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(HOST, self.transport.listen_port)
