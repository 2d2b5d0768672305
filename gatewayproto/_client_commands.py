"""What a client does when its application commands something.

Each function but the private ones is a handler of the table in `gatewayproto.client`.

Spec: The client's side; Requests.
"""

from collections.abc import Mapping
from typing import Any

from gatewayproto import codec
from gatewayproto import frames as f
from gatewayproto._client_core import ATTACHED, ClientCore
from gatewayproto.errors import CLOSE_NORMAL, ErrorCode, LocalProtocolError
from gatewayproto.inputs import Abort, Connect, Disconnect, Resync, Send, SetToken, Taken
from gatewayproto.outbox import Pending


def connect(core: ClientCore, _: Connect, now: float) -> None:
    """Open the first transport."""
    core.rename("connecting")
    core.open(now)


def send(core: ClientCore, command: Send, now: float) -> None:
    """Queue the message, and write it if there is a session."""
    message = _message(core, command)
    if len(message.frame) > core.limits.max_payload:
        code, text = ErrorCode.PAYLOAD_TOO_LARGE, "the message is larger than the server takes"
        core.refuse(message.request_id, code.value, text)
    elif core.outbox.is_full:
        core.refuse(message.request_id, ErrorCode.INBOX_FULL.value, "too many messages wait")
    else:
        core.outbox.add(message)
        core.flush(now)


def refuse_late(core: ClientCore, command: Send, _: float) -> None:
    """Refuse the message: the client has stopped."""
    core.refuse(_message(core, command).request_id, "disconnected", "the client has stopped")


def abort(core: ClientCore, command: Abort, _: float) -> None:
    """Pass it on. Raises `LocalProtocolError` for one that the server would not take."""
    for name in (command.run_id, command.request_id):
        if not isinstance(name, str | None):
            raise LocalProtocolError("an abort's run_id and request_id are strings")
    abort = f.Abort(run_id=command.run_id, request_id=command.request_id)
    frame = _encode(codec.to_object(abort))
    if len(frame) > core.limits.max_payload:
        raise LocalProtocolError("the abort is larger than the server takes")
    core.send_encoded(frame)


def note_taken(core: ClientCore, command: Taken, now: float) -> None:
    """Note how far the application is; once it has everything, silence counts again."""
    cursor = 0 if core.position is None else core.position.cursor
    if not core.taken < command.seq <= cursor:
        return
    core.taken = command.seq
    if command.seq == cursor and core.state in ATTACHED:
        core.hear(now)


def wish_snapshot(core: ClientCore, _: Resync, __: float) -> None:
    """Ask for the snapshot with the next handshake, or after the welcome."""
    core.want_snapshot = True


def ask_snapshot(core: ClientCore, _: Resync, now: float) -> None:
    """Ask for the snapshot on this connection."""
    core.want_snapshot = True
    core.ask_snapshot(now)


def keep_token(core: ClientCore, command: SetToken, _: float) -> None:
    """Keep it for the next handshake."""
    core.token = _token(command)


def keep_new_token(core: ClientCore, command: SetToken, _: float) -> None:
    """Keep it; the handshake that was sent has an older one."""
    core.token = _token(command)
    core.linked().new_token, core.linked().presented = core.token is not None, None


def present_token(core: ClientCore, command: SetToken, now: float) -> None:
    """Keep it, and present it at once where the version has a frame for that."""
    keep_new_token(core, command, now)
    core.present_token(now)


def come_back(core: ClientCore, command: SetToken, now: float) -> None:
    """Try again with it, but no sooner than the server allowed."""
    core.token = _token(command)
    if core.token is None:
        return
    if core.not_before > now:
        core.attempt += 1
        core.wait(core.not_before - now, None, now)
    else:
        core.open(now)


def disconnect(core: ClientCore, _: Disconnect, __: float) -> None:
    """End this client's part."""
    if core.link is not None:
        if core.state in ATTACHED:
            core.send(f.Leave())
        core.close(CLOSE_NORMAL, "disconnected")
    core.stop("disconnected", "")


def _token(command: SetToken) -> str | None:
    """The token. Raises `LocalProtocolError` for one that cannot be sent."""
    if not isinstance(command.token, str | None):
        raise LocalProtocolError("a token is a string")
    _encode({"token": command.token})
    return command.token


# -- messages ---------------------------------------------------------------------------------


def _message(core: ClientCore, command: Send) -> Pending:
    """Encode a message. Raises `LocalProtocolError` for one that cannot be sent."""
    content, metadata, request_id = command.content, command.metadata, command.request_id
    if not isinstance(content, str | Mapping):
        raise LocalProtocolError("a message's content is a string or an object")
    if not isinstance(metadata, Mapping | None):
        raise LocalProtocolError("a message's metadata is an object")
    if not isinstance(command.reply_to, str | None):
        raise LocalProtocolError("a message's reply_to is a string")
    if request_id is not None:
        _check_request_id(core, request_id)
    message = f.Message(
        content=content if isinstance(content, str) else dict(content),
        request_id=request_id,
        reply_to=command.reply_to,
        metadata=None if metadata is None else dict(metadata),
    )
    fields = codec.to_object(message)
    _encode(fields)
    if request_id is None:
        # Drawn only now, so that a mistake changes nothing, not even the next id.
        request_id = core.ids()
        _check_request_id(core, request_id)
        fields["request_id"] = request_id
    return Pending(request_id, codec.encode_object(fields))


def _check_request_id(core: ClientCore, request_id: object) -> None:
    if not isinstance(request_id, str) or not 1 <= len(request_id) <= f.MAX_REQUEST_ID:
        raise LocalProtocolError(f"a request_id is a string of 1 to {f.MAX_REQUEST_ID} characters")
    if request_id in core.outbox:
        raise LocalProtocolError("a message with this request_id has not come to its end")


def _encode(fields: dict[str, Any]) -> bytes:
    """Encode a frame that the application had a part in. Raises `LocalProtocolError`."""
    try:
        codec.check_plain(fields, max_depth=f.MAX_DEPTH)
        return codec.encode_object(fields)
    except (TypeError, ValueError) as error:
        raise LocalProtocolError(f"no JSON by this protocol's rules: {error}") from None
