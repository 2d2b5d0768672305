"""Configuration: checked when it is made, frozen, and without secrets in its repr."""

import math
from typing import Any

import attrs
import pytest

from gatewayproto import ClientConfig, GatewayConfig
from gatewayproto.backoff import Backoff

GATEWAY_TIMES = ["heartbeat", "handshake_timeout", "resume_window", "request_ttl",
                 "stall_timeout", "lag_period", "retry_after", "snapshot_timeout",
                 "push_interval"]  # fmt: skip
GATEWAY_COUNTS = {
    "max_pending_requests": 1, "max_payload": 1024, "retain": 0, "retain_transient": 0,
    "retain_bytes": 0, "send_window": 1, "answer_window": 1, "max_lags": 1, "max_violations": 1,
    "max_open_runs": 1, "max_connections": 1, "max_sessions": 1, "presence_max": 0,
    "max_snapshot_tries": 1, "max_snapshot": 1,
    "max_unstored": 1, "max_unstored_bytes": 1, "checkpoint_every": 1,
}  # fmt: skip
CLIENT_TIMES = ["handshake_timeout", "recovery_timeout", "heartbeat", "request_ttl"]
CLIENT_COUNTS = {
    "max_payload": 1024, "max_pending_requests": 1, "server_max_payload": 1024, "max_queued": 1,
}  # fmt: skip


def gateway(**options: Any) -> GatewayConfig:
    return GatewayConfig(**options)


def client(**options: Any) -> ClientConfig:
    return ClientConfig(agent_id="a", **options)


TIMES = [(gateway, name) for name in GATEWAY_TIMES] + [(client, name) for name in CLIENT_TIMES]
COUNTS: list[tuple[Any, str, int]] = [
    *((gateway, *item) for item in GATEWAY_COUNTS.items()),
    *((client, *item) for item in CLIENT_COUNTS.items()),
]


@pytest.mark.parametrize(("make", "name"), TIMES)
@pytest.mark.parametrize("value", [0, 0.0, -1, math.inf, -math.inf, math.nan])
def test_time_that_is_none_is_refused(make: Any, name: str, value: float) -> None:
    with pytest.raises(ValueError, match=name):
        make(**{name: value})


@pytest.mark.parametrize(("make", "name"), TIMES)
def test_time_may_be_any_finite_positive_number(make: Any, name: str) -> None:
    for value in (0.001, 1, 1e9):
        assert getattr(make(**{name: value}), name) == value


@pytest.mark.parametrize(("make", "name", "minimum"), COUNTS)
def test_count_has_its_bounds(make: Any, name: str, minimum: int) -> None:
    for value in (minimum, minimum + 1, 2**53 - 1):
        assert getattr(make(**{name: value}), name) == value
    for value in (minimum - 1, 2**53):
        with pytest.raises(ValueError, match=name):
            make(**{name: value})
    for wrong in (float(minimum), str(minimum), None):
        with pytest.raises(TypeError, match=name):
            make(**{name: wrong})


def test_every_number_of_the_gateway_is_checked() -> None:
    numbers = {
        each.name for each in attrs.fields(GatewayConfig) if type(each.default) in {int, float}
    }
    assert numbers == {*GATEWAY_TIMES, *GATEWAY_COUNTS, "max_event"}


def test_largest_event_leaves_room_for_its_envelope() -> None:
    """What a frame of default size has room for, whatever this server itself takes."""
    largest = 1_048_576 - 512
    assert gateway().max_event == gateway(max_payload=1024).max_event == largest
    assert gateway(max_event=1).max_event == 1
    for wrong in (0, largest + 1):
        with pytest.raises(ValueError, match="max_event"):
            gateway(max_event=wrong)


def test_client_has_an_agent() -> None:
    with pytest.raises(ValueError, match="agent_id"):
        ClientConfig(agent_id="")


@pytest.mark.parametrize("start", ["", "resume", "Replay"])
def test_client_starts_in_one_of_two_ways(start: str) -> None:
    assert {client(start=good).start for good in ("replay", "snapshot", None)} == {
        "replay", "snapshot", None,
    }  # fmt: skip
    with pytest.raises(ValueError, match="start"):
        client(start=start)


def test_attempts_are_bounded_only_if_wished() -> None:
    assert client(max_attempts=None).max_attempts is None
    assert client(max_attempts=1).max_attempts == 1
    for value in (0, -1):
        with pytest.raises(ValueError, match="max_attempts"):
            client(max_attempts=value)


def test_configuration_is_frozen_and_tells_no_secret() -> None:
    config = client(token="s3cret", backoff=Backoff(initial=2))
    assert "s3cret" not in repr(config)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        config.token = None  # type: ignore[misc] # that is the point
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        gateway().retain = 5  # type: ignore[misc] # that is the point


@pytest.mark.parametrize("name", ["frame_rate", "session_rate"])
def test_rate_is_a_rate_or_none(name: str) -> None:
    assert getattr(gateway(**{name: None}), name) is None
    with pytest.raises(TypeError, match=name):
        gateway(**{name: 5})
