"""What every connection to a service keeps to: an answer belongs to its call, whatever comes over the wire."""

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

import aiohttp
import pytest

from deploy.local.process import free_ports
from services.gateway.heads import ended
from services.gateway.upstream import Lost, Unreached
from tests.certificates import make_certificates
from tests.unit.gateway.told_service import Cut, Script, Silent, ask, asked, pooled, said, standing, until, upload


async def test_calls_one_after_the_other_share_a_connection() -> None:
    async with standing(*(said(b"%d" % number) for number in range(5))) as service, pooled() as pool:
        assert [await ask(pool, service.url) for _ in range(5)] == [(200, b"%d" % number) for number in range(5)]
    assert service.over == [0] * 5


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "answer",
    [
        said(b"first", b"Connection: close"),
        said(b"first").replace(b"HTTP/1.1", b"HTTP/1.0"),
        said(b"first") + said(b"smuggled"),
        said(b"first") + b"HTTP/1.1 200 OK\r\nContent-Le",
        said(b"first") + b"\r\n",
        said(b"first") + b"H",
        said(b"first").replace(b"\r\n", b"\n"),
        said(b"first").replace(b"Content-Length", b"X-Folded: a\r\n b\r\nContent-Length"),
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + said(b"first"),
        CHUNKED + b"5\r\nfirst\r\n0\r\n\r\n",
        CHUNKED + b"5\r\nfirst\r\n0\r\n\r\n" + said(b"smuggled"),
        CHUNKED + b"5\r\nfirst\r\n0\r\nX-Trailer: 1\r\n\r\n",
        Cut(b"HTTP/1.1 200 OK\r\n\r\nfirst"),
        Cut(said(b"first")),
    ],
)
async def test_a_connection_whose_bytes_are_not_all_accounted_for_is_not_used_again(answer: Script) -> None:
    async with standing(answer, said(b"second")) as service, pooled() as pool:
        assert await ask(pool, service.url) == (200, b"first")
        await until(lambda: service.gone == 1)
        assert await ask(pool, service.url) == (200, b"second")
    assert service.over == [0, 1]


async def test_what_comes_unasked_ends_the_connection_and_answers_nobody() -> None:
    async with standing(said(b"first"), said(b"second")) as service, pooled() as pool:
        assert await ask(pool, service.url) == (200, b"first")
        service.writers[0].write(said(b"smuggled"))
        await until(lambda: service.gone == 1)
        assert await ask(pool, service.url) == (200, b"second")
    assert service.over == [0, 1]


@pytest.mark.parametrize(
    ("method", "answer", "status"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n", 200),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5000\r\n\r\n", 304),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n", 204),
        ("GET", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200),
    ],
)
async def test_an_answer_without_a_body_leaves_nothing_for_the_next(method: str, answer: bytes, status: int) -> None:
    async with standing(answer, said(b"second"), answer, said(b"third")) as service, pooled() as pool:
        for other in (b"second", b"third"):
            assert await ask(pool, service.url, asked(method)) == (status, b"")
            assert await ask(pool, service.url) == (200, other)
    assert service.over == [0] * 4


async def test_a_body_where_none_may_be_is_nobodys_answer() -> None:
    async with standing(said(b"x" * 50), said(b"second")) as service, pooled() as pool:
        with pytest.raises(Lost):
            await ask(pool, service.url, asked("HEAD"))
        assert await ask(pool, service.url) == (200, b"second")
    assert service.over == [0, 1]


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nX: a\x00b\r\n\r\na",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 10_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: x\r\n" * 1000 + b"\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
        Cut(b"HTTP/1.1 200 OK\r\nContent-Le"),
    ],
)
async def test_what_is_no_answer_is_lost_and_not_asked_for_again(answer: Script) -> None:
    async with standing(said(b"first"), answer, said(b"third")) as service, pooled() as pool:
        assert await ask(pool, service.url) == (200, b"first")
        with pytest.raises(Lost) as lost:
            await ask(pool, service.url)
        assert lost.value.heard
        assert await ask(pool, service.url) == (200, b"third")
    assert service.over == [0, 0, 1]


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"])
async def test_a_kept_connection_that_was_closed_meanwhile_costs_an_idempotent_call_nothing(method: str) -> None:
    async with standing(said(b"first"), Cut(), said(b"")) as service, pooled() as pool:
        assert await ask(pool, service.url) == (200, b"first")
        assert await ask(pool, service.url, asked(method)) == (200, b"")
    assert service.over == [0, 0, 1]


