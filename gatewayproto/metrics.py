"""What both machines count and measure, as plain data for whoever operates them.

Counters only rise, and begin at 0 with each machine, a restored one too: they belong to a process
and are no part of its saved state. Gauges are taken when they are asked for. Neither has any
influence on what a machine does.

Spec: the how-to "Operate a gateway".
"""

from collections.abc import Mapping
from typing import Any, Literal

from attrs import field, fields, frozen

MetricKind = Literal["counter", "gauge"]


def _counter(help_: str, *, label: str | None = None) -> Any:
    return field(metadata={"kind": "counter", "help": help_, "label": label})


def _gauge(help_: str, *, label: str | None = None) -> Any:
    return field(metadata={"kind": "gauge", "help": help_, "label": label})


@frozen(kw_only=True)
class GatewayMetrics:
    """What one gateway has counted since it was made, and how it stands.

    A counter with a label holds a number for each value that has occurred.
    """

    handshakes: Mapping[str, int] = _counter(
        "Handshakes decided: `opened` a session, `resumed` one, `resynced` one that delivery could "
        "not go on in, or `rejected`; connections that are turned away before they sent any are "
        "among the rejected.",
        label="outcome",
    )
    rejections: Mapping[str, int] = _counter(
        "Handshakes and connections rejected, by error code.", label="code"
    )
    closes: Mapping[str, int] = _counter(
        "Connections that the gateway closed, by close code.", label="code"
    )
    sessions_opened: int = _counter("Sessions that began.")
    sessions_closed: int = _counter("Sessions that the application closed.")
    sessions_expired: int = _counter("Sessions that were forgotten after their window.")
    events_published: Mapping[str, int] = _counter(
        "Events that got a seq, `durable` or `transient`.", label="durability"
    )
    frames_sent: Mapping[str, int] = _counter(
        "Frames given to transports: `event` (a replay too), `skip`, `caught_up`, `snapshot` (each "
        "part), `welcome`, `rejection`, `answer`, `ping`, `notice` (what nobody asked for).",
        label="kind",
    )
    bytes_sent: Mapping[str, int] = _counter(
        "Payload bytes of those frames, before WebSocket's framing.", label="kind"
    )
    skips: int = _counter("Skips sent, each for a range of superseded seqs.")
    resyncs: Mapping[str, int] = _counter(
        "Times that a client had to start over, by reason: a snapshot was begun, or, for "
        "`session_unknown`, a new session took the place of the one that was asked for.",
        label="reason",
    )
    snapshots: int = _counter("Snapshots sent whole, in one frame or in all of their parts.")
    lags: int = _counter("Times that what a subscriber still needed was gone, or too large for it.")
    messages_taken: int = _counter("Messages that entered an inbox.")
    messages_duplicate: int = _counter("Copies of messages taken before, acknowledged again.")
    messages_refused: Mapping[str, int] = _counter(
        "Messages that were not taken, by error code.", label="code"
    )
    violations: int = _counter("Malformed frames after the welcome.")

    sessions: int = _gauge("Sessions, followed or not.")
    sessions_sealed: int = _gauge("Sessions among them that the application has closed.")
    connections: Mapping[str, int] = _gauge(
        "Connections: `opening` before their handshake, `joining` until it is decided, `storing` "
        "and `preparing` while the welcome waits for the store or for a snapshot, `live_v1` "
        "and `live_v2` after their welcome.",
        label="state",
    )
    subscribers: int = _gauge("Connections that follow a session.")
    lag_max: int = _gauge("Seqs that the subscriber furthest behind its session's head is behind.")
    lag_total: int = _gauge("Seqs that all subscribers together are behind.")
    journal_events: int = _gauge("Events that the journals keep.")
    journal_bytes: int = _gauge("Bytes of the events that the journals keep.")
    messages_pending: int = _gauge("Messages taken that the application has not completed.")
    requests_remembered: int = _gauge("Request ids that are remembered.")
    bytes_outstanding: int = _gauge("Payload bytes that transports were given and have not taken.")
    draining: int = _gauge("1 while the gateway sends its clients away and takes none, else 0.")


@frozen(kw_only=True)
class ClientMetrics:
    """What one client has counted since it was made, and how it stands.

    A counter with a label holds a number for each value that has occurred; no server can make more
    of them than are named here.
    """

    attempts: int = _counter("Transports that were asked for, the first one too.")
    retries: Mapping[str, int] = _counter(
        "Attempts that were scheduled, by what ended the last one: an error code, "
        "`recovery_timeout`, `gap` (version 1), `close` or `http` for a code or status without a "
        "name of its own, `other` for an error code that is not known, `unknown` for no reason.",
        label="code",
    )
    gaps: int = _counter("Times that something between was missing.")
    duplicates_dropped: int = _counter("Events and skips dropped because they came before.")
    resyncs: Mapping[str, int] = _counter(
        "Times that it started over, by reason: a snapshot came whole, or a new session took the "
        "place of the one that was held. `other` for a reason that is not known.",
        label="reason",
    )
    events: int = _counter("Events handed on.")
    skipped_seqs: int = _counter("Seqs accounted for by skips.")
    snapshots: int = _counter("Snapshots handed on.")
    messages_sent: int = _counter("Messages written, each repetition too.")
    messages_accepted: int = _counter("Messages that ended as accepted.")
    messages_refused: int = _counter("Messages that ended as refused.")
    messages_unknown: int = _counter("Messages that ended as outcome unknown.")

    connected: int = _gauge("1 while it is welcomed, else 0.")
    messages_waiting: int = _gauge("Messages that have not come to their end.")
    messages_in_flight: int = _gauge("Those among them written on the present connection.")
    seqs_untaken: int = _gauge("Seqs handed on that the application has not taken.")


@frozen(kw_only=True)
class Metric:
    """What one metric is: a field of `GatewayMetrics` or `ClientMetrics`.

    `help` is a sentence or two for people. `label` names what the keys of a mapping are; None
    where the metric is one number.
    """

    name: str
    kind: MetricKind
    label: str | None
    help: str


def describe(metrics: type[GatewayMetrics] | type[ClientMetrics]) -> tuple[Metric, ...]:
    """Every metric of a machine, in the order of its fields: for an exporter, or for people."""
    return tuple(
        Metric(
            name=each.name,
            kind=each.metadata["kind"],
            label=each.metadata["label"],
            help=each.metadata["help"],
        )
        for each in fields(metrics)
    )
