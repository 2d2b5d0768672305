"""The handshake: what a `hello` or a `join` asks for, and the table that decides on it.

Both spellings are one code path. Reading depends on the frame and the configuration alone;
deciding on the session as it stands when the application accepts.

Spec: Versions; The welcome (the decision table); Version 1.
"""

from typing import Final

from attrs import field, frozen

from gatewayproto import codec, versions
from gatewayproto.codec import Parsed
from gatewayproto.config import GatewayConfig
from gatewayproto.errors import ERRORS, ErrorCode, FrameError, NextStep
from gatewayproto.frames import (
    DEFAULT_MAX_PAYLOAD,
    ClientInfo,
    Hello,
    Join,
    Object,
    ResyncReason,
)
from gatewayproto.session import Session, State

_WELCOME_ROOM: Final = 768
"""Bytes of a welcome at its largest, but for the agent's id and what may be left out of it."""


@frozen(kw_only=True)
class Request:
    """A handshake that can be read and whose version is agreed.

    `counts_as` is the version whose words a rejection uses. `epochs` are all the epochs that it
    names: in its field, in its session id, or none.
    """

    kind: str
    version: int
    counts_as: int
    agent_id: str
    session_id: str | None
    epochs: tuple[str, ...]
    since: int
    start_with_snapshot: bool
    token: str | None = field(repr=False)
    max_payload: int
    client: ClientInfo | None
    capabilities: tuple[str, ...]


@frozen
class Refusal:
    """A handshake that is rejected, in the words of the version that its client counts as."""

    kind: str
    counts_as: int
    code: ErrorCode
    detail: str
    retry_after_seconds: float | None = None
    next_step: NextStep | None = None

    def fields(self, config: GatewayConfig) -> Object:
        """The rejection as a frame's plain data."""
        hello = self.kind == "hello"
        code: str = self.code
        if hello and self.counts_as == 1:
            code = versions.rejection_code_v1(self.code)
        return error_fields(
            "hello_error" if hello else "error",
            self.code,
            self.detail,
            code=code,
            next_step=self.next_step,
            retry_after_seconds=self.retry_after_seconds,
            server_range=config.versions,
        )


def error_fields(
    kind: str,
    error: ErrorCode,
    detail: str,
    *,
    code: str | None = None,
    next_step: NextStep | None = None,
    request_id: str | None = None,
    retry_after_seconds: float | None = None,
    server_range: versions.VersionRange | None = None,
) -> Object:
    """An `error` or `hello_error` as plain data.

    `code` is for where it goes by another name, `next_step` for where there is more than one.
    """
    fields: Object = {"type": kind, "code": code or error.value, "message": detail}
    next_step = next_step or ERRORS[error].next_step
    if next_step is not None:
        fields["next_step"] = next_step
    if retry_after_seconds is not None:
        fields["retry_after_seconds"] = retry_after_seconds
    if request_id is not None:
        fields["request_id"] = request_id
    if error is ErrorCode.VERSION_UNSUPPORTED and server_range is not None:
        fields["server_min_version"] = server_range.minimum
        fields["server_max_version"] = server_range.maximum
    return fields


def read(parsed: Parsed, config: GatewayConfig) -> Request | Refusal:
    """Read a `hello` or a `join`: its versions first, then the rest."""
    kind = parsed.type
    offer = versions.read_offer(parsed.fields, kind)

    def refuse(code: ErrorCode, detail: str, next_step: NextStep | None = None) -> Refusal:
        return Refusal(kind, offer.counts_as, code, detail, next_step=next_step)

    if offer.range is None:
        return refuse(ErrorCode.INVALID_PROTOCOL_HELLO, "the version fields are no range")
    if config.protocol_strict and not offer.stated:
        return refuse(ErrorCode.VERSION_UNSUPPORTED, "a handshake must state its versions")
    version = config.versions.common(offer.range)
    if version is None:
        newer = offer.range.minimum > config.versions.maximum
        step: NextStep = "downgrade_client" if newer else "upgrade_client"
        return refuse(ErrorCode.VERSION_UNSUPPORTED, "no version in common", step)
    try:
        hello = codec.client_frame(parsed)
    except FrameError as error:
        return refuse(error.code, error.detail)
    assert isinstance(hello, Hello | Join)
    room = hello.max_payload or DEFAULT_MAX_PAYLOAD
    if len(codec.canonical(hello.agent_id)) + _WELCOME_ROOM > room:
        return refuse(ErrorCode.INVALID_PROTOCOL_HELLO, "max_payload has no room for a welcome")
    return _request(hello, version, offer.counts_as)


def _request(hello: Hello | Join, version: int, counts_as: int) -> Request:
    session_id, in_id = versions.split_session_id(hello.session_id or "")
    return Request(
        kind=hello.type,
        version=version,
        counts_as=counts_as,
        agent_id=hello.agent_id,
        session_id=session_id or None,
        epochs=tuple(epoch for epoch in (hello.epoch, in_id) if epoch is not None),
        since=hello.since or 0,
        start_with_snapshot=hello.start == "snapshot",
        token=hello.token,
        max_payload=hello.max_payload or DEFAULT_MAX_PAYLOAD,
        client=hello.client,
        capabilities=hello.capabilities or (),
    )


@frozen
class Decision:
    """How an accepted handshake goes on.

    `session` is None for a new one. Delivery goes on after `since`, unless a resync is required
    for `reason`.
    """

    session: Session | None
    since: int
    reason: ResyncReason | None

    @property
    def snapshot(self) -> ResyncReason | None:
        """Why a snapshot leaves with the welcome; None where none does."""
        return None if self.session is None else self.reason

    @property
    def keeps_position(self) -> bool:
        """Whether `since` is a position in the session's present epoch, as 0 is in a new one's."""
        return self.session is None or self.reason in {None, "trimmed", "requested"}

    def state(self, version: int) -> State | None:
        """The state for the snapshot that leaves with the welcome.

        The journal goes on from it, and it takes the client nowhere back. None where the
        application has to build one, and where none is demanded.
        """
        if self.session is None or self.snapshot is None:
            return None
        floor = self.session.floor(version)
        return self.session.state(max(floor, self.since) if self.keeps_position else floor)


def decide(
    request: Request, session: Session | None, principal: str | None
) -> Decision | ErrorCode:
    """Run the decision table for the session that `request` names, or an error that rejects it.

    A session of another principal counts as unknown: there is never a hint whether it exists.
    """
    if session is None or session.principal != principal:
        return Decision(None, 0, "session_unknown" if request.since > 0 else None)
    if session.agent_id != request.agent_id:
        return ErrorCode.AUTH_UNAUTHORIZED
    reason = resync_reason(session, request.version, request.epochs, request.since)
    if reason is None and request.start_with_snapshot:
        reason = "requested"
    return Decision(session, request.since, reason)


def resync_reason(
    session: Session, version: int, epochs: tuple[str, ...], since: int
) -> ResyncReason | None:
    """Why delivery cannot go on after `since`; None where it can. For `resume` as well."""
    unnamed = version > 1 and since > 0 and not epochs
    if unnamed or any(epoch != session.epoch for epoch in epochs):
        return "epoch_changed"
    if since > session.journal.cursor:
        return "cursor_ahead"
    if since < session.floor(version):
        return "trimmed"
    return None
