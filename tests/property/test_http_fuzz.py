"""Whatever a client sends, the page server answers with a page: one that exists, or one that says what is wrong."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from p2prec.api.http_server import MAX_REQUEST_BYTES, HttpServer, Page

SERVER = HttpServer({"/metrics": lambda accept: Page("text/plain", accept.encode())})
ALMOST = st.tuples(
    st.sampled_from([b"GET", b"HEAD", b"POST", b"", b"get"]),
    st.sampled_from([b"/metrics", b"/metrics?x", b"/", b"//", b"*", b"http://x/metrics"]),
    st.sampled_from([b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2", b""]),
    st.lists(st.binary(max_size=40), max_size=6),
).map(lambda parts: b" ".join(parts[:3]) + b"\r\n" + b"\r\n".join(parts[3]) + b"\r\n\r\n")


@given(st.one_of(st.binary(max_size=MAX_REQUEST_BYTES), ALMOST))
@example(b"GET /metrics HTTP/1.1\r\nHost: [\r\n\r\n")
@example(b"GET /metrics HTTP/1.1\r\nHost: ]:\r\n\r\n")
@example(b"\r\n\r\n")
def test_every_request_has_an_answer(head: bytes) -> None:
    page = SERVER._page(head)
    assert page.status.value in (200, 400, 404, 405, 421)
    assert page.body.endswith(b"\n") or page.status.value == 200
