"""Configuration of both machines: frozen, checked when it is made, secrets out of its repr.

Times are in seconds, 0.001 to 1e9; sizes are in bytes. A value out of its bounds is a `ValueError`.
"""

from collections.abc import Callable
from typing import Any

import msgspec
from attrs import Attribute, asdict, field, frozen, validators

from gatewayproto.backoff import Backoff
from gatewayproto.frames import DEFAULT_MAX_PAYLOAD, MAX_INT, MIN_MAX_PAYLOAD, ClientInfo
from gatewayproto.projection import Projection, Transcript
from gatewayproto.rates import Rate
from gatewayproto.versions import VersionRange

_LARGEST_EVENT = DEFAULT_MAX_PAYLOAD - 512
"""What fits a frame of default size in any form: version 1 adds a cursor and a sequence."""


_SHORTEST = 0.001
_LONGEST = 1e9


def _seconds(_: object, attribute: "Attribute[Any]", value: float) -> None:
    """A time that a clock can tell from no time at all, and that fits in milliseconds."""
    if not _SHORTEST <= value <= _LONGEST:
        raise ValueError(f"{attribute.name} must be {_SHORTEST} to {_LONGEST} seconds, not {value}")


def _seconds_or_none(instance: object, attribute: "Attribute[Any]", value: Any) -> None:
    """The same where there may be none."""
    if value is not None:
        _seconds(instance, attribute, value)


def _count(minimum: int, maximum: int = MAX_INT) -> Callable[..., None]:
    return validators.and_(
        validators.instance_of(int), validators.ge(minimum), validators.le(maximum)
    )


def _rate(_: object, attribute: "Attribute[Any]", value: object) -> None:
    if value is not None and not isinstance(value, Rate):
        raise TypeError(f"{attribute.name} must be a Rate or None, not {type(value).__name__}")


def _text(_: object, attribute: "Attribute[Any]", value: object) -> None:
    """Text that a frame can hold; it may be a secret, so no error repeats it."""
    if not isinstance(value, str):
        raise TypeError(f"{attribute.name} must be text, not {type(value).__name__}")
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise ValueError(f"{attribute.name} has a lone surrogate, which is no text")


def _client_info(_: object, attribute: "Attribute[ClientInfo]", value: ClientInfo) -> None:
    """What a handshake's field `client` may hold."""
    for said in (value.name, value.version):
        if said is not None:
            _text(value, attribute, said)
    try:
        msgspec.convert(asdict(value), ClientInfo)
    except msgspec.ValidationError as error:
        raise ValueError(f"{attribute.name}: {error}") from None


