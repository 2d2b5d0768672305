"""The client's side of the handshake: what it asks for, and which welcomes it believes.

Spec: Client to server; The welcome; Version 1.
"""

from attrs import frozen

from gatewayproto import codec, versions
from gatewayproto._server_v1 import read_welcome
from gatewayproto.actions import ResumeToken
from gatewayproto.codec import Parsed
from gatewayproto.config import ClientConfig
from gatewayproto.errors import ErrorCode, FrameError
from gatewayproto.frames import Hello, Join, Object, Policy, PresenceEntry, Welcome


@frozen(kw_only=True)
class Attach:
    """A welcome that was read and makes sense, whatever the version. Fields as in the welcome.

    `head` is the newest seq as of the attach; None where a version 1 server does not say. What it
    tells of versions and of the number of clients is read in version 2 alone.
    """

    version: int
    session_id: str
    epoch: str | None
    resumed: bool
    head: int | None
    oldest_cursor: int | None
    sequence: int
    resync_reason: str | None
    presence: tuple[PresenceEntry, ...] | None
    health: Object | None
    policy: Policy | None
    presence_count: int | None = None
    presence_version: int | None = None
    health_version: int | None = None

    @property
    def resync_required(self) -> bool:
        """Whether the server cannot go on from where the client stands."""
        return self.resync_reason is not None


def hello(
    config: ClientConfig, held: ResumeToken | None, token: str | None, *, snapshot: bool
) -> Hello:
    """The first frame on a connection; `since` goes with every session held, also at 0."""
    return Hello(
        agent_id=config.agent_id,
        protocol_min=config.versions.minimum,
        protocol_max=config.versions.maximum,
        capabilities=config.capabilities or None,
        session_id=None if held is None else held.session_id,
        epoch=None if held is None else held.epoch,
        since=None if held is None else held.cursor,
        start="snapshot" if snapshot else None,
        token=token,
        max_payload=config.max_payload,
        client=config.client,
    )


def join(
    config: ClientConfig, held: ResumeToken, token: str | None, *, since: int, snapshot: bool
) -> Join:
    """The handshake again, for a version 1 server, in the spelling that it guards better."""
    return Join(
        agent_id=config.agent_id,
        min_version=config.versions.minimum,
        max_version=config.versions.maximum,
        capabilities=config.capabilities or None,
        session_id=held.session_id,
        epoch=held.epoch,
        since=since,
        start="snapshot" if snapshot else None,
        token=token,
        max_payload=config.max_payload,
        client=config.client,
    )


def read_version(parsed: Parsed) -> int:
    """The version that a welcome names; none is version 1. Raises `FrameError`."""
    stated: int | None = None
    for name in ("protocol_version", "protocol"):
        value = parsed.fields.get(name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise _malformed("the welcome's version is none")
        if stated not in {None, value}:
            raise _malformed("the welcome names two versions")
        stated = value
    return stated or 1


def read_attach(parsed: Parsed, version: int, held: ResumeToken | None) -> Attach:
    """Read a welcome by the rules of its version. Raises `FrameError` for one that is nonsense."""
    return _read_v1(parsed, held) if version == 1 else _read_v2(parsed, version, held)


def is_same_session(held: ResumeToken, session_id: str) -> bool:
    """Whether both name one session, in either form; the epoch counts where both name one."""
    bare, epoch = versions.split_session_id(session_id)
    held_bare, held_epoch = versions.split_session_id(held.session_id)
    held_epoch = held_epoch or held.epoch
    return bare == held_bare and (epoch is None or held_epoch is None or epoch == held_epoch)


# -- version 1 --------------------------------------------------------------------------------


def _read_v1(parsed: Parsed, held: ResumeToken | None) -> Attach:
    """`resumed` is what the session id says, whatever the field claims."""
    welcome = read_welcome(parsed)
    resumed = held is not None and is_same_session(held, welcome.session_id)
    since = 0 if held is None or not resumed else held.cursor
    reason = welcome.resync_reason or "unspecified"
    return Attach(
        version=1,
        session_id=welcome.session_id,
        epoch=None,
        resumed=resumed,
        head=welcome.cursor if welcome.head is None else welcome.head,
        oldest_cursor=welcome.oldest_cursor,
        sequence=since if welcome.sequence is None else welcome.sequence,
        resync_reason=reason if welcome.resync_required else None,
        presence=welcome.presence,
        health=welcome.health,
        policy=welcome.policy,
    )


# -- version 2 --------------------------------------------------------------------------------


def _read_v2(parsed: Parsed, version: int, held: ResumeToken | None) -> Attach:
    welcome = codec.server_frame(parsed)
    assert isinstance(welcome, Welcome)
    if welcome.epoch is None or welcome.cursor is None or welcome.sequence is None:
        raise _malformed("the welcome lacks its epoch, cursor or sequence")
    if welcome.resumed is None and held is not None:
        raise _malformed("the welcome does not say whether the session was resumed")
    reason = welcome.resync_reason or "unspecified"
    attach = Attach(
        version=version,
        session_id=welcome.session_id,
        epoch=welcome.epoch,
        resumed=bool(welcome.resumed),
        head=welcome.cursor,
        oldest_cursor=welcome.oldest_cursor,
        sequence=welcome.sequence,
        resync_reason=reason if welcome.resync_required else None,
        presence=welcome.presence,
        health=welcome.health,
        policy=welcome.policy,
        presence_count=welcome.presence_count,
        presence_version=welcome.presence_version,
        health_version=welcome.health_version,
    )
    if not attach.resumed:
        _check_new(attach, held)
    elif held is None:
        raise _malformed("the welcome resumes what was never held")
    else:
        _check_resumed(attach, held, welcome.cursor)
    return attach


def _check_new(attach: Attach, held: ResumeToken | None) -> None:
    if attach.sequence != 0:
        raise _malformed("a new session does not begin at 0")
    if held is not None and attach.session_id == held.session_id and attach.epoch == held.epoch:
        raise _malformed("the welcome calls the session that was held a new one")


def _check_resumed(attach: Attach, held: ResumeToken, cursor: int) -> None:
    if versions.split_session_id(attach.session_id)[0] != _bare(held):
        raise _malformed("the welcome resumes another session")
    if attach.resync_reason == "epoch_changed":
        return
    if _epoch(held) not in {None, attach.epoch}:
        raise _malformed("the epoch changed without a resync")
    if attach.resync_required:
        return
    if _epoch(held) is None and held.cursor > 0:
        raise _malformed("the welcome goes on from a cursor whose epoch nobody named")
    if attach.sequence != held.cursor or cursor < held.cursor:
        raise _malformed("the welcome goes on from elsewhere")


def _bare(held: ResumeToken) -> str:
    return versions.split_session_id(held.session_id)[0]


def _epoch(held: ResumeToken) -> str | None:
    return held.epoch or versions.split_session_id(held.session_id)[1]


def _malformed(detail: str) -> FrameError:
    return FrameError(ErrorCode.MALFORMED_FRAME, detail)