@pytest.mark.parametrize("method", ["POST", "PATCH"])
async def test_a_call_that_may_count_twice_is_sent_once(method: str) -> None:
    async with standing(said(b"first"), Cut(), said(b"third")) as service, pooled() as pool:
        assert await ask(pool, service.url) == (200, b"first")
        with pytest.raises(Lost):
            await ask(pool, service.url, asked(method, b"{}"))
        assert await ask(pool, service.url) == (200, b"third")
    assert service.over == [0, 0, 1]


async def test_a_new_connection_that_is_closed_is_not_tried_again() -> None:
    async with standing(Cut(), said(b"second")) as service, pooled() as pool:
        with pytest.raises(Lost) as lost:
            await ask(pool, service.url)
        assert not lost.value.heard
    assert service.over == [0]


@pytest.mark.parametrize(
    "answer", [said(b"x" * 99)[:-1], CHUNKED + b"5\r\nfirst\r\n", CHUNKED + b"5\r\nfi", CHUNKED + b"5\r\nfirstx"]
)
async def test_a_body_that_breaks_off_is_told_as_such(answer: bytes) -> None:
    async with standing(Cut(answer), said(b"second")) as service, pooled() as pool:
        with pytest.raises((aiohttp.ClientError, Lost)):
            await ask(pool, service.url)
        assert await ask(pool, service.url) == (200, b"second")


async def test_a_service_that_says_nothing_is_not_waited_for() -> None:
    cut = said(b"x" * 99)[:-1]
    async with standing(Silent(), said(b"second"), cut) as service, pooled(silence=0.1) as pool:
        with pytest.raises(Lost, match="said nothing"):
            await ask(pool, service.url)
        assert await ask(pool, service.url) == (200, b"second")
        with pytest.raises(aiohttp.ClientError, match="said nothing"):
            await ask(pool, service.url)
    assert service.over == [0, 1, 1]


async def test_what_nobody_takes_is_not_read_and_is_no_silence() -> None:
    body = b"x" * 20_000_000
    async with standing(said(body)) as service, pooled(silence=0.1) as pool:
        exchange = await pool.call(service.url, asked())
        try:
            began = asyncio.get_running_loop().time()
            await until(lambda: asyncio.get_running_loop().time() > began + 0.4)  # longer than a silence may last
            held = service.writers[0].transport.get_write_buffer_size()
            assert held > len(body) / 2  # the service cannot get rid of it
            assert await exchange.whole() == body
        finally:
            await exchange.end()


async def test_a_call_that_is_given_up_takes_its_connection_along() -> None:
    async with standing(Silent(), said(b"second")) as service, pooled(at_once=1) as pool:
        calling = asyncio.ensure_future(ask(pool, service.url))
        await until(lambda: len(service.calls) == 1)
        calling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await calling
        service.writers[0].write(said(b"late"))
        assert await ask(pool, service.url) == (200, b"second")
        await until(lambda: service.gone == 1)
    assert service.over == [0, 1]


async def test_an_answer_that_is_not_read_to_its_end_takes_its_connection_along() -> None:
    async with standing(said(b"x" * 5_000_000), said(b"second")) as service, pooled() as pool:
        exchange = await pool.call(service.url, asked())
        await exchange.end()
        await exchange.end()
        assert await ask(pool, service.url) == (200, b"second")
    assert service.over == [0, 1]


async def test_calls_beyond_the_bound_wait_for_their_turn() -> None:
    async with standing(*[said(b"x")] * 20) as service, pooled(at_once=2) as pool:
        answers = await asyncio.gather(*(ask(pool, service.url) for _ in range(20)))
    assert answers == [(200, b"x")] * 20
    assert service.connections == 2


async def test_a_turn_that_does_not_come_is_told_and_one_that_is_not_wanted_goes_on() -> None:
    async with standing(Silent(), said(b"x")) as service, pooled(at_once=1) as pool:
        first = asyncio.ensure_future(ask(pool, service.url))
        await until(lambda: len(service.calls) == 1)
        with pytest.raises(Unreached):
            await ask(pool, service.url)
        waiting = [asyncio.ensure_future(ask(pool, service.url)) for _ in range(2)]
        await until(lambda: len(pool._places[service.url].waiting) == 2)
        service.writers[0].write(said(b"late"))
        waiting[0].cancel()
        assert (await first, await waiting[1]) == ((200, b"late"), (200, b"x"))
        assert pool._places[service.url].busy == 0