@frozen(kw_only=True)
class GatewayConfig:
    """How one gateway behaves.

    - `versions`: the protocol versions it speaks; `protocol_strict` refuses handshakes that name
      none, which otherwise count as version 1.
    - `heartbeat`: seconds between pings on an idle connection; twice that without a sign of life
      closes it.
    - `handshake_timeout`: seconds from the upgrade to the handshake frame.
    - `resume_window`: seconds that a session outlives its last connection.
    - `request_ttl`: seconds within which a client may repeat a request; an id is remembered twice
      as long. `max_pending_requests` bounds the messages not yet done and, ten times over, the
      ids remembered.
    - `max_payload`: the largest frame taken, in bytes.
    - `max_event`: the largest encoded event that may be published, in bytes; one that fits every
      client of default `max_payload`, whatever this server itself takes.
    - `retain`, `retain_transient`: events that a session's journal keeps, by kind;
      `retain_bytes` bounds both together.
    - `send_window`: payload bytes that a connection may have in its transport's buffer;
      `answer_window`: how much further answers to what a client sent may go before it counts as
      one that does not read.
    - `stall_timeout`: seconds that a transport may take nothing of what it is owed.
    - `max_lags` snapshots within `lag_period` seconds are one subscriber's share.
    - `max_violations`: bad frames answered on one connection before it is closed.
    - `max_open_runs`: runs of one session without their final event.
    - `max_connections`, `max_sessions`: above them a newcomer is `rate_limited`, to come again
      after `retry_after` seconds.
    - `frame_rate`: frames that one connection may send; `recovery_rate`: recoveries on one
      connection, those aside that are merged into another; `connection_rate`, `handshake_rate`:
      connections and handshakes from one network address; `session_rate`: sessions that one
      principal opens, or one address where there is no authentication. Each is a `Rate`, or None
      for no limit; what goes beyond is `rate_limited`.
    - `presence_max`: clients of a session listed in a welcome or a push; above it only their
      number.
    - `push_interval`: the least seconds between two pushes of one session's presence, and between
      two of the health; None for no pushes.
    - `write_ahead`: what clients are sent leaves only after `Persisted` confirmed its record.
      `max_unstored` bounds a session's records that are not confirmed, `max_unstored_bytes` the
      bytes of the events that wait for it; every `checkpoint_every` records a session gives one
      that holds all of it, and makes those before it superfluous.
    - `projection`: makes a session's projection, the reducer that its snapshots come from.
    - `application_snapshots`: the application builds them instead, when `SnapshotNeeded` asks for
      one, within `snapshot_timeout` seconds and `max_snapshot_tries` answers; a state is at most
      `max_snapshot` bytes, and the newest of each session is kept for whoever it is good for.

    Spec: The welcome; Lagging; Requests.
    """

    versions: VersionRange = VersionRange(1, 2)
    protocol_strict: bool = False
    heartbeat: float = field(default=30.0, validator=_seconds)
    handshake_timeout: float = field(default=10.0, validator=_seconds)
    resume_window: float = field(default=300.0, validator=_seconds)
    request_ttl: float = field(default=300.0, validator=_seconds)
    max_pending_requests: int = field(default=100, validator=_count(1))
    max_payload: int = field(default=DEFAULT_MAX_PAYLOAD, validator=_count(MIN_MAX_PAYLOAD))
    max_event: int = field(default=_LARGEST_EVENT, validator=_count(1, _LARGEST_EVENT))
    retain: int = field(default=1000, validator=_count(0))
    retain_transient: int = field(default=1000, validator=_count(0))
    retain_bytes: int = field(default=8 * 1024 * 1024, validator=_count(0))
    send_window: int = field(default=256 * 1024, validator=_count(1))
    answer_window: int = field(default=64 * 1024, validator=_count(1))
    stall_timeout: float = field(default=60.0, validator=_seconds)
    max_lags: int = field(default=20, validator=_count(1))
    lag_period: float = field(default=60.0, validator=_seconds)
    max_violations: int = field(default=10, validator=_count(1))
    max_open_runs: int = field(default=1000, validator=_count(1))
    max_connections: int = field(default=100_000, validator=_count(1))
    max_sessions: int = field(default=100_000, validator=_count(1))
    retry_after: float = field(default=5.0, validator=_seconds)
    frame_rate: Rate | None = field(default=Rate(100.0, 1000), validator=_rate)
    recovery_rate: Rate | None = field(default=Rate(1.0, 10), validator=_rate)
    connection_rate: Rate | None = field(default=Rate(50.0, 500), validator=_rate)
    handshake_rate: Rate | None = field(default=Rate(50.0, 500), validator=_rate)
    session_rate: Rate | None = field(default=Rate(10.0, 100), validator=_rate)
    presence_max: int = field(default=100, validator=_count(0))
    push_interval: float | None = field(default=1.0, validator=_seconds_or_none)
    write_ahead: bool = False
    max_unstored: int = field(default=1000, validator=_count(1))
    max_unstored_bytes: int = field(default=8 * 1024 * 1024, validator=_count(1))
    checkpoint_every: int = field(default=1000, validator=_count(1))
    projection: Callable[[], Projection] = Transcript
    application_snapshots: bool = False
    snapshot_timeout: float = field(default=10.0, validator=_seconds)
    max_snapshot_tries: int = field(default=5, validator=_count(1))
    max_snapshot: int = field(default=16 * 1024 * 1024, validator=_count(1))


@frozen(kw_only=True)
class ClientConfig:
    """How one client behaves.

    - `agent_id`: the agent whose session to follow. `token`: its credentials, a secret. Neither
      these nor `capabilities` and `client` hold lone surrogates, which no frame can.
    - `versions`: the protocol versions it speaks.
    - `start`: `snapshot` asks for one at every attach that starts without a position.
    - `max_payload`: the largest frame it takes, in bytes; stated to the server. `max_snapshot`:
      the largest state that it takes in parts, in bytes.
    - `handshake_timeout`: seconds from the wish for a transport to the welcome;
      `recovery_timeout`: seconds that a gap may stay unanswered.
    - `heartbeat`, `request_ttl`, `max_pending_requests`, `server_max_payload`: what counts until
      a welcome states the server's own.
    - `max_queued`: messages that may wait for their end, written or not.
    - `backoff`: the delays between attempts; `max_attempts` of them in a row, None for no end.

    Spec: The client's side.
    """

    agent_id: str = field(validator=validators.and_(_text, validators.min_len(1)))
    token: str | None = field(default=None, repr=False, validator=validators.optional(_text))
    versions: VersionRange = VersionRange(1, 2)
    capabilities: tuple[str, ...] = field(default=(), validator=validators.deep_iterable(_text))
    client: ClientInfo | None = field(default=None, validator=validators.optional(_client_info))
    start: str | None = field(
        default=None, validator=validators.optional(validators.in_(("replay", "snapshot")))
    )
    max_payload: int = field(default=DEFAULT_MAX_PAYLOAD, validator=_count(MIN_MAX_PAYLOAD))
    max_snapshot: int = field(default=64 * 1024 * 1024, validator=_count(1))
    handshake_timeout: float = field(default=10.0, validator=_seconds)
    recovery_timeout: float = field(default=10.0, validator=_seconds)
    heartbeat: float = field(default=30.0, validator=_seconds)
    request_ttl: float = field(default=300.0, validator=_seconds)
    max_pending_requests: int = field(default=100, validator=_count(1))
    server_max_payload: int = field(default=DEFAULT_MAX_PAYLOAD, validator=_count(MIN_MAX_PAYLOAD))
    max_queued: int = field(default=1000, validator=_count(1))
    backoff: Backoff = Backoff()
    max_attempts: int | None = field(default=None, validator=validators.optional(_count(1)))
