"""The page server: what it answers, its bounds, and that a stranger's web site cannot read it through the owner's browser."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from http import HTTPStatus

import pytest

from p2prec.api.http_server import MAX_REQUEST_BYTES, HttpServer, Page
from p2prec.errors import TransportFailure

HEAD = "Host: 127.0.0.1:9464\r\n"


def hello(accept: str) -> Page:
    return Page("text/plain", f"hello, {accept or 'anyone'}".encode())


def broken(accept: str) -> Page:
    raise ZeroDivisionError


def with_server(
    test: Callable[[HttpServer, int], Awaitable[None]], *, host: str = "127.0.0.1", **bounds: float
) -> None:
    async def whole() -> None:
        server = HttpServer({"/": hello, "/broken": broken}, **bounds)  # type: ignore[arg-type]
        await server.start(host, 0)
        try:
            await test(server, int(server.address.rpartition(":")[2]))
        finally:
            await server.close()
            await server.close()

    asyncio.run(whole())


async def ask(port: int, request: str | bytes) -> tuple[int, dict[str, str], bytes]:
    """(status, headers, body) of what comes back until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request if isinstance(request, bytes) else request.encode())
    async with asyncio.timeout(30):
        answer = await reader.read()
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    return int(status.split()[1]), headers, body


async def eventually(condition: Callable[[], bool]) -> None:
    for _ in range(3000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("not within 30 s")


@pytest.mark.parametrize(
    ("request_text", "status", "body"),
    [
        (f"GET / HTTP/1.1\r\n{HEAD}\r\n", 200, "hello, anyone"),
        (f"GET /?name[]=x HTTP/1.1\r\n{HEAD}\r\n", 200, "hello, anyone"),
        (f"GET / HTTP/1.1\r\n{HEAD}ACCEPT: text/plain\r\n\r\n", 200, "hello, text/plain"),
        (f"HEAD / HTTP/1.1\r\n{HEAD}\r\n", 200, ""),
        (f"POST / HTTP/1.1\r\n{HEAD}\r\n", 405, "GET and HEAD only\n"),
        (f"GET /elsewhere HTTP/1.1\r\n{HEAD}\r\n", 404, "there are /, /broken\n"),
        (f"GET /broken HTTP/1.1\r\n{HEAD}\r\n", 500, "the log says why\n"),
        ("GET / HTTP/1.1\r\nHost: LocalHost:80\r\n\r\n", 200, "hello, anyone"),
        ("GET / HTTP/1.1\r\nHost: [::1]\r\n\r\n", 200, "hello, anyone"),
        ("GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", 200, "hello, anyone"),
        ("GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n", 421, "this page is for this machine only\n"),
        ("GET / HTTP/1.1\r\nHost: evil.example:9464\r\n\r\n", 421, "this page is for this machine only\n"),
        ("GET / HTTP/1.1\r\n\r\n", 421, "this page is for this machine only\n"),
        ("GET /\r\n\r\n", 400, "not an HTTP/1.1 request\n"),
        ("GET / HTTP/2.0\r\n\r\n", 400, "not an HTTP/1.1 request\n"),
        (b"\x16\x03\x01\x00\xff\xfe\r\n\r\n", 400, "not an HTTP/1.1 request\n"),
    ],
)
def test_answers(request_text: str | bytes, status: int, body: str) -> None:
    async def test(server: HttpServer, port: int) -> None:
        found, headers, content = await ask(port, request_text)
        assert (found, content.decode()) == (status, body)
        assert headers["Connection"] == "close"
        assert ("Allow" in headers) == (status == HTTPStatus.METHOD_NOT_ALLOWED)
        if "HEAD /" not in str(request_text):
            assert int(headers["Content-Length"]) == len(content)

    with_server(test)


def test_a_name_may_ask_where_the_owner_opened_the_page_to_the_network() -> None:
    async def test(server: HttpServer, port: int) -> None:
        assert (await ask(port, "GET / HTTP/1.1\r\nHost: p2prec-0.p2prec:9464\r\n\r\n"))[0] == 200

    with_server(test, host="0.0.0.0")


@pytest.mark.parametrize(("excess", "status"), [(0, 200), (1, 431)])
def test_a_request_is_bounded(excess: int, status: int) -> None:
    async def test(server: HttpServer, port: int) -> None:
        start = f"GET / HTTP/1.1\r\n{HEAD}X: "
        filling = "x" * (MAX_REQUEST_BYTES + excess - len(start))
        assert (await ask(port, f"{start}{filling}\r\n\r\n"))[0] == status

    with_server(test)


def test_a_client_that_sends_nothing_is_closed() -> None:
    async def test(server: HttpServer, port: int) -> None:
        reader, _ = await asyncio.open_connection("127.0.0.1", port)
        async with asyncio.timeout(30):
            assert await reader.read() == b""

    with_server(test, deadline_s=0.05)


def test_clients_are_bounded_and_their_places_come_free() -> None:
    async def test(server: HttpServer, port: int) -> None:
        idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        await eventually(lambda: server.n_clients == 2)
        reader, _ = await asyncio.open_connection("127.0.0.1", port)
        async with asyncio.timeout(30):
            assert await reader.read() == b""
        idle[0][1].close()
        await eventually(lambda: server.n_clients == 1)
        assert (await ask(port, f"GET / HTTP/1.1\r\n{HEAD}\r\n"))[0] == 200

    with_server(test, max_clients=2)


def test_an_address_in_use_is_said_so() -> None:
    async def test(server: HttpServer, port: int) -> None:
        with pytest.raises(TransportFailure, match=f"127.0.0.1:{port}: Address already in use"):
            await HttpServer({}).start("127.0.0.1", port)

    with_server(test)


def test_it_has_no_address_until_it_listens() -> None:
    assert HttpServer({}).address == ""
