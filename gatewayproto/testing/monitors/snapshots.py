"""P5: a snapshot is the fold of what was published, and a client that starts from it converges.

Spec: Snapshots; Version 1.
"""

from typing import Final

from gatewayproto.testing.monitors.accounts import Account
from gatewayproto.testing.monitors.wire import Frame
from gatewayproto.testing.reference import Plain, compact

_PLACE_V1: Final = ("event_cursor", "session_id", "agent_id")


def check_state(account: Account, frame: Frame, state: Plain) -> None:
    """The state of a snapshot that a gateway sent equals the fold at its cursor."""
    session = account.session
    expected = session.folded.state(session.ledger.log, account.position)
    if account.version == 1:
        state = _check_v1(account, frame, state, expected)
    if state != expected:
        account.fail("P5", f"the snapshot's state is {state}; the fold is {expected}")


def _check_v1(account: Account, frame: Frame, state: Plain, expected: Plain) -> Plain:
    """The state without what version 1 adds to it, and with what it had to shed."""
    session, place = account.session, {name: state.get(name) for name in _PLACE_V1}
    said = {
        "event_cursor": account.position,
        "session_id": f"{session.session_id}.{session.epoch}",
        "agent_id": session.agent_id,
    }
    if place != said:
        account.fail("P5", f"the snapshot says {place}, not {said}")
    state = {name: value for name, value in state.items() if name not in _PLACE_V1}
    messages, whole = state.get("messages"), expected.get("messages")
    if not (state.get("truncated") and isinstance(messages, list) and isinstance(whole, list)):
        return state
    shed = len(whole) - len(messages)
    if shed == 0:
        return state
    if shed < 0:
        account.fail("P5", f"a snapshot with {-shed} messages that were never published")
    fuller = {**frame, "state": {**frame["state"], "messages": whole[shed - 1 :]}}
    if len(compact(fuller)) <= account.connection.limit:
        account.fail("P5", f"a snapshot sheds {shed} messages, more than it must")
    restored = {**state, "messages": whole[:shed] + messages}
    if "truncated" not in expected:
        del restored["truncated"]
    return restored