async def test_a_connection_that_nobody_uses_is_closed() -> None:
    async with standing(said(b"first"), said(b"second")) as service, pooled(idle=0.05) as pool:
        await ask(pool, service.url)
        await until(lambda: service.gone == 1)
        assert not pool._open
        assert await ask(pool, service.url) == (200, b"second")


async def test_where_nobody_listens_nothing_is_sent() -> None:
    async with pooled() as pool:
        with pytest.raises(Unreached):
            await ask(pool, f"http://127.0.0.1:{free_ports(1)[0]}")


async def test_a_pool_that_closes_cuts_what_is_at_work() -> None:
    async with standing(Silent()) as service, pooled() as pool:
        calling = asyncio.ensure_future(ask(pool, service.url))
        await until(lambda: len(service.calls) == 1)
        pool.close()
        with pytest.raises(Lost):
            await calling


@pytest.mark.parametrize(("length", "sent"), [(6, b"abcdef"), (None, b"3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n")])
async def test_a_body_is_sent_as_it_comes(length: int | None, sent: bytes) -> None:
    async with standing(said(b"first"), said(b"second")) as service, pooled() as pool:
        body = upload(b"abc", ends=False)
        calling = asyncio.ensure_future(ask(pool, service.url, asked("POST", body, length)))
        await until(lambda: service.connections == 1 and not body._buffer)
        body.feed_data(b"def")
        body.feed_eof()
        assert await calling == (200, b"first")
        assert await ask(pool, service.url) == (200, b"second")
    assert service.calls[0][1].partition(b"\r\n\r\n")[2] == sent
    assert service.over == [0, 0]


@pytest.mark.parametrize("parts", [(b"abc",), (b"abcdef", b"ghi")])
async def test_a_body_that_is_not_as_long_as_told_is_not_taken_for_whole(parts: Sequence[bytes]) -> None:
    async with standing(said(b"second")) as service, pooled() as pool:
        with pytest.raises(Lost):
            await ask(pool, service.url, asked("PUT", upload(*parts), 5))
        assert await ask(pool, service.url) == (200, b"second")
    assert service.over == [1]


async def test_a_body_that_breaks_off_ends_the_call() -> None:
    async with standing() as service, pooled() as pool:
        body = upload(b"abc", ends=False)
        calling = asyncio.ensure_future(ask(pool, service.url, asked("PUT", body)))
        await until(lambda: service.connections == 1 and not body._buffer)
        body.set_exception(aiohttp.ClientPayloadError("cut"))
        with pytest.raises(Lost):
            await calling
    assert not service.calls


async def test_an_answer_may_come_before_the_body_is_sent() -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(said(b"too large", status=b"413 Content Too Large"))
        await reader.read()
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        async with pooled() as pool:
            body = upload(b"abc", ends=False)
            assert await ask(pool, url, asked("PUT", body)) == (413, b"too large")
            # What is left is for the server to read, at once: behind it comes the next call.
            asyncio.get_running_loop().call_soon(body.feed_data, b"def")
            assert await body.readany() == b"def"
            await until(lambda: not pool._open)
            assert not pool._places[url].idle
    finally:
        server.close()


@pytest.mark.parametrize("value", ["a\r\nX-Other: b", "a\nb", "a\rb", "a\r\n\r\nGET / HTTP/1.1"])
def test_a_header_with_a_line_end_is_never_written(value: str) -> None:
    with pytest.raises(ValueError, match="line end"):
        ended([b"X: a\r\n"], [f"X-Forwarded-Host: {value}\r\n"])


@pytest.mark.parametrize(
    ("host", "trusted"),
    [("localhost", True), ("127.0.0.1", True), ("localhost", False)],
    ids=["right", "another name", "another authority"],
)
async def test_a_service_over_tls_is_called_only_if_it_proves_who_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str, trusted: bool
) -> None:
    certificates = make_certificates(tmp_path / "own")
    authority = certificates.authority if trusted else make_certificates(tmp_path / "other").authority
    monkeypatch.setitem(os.environ, "SSL_CERT_FILE", str(authority))
    async with standing(said(b"told"), tls=certificates.context()) as service, pooled() as pool:
        url = service.url.replace("127.0.0.1", host)
        if trusted and host == "localhost":
            assert await ask(pool, url) == (200, b"told")
            return
        with pytest.raises(Unreached, match="certificate verify failed"):
            await ask(pool, url)
        assert service.calls == []
