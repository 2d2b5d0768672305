"""An HTTP server of one resource, `GET /metrics`, beside a gateway in its event loop."""

import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import anyio
import h11
from anyio.abc import ByteStream, SocketAttribute, SocketListener, SocketStream, TaskGroup

PATH: Final = "/metrics"

_MAX_REQUEST: Final = 8192
"""Bytes of a request's head."""
_TIMEOUT: Final = 5.0
_MAX_CONNECTIONS: Final = 16
"""Connections that are looked after at once; what comes meanwhile waits in the system's queue."""
_PAUSE: Final = 1.0
"""Seconds to wait where the system has no more file descriptors."""
_READ: Final = 4096

_logger = logging.getLogger("gatewayproto.metrics")


class Endpoint:
    """Answers `GET /metrics`, one request for each connection, with what `render` gives.

    A connection lasts `timeout` seconds at most, and there are at most 16; a request has 8192 bytes
    at most. Nothing of a request is repeated to anybody.
    """

    def __init__(
        self,
        listeners: list[SocketListener],
        render: Callable[[], bytes],
        content_type: str,
        timeout: float,
    ) -> None:
        self._listeners = listeners
        self._render = render
        self._content_type = content_type
        self._timeout = timeout
        self._room = anyio.Semaphore(_MAX_CONNECTIONS)

    @property
    def url(self) -> str:
        """Where it is; with several addresses, the first."""
        told = self._listeners[0].extra_attributes
        host, port = told[SocketAttribute.local_address]()[0], told[SocketAttribute.local_port]()
        return f"http://[{host}]:{port}{PATH}" if ":" in host else f"http://{host}:{port}{PATH}"

    def start(self, tasks: TaskGroup) -> None:
        """Answer until the task group is cancelled."""
        for listener in self._listeners:
            tasks.start_soon(self._accept, listener, tasks)

    async def _accept(self, listener: SocketListener, tasks: TaskGroup) -> None:
        async with listener:
            while True:
                await self._room.acquire()
                try:
                    stream = await listener.accept()
                except OSError as error:
                    self._room.release()
                    _logger.warning("cannot accept a connection: %s", error.strerror)
                    await anyio.sleep(_PAUSE)
                else:
                    tasks.start_soon(self._look_after, stream)

    async def _look_after(self, stream: SocketStream) -> None:
        try:
            with anyio.move_on_after(self._timeout):
                async with stream:
                    await self._answer(stream)
        except (anyio.BrokenResourceError, OSError):
            pass  # whoever asked is gone
        finally:
            self._room.release()

    async def _answer(self, stream: ByteStream) -> None:
        peer = h11.Connection(h11.SERVER, max_incomplete_event_size=_MAX_REQUEST)
        try:
            request = await _request(peer, stream)
            if request is None:
                return
            status, headers, body = self._answer_to(request)
        except h11.RemoteProtocolError as error:
            status, headers, body = error.error_status_hint, {}, b""
        headers |= {"Content-Length": str(len(body)), "Connection": "close"}
        answer = h11.Response(status_code=status, headers=list(headers.items()))
        events = (answer, h11.Data(body), h11.EndOfMessage())
        await stream.send(b"".join(peer.send(event) or b"" for event in events))
        # To close with something unread would reset the connection, and the answer with it.
        await stream.send_eof()
        with suppress(anyio.EndOfStream):
            while True:
                await stream.receive(_READ)

    def _answer_to(self, request: h11.Request) -> tuple[int, dict[str, str], bytes]:
        if request.target.partition(b"?")[0] != PATH.encode():
            return 404, {}, b""
        if request.method != b"GET":
            return 405, {"Allow": "GET"}, b""
        try:
            text = self._render()
        except Exception:
            _logger.exception("the metrics could not be told")
            return 500, {}, b""
        return 200, {"Content-Type": self._content_type}, text


async def listen(
    host: str,
    port: int,
    render: Callable[[], bytes],
    content_type: str,
    *,
    timeout: float = _TIMEOUT,  # noqa: ASYNC109 -- that of each connection to come
) -> Endpoint:
    """Listen, and answer nobody yet. Raises `OSError` where the address cannot be had."""
    listener = await anyio.create_tcp_listener(local_host=host, local_port=port)
    sockets = [each for each in listener.listeners if isinstance(each, SocketListener)]
    return Endpoint(sockets, render, content_type, timeout)


async def _request(peer: h11.Connection, stream: ByteStream) -> h11.Request | None:
    """The head of the request, None if the connection ended before one.

    Raises:
        h11.RemoteProtocolError: It is no request.
    """
    while True:
        event = peer.next_event()
        if isinstance(event, h11.Request):
            return event
        if event is not h11.NEED_DATA:
            return None
        try:
            peer.receive_data(await stream.receive(_READ))
        except anyio.EndOfStream:
            peer.receive_data(b"")
