"""What `serve --metrics-port` tells, and to whom."""

import re
import signal
import socket
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

import anyio
import pytest
from attrs import fields
from gatewayproto_cli.endpoint import listen
from gatewayproto_cli.openmetrics import CONTENT_TYPE, exposition
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from gatewayproto.metrics import GatewayMetrics, describe
from tests.adapter.both import CHOSEN
from tests.cli.cli_support import Process, invoke

COUNT = st.integers(min_value=0, max_value=2**53)
LABELS = st.dictionaries(st.text("abc_019", min_size=1), COUNT)
METRICS = st.builds(
    GatewayMetrics,
    **{
        each.name: COUNT if each.metadata["label"] is None else LABELS
        for each in fields(GatewayMetrics)
    },
)


def read_back(text: bytes) -> GatewayMetrics:
    """The metrics that an exposition tells, each held to its description."""
    found: dict[str, Any] = {}
    families = list(text_string_to_metric_families(text.decode()))  # type: ignore[no-untyped-call] # the library's
    for metric, family in zip(describe(GatewayMetrics), families, strict=True):
        assert family.name == f"gatewayproto_{metric.name}"
        assert (family.type, family.documentation) == (metric.kind, metric.help)
        suffix = "_total" if metric.kind == "counter" else ""
        assert {sample.name for sample in family.samples} <= {family.name + suffix}
        if metric.label is None:
            (sample,) = family.samples
            assert sample.labels == {}
            found[metric.name] = sample.value
        else:
            assert all(set(sample.labels) == {metric.label} for sample in family.samples)
            found[metric.name] = {each.labels[metric.label]: each.value for each in family.samples}
    return GatewayMetrics(**found)


@settings(max_examples=25)
@given(METRICS)
def test_every_metric_is_told_as_it_is(metrics: GatewayMetrics) -> None:
    assert read_back(exposition(lambda: metrics)()) == metrics


def endpoint(
    work: Callable[[str, int], Awaitable[None]],
    render: Callable[[], bytes] = lambda: b"the text",
    **options: float,
) -> None:
    """Run `work` with the address of an endpoint that tells what `render` gives."""

    async def serving() -> None:
        with anyio.fail_after(20):
            listening = await listen("127.0.0.1", 0, render, CONTENT_TYPE, **options)
            url = urlsplit(listening.url)
            assert (url.scheme, url.path) == ("http", "/metrics")
            async with anyio.create_task_group() as tasks:
                listening.start(tasks)
                await work(url.hostname or "", url.port or 0)
                tasks.cancel_scope.cancel()

    anyio.run(serving, backend=CHOSEN.name)


async def asked(host: str, port: int, request: bytes) -> tuple[int, dict[str, str], bytes]:
    """The status, headers and body that answer this request; then the connection ends."""
    answer = b""
    async with await anyio.connect_tcp(host, port) as stream:
        await stream.send(request)
        try:
            while True:
                answer += await stream.receive()
        except anyio.EndOfStream:
            pass
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode("ascii").split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    assert headers["connection"] == "close"
    assert int(headers["content-length"]) == len(body)
    status = re.match(r"HTTP/1\.1 (\d{3}) ", first)
    assert status is not None
    return int(status[1]), headers, body


GET = b"GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n"


@pytest.mark.on_trio
@pytest.mark.usefixtures("adapter")
def test_one_resource_is_told_and_nothing_else_is_there() -> None:
    refused = {
        b"GET / HTTP/1.1\r\nHost: h\r\n\r\n": 404,
        b"GET /metrics/ HTTP/1.1\r\nHost: h\r\n\r\n": 404,
        b"POST /ws HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n": 404,
        b"HEAD /metrics HTTP/1.1\r\nHost: h\r\n\r\n": 405,
        b"POST /metrics HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi": 405,
        b"GET /metrics HTTP/1.1\r\n\r\n": 400,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n": 400,
        b"GET /metrics HTTP/1.1\r\nHost: h\r\nX: \x00\r\n\r\n": 400,
        b"GET /metrics HTTP/1.1\r\nHost: h\r\nX: " + b"x" * 100_000: 431,
        b"G" * 100_000: 431,
    }

    async def work(host: str, port: int) -> None:
        for request, status in refused.items():
            got, headers, body = await asked(host, port, request)
            assert (got, body) == (status, b""), request[:80]
            assert headers.get("allow") == ("get" if status == 405 else None)
        for request in (GET, GET + GET, GET.replace(b"metrics", b"metrics?name=x")):
            got, headers, body = await asked(host, port, request)
            assert (got, body) == (200, b"the text")
            assert headers["content-type"] == CONTENT_TYPE

    endpoint(work)


@pytest.mark.on_trio
@pytest.mark.usefixtures("adapter")
def test_who_says_nothing_or_leaves_keeps_nobody_else_out_for_long() -> None:
    async def work(host: str, port: int) -> None:
        silent = [await anyio.connect_tcp(host, port) for _ in range(40)]
        for each in silent[::2]:
            await each.send(b"GET /met")
        for each in silent[::4]:
            await each.aclose()
        assert (await asked(host, port, GET))[0] == 200
        for each in silent:
            await each.aclose()

    endpoint(work, timeout=0.1)


def test_what_goes_wrong_in_telling_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    told: list[bytes] = []

    def render() -> bytes:
        told.append(b"x")
        if len(told) == 1:
            raise ValueError("not yet")
        return b"now"

    async def work(host: str, port: int) -> None:
        assert (await asked(host, port, GET))[0] == 500
        assert (await asked(host, port, GET))[2] == b"now"

    endpoint(work, render)
    assert [record.name for record in caplog.records] == ["gatewayproto.metrics"]


@pytest.mark.on_trio
@pytest.mark.usefixtures("adapter")
def test_an_address_that_cannot_be_had_is_1_with_its_reason() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        result = invoke("serve", "--port", "0", "--metrics-port", port)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        f"Error: cannot tell metrics on 127.0.0.1, port {port}: Address already in use\n"
    )


def test_serve_says_on_stderr_where_they_are_and_logs_a_record_a_line() -> None:
    options = ("--metrics-port", "0", "--log-level", "info")
    with Process("serve", "--port", "0", *options) as server:
        url = server.ready()
        listening = server.error_line()
        word, place = server.error_line().split()
        assert word == "metrics"
        _, _, text = anyio.run(asked, "127.0.0.1", urlsplit(place).port or 0, GET)
        metrics = read_back(text)
        assert (metrics.sessions, metrics.draining) == (0, 0)
        server.signal(signal.SIGTERM)
        status, out, err = server.end()
        assert (status, out) == (0, "")
    pattern = r'time=\S+ level=info logger=gatewayproto\.\w+ message=("[^"]*"|\S+)( \w+=\S+)*'
    assert all(re.fullmatch(pattern, line) for line in (listening.rstrip(), *err.splitlines())), err
    assert listening.endswith(f" url={url}\n")
