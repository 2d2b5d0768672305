"""What a client does from the wish for a transport to the welcome, and when a transport ends.

Each function but the private ones is a handler of the table in `gatewayproto.client`.

Spec: The welcome; The client's side; Version 1.
"""

from attrs import evolve

from gatewayproto import _client_welcome
from gatewayproto._client_core import ClientCore, malformed
from gatewayproto._client_endings import floor_of, of_close, of_rejection
from gatewayproto._client_states import ClientState, Rejection
from gatewayproto._client_welcome import Attach
from gatewayproto.actions import Gap
from gatewayproto.codec import Parsed
from gatewayproto.errors import CLOSE_NORMAL, ErrorCode, FrameError
from gatewayproto.frames import Error, Ping
from gatewayproto.inputs import TransportClosed, TransportOpened


def say_hello(core: ClientCore, _: TransportOpened, __: float) -> None:
    """Send `hello`."""
    link = core.linked()
    starts_so = core.config.start == "snapshot" and core.position is None
    link.asked_snapshot = core.want_snapshot or starts_so
    core.send(
        _client_welcome.hello(core.config, core.position, core.token, snapshot=link.asked_snapshot)
    )
    core.state = ClientState.HANDSHAKING


def lose(core: ClientCore, closed: TransportClosed, now: float) -> None:
    """Come back, ask for a token, or stop, as the close says."""
    core.end(of_close(closed, core.linked().rejection), now)


def refuse_bad_frame(core: ClientCore, error: FrameError, now: float) -> None:
    """End the connection and make it anew; the cursor is kept."""
    core.end_bad(error, now)


def try_again(core: ClientCore, _: None, now: float) -> None:
    """Open the next transport."""
    core.open(now)


# -- the answer to the handshake --------------------------------------------------------------


def take_welcome(core: ClientCore, parsed: Parsed, now: float) -> None:
    """Attach, if the welcome makes sense and can be believed."""
    versions = core.config.versions
    try:
        version = _client_welcome.read_version(parsed)
        if version < versions.minimum:
            _stop_unsupported(core)
            return
        if version > versions.maximum:
            raise malformed("the welcome names a version that was not offered")
        attach = _client_welcome.read_attach(parsed, version, core.position)
    except FrameError as error:
        core.end_bad(error, now)
        return
    believed = _believe_v1(core, attach, now) if version == 1 else attach
    if believed is not None:
        core.attach(believed, now)
        _follow_up(core, believed, now)


def take_answer(core: ClientCore, parsed: Parsed, now: float) -> None:
    """Go by the answer to `join`; another `hello_ok` is none."""
    if parsed.type == "joined":
        take_welcome(core, parsed, now)


def _stop_unsupported(core: ClientCore) -> None:
    code = ErrorCode.VERSION_UNSUPPORTED.value
    core.close(CLOSE_NORMAL, code)
    core.stop(code, "the server speaks an older version only")


def _believe_v1(core: ClientCore, attach: Attach, now: float) -> Attach | None:
    """Guard for a server that does not guard itself; None where `join` is asked first."""
    held, link = core.position, core.linked()
    if held is None:
        return attach
    if attach.oldest_cursor is None and core.state is ClientState.HANDSHAKING:
        core.join_again(now, since=held.cursor)
        return None
    if link.dropped:
        return evolve(attach, resumed=False, sequence=0)
    goes_on = attach.resumed and not attach.resync_required
    if goes_on and attach.head is not None and held.cursor > attach.head:
        link.dropped = True
        core.join_again(now, since=0)
        return None
    return attach


def _follow_up(core: ClientCore, attach: Attach, now: float) -> None:
    """What a welcome leaves to do: a new token, messages, a hole, a wish for a snapshot."""
    link = core.linked()
    if link.new_token:
        core.present_token(now)
    core.flush(now)
    if attach.version == 1:
        _name_trimmed_v1(core, attach, now)
    core.note_caught_up_v1(by_frame=False)
    if not attach.resumed:
        core.want_snapshot = False
    elif core.want_snapshot and core.state is ClientState.LIVE:
        if link.asked_snapshot:  # and the server would not hear of it
            core.want_snapshot = False
        else:
            core.ask_snapshot(now)


def _name_trimmed_v1(core: ClientCore, attach: Attach, now: float) -> None:
    """A floor above what is expected, and no resync: name what is lost and go on above it.

    To join again would end at the same floor, for ever.
    """
    expected, floor = core.held().cursor + 1, attach.oldest_cursor or 0
    if core.state is ClientState.LIVE and not attach.resync_required and floor > expected:
        core.emit(Gap(expected=expected, received=floor))
        core.skip_to(floor - 1, "trimmed", now)


# -- rejections -------------------------------------------------------------------------------


def take_rejection(core: ClientCore, error: Error, now: float) -> None:
    """Go by its code, or await the close where the code is unknown."""
    link = core.linked()
    # What an earlier error asked for still counts, where this rejects a second handshake.
    link.floor = max(link.floor, floor_of(error.retry_after_seconds))
    ending = of_rejection(error)
    if ending is None:
        link.rejection = Rejection(
            code=error.code, message=error.message, next_step=error.next_step
        )
        core.state = ClientState.REJECTED
    else:
        core.close(CLOSE_NORMAL, "rejected")
        core.end(ending, now)


def give_up_handshake(core: ClientCore, _: None, now: float) -> None:
    """No welcome came in time: come back later."""
    core.give_up_for(ErrorCode.HANDSHAKE_TIMEOUT, now)


def give_up_rejected(core: ClientCore, _: None, now: float) -> None:
    """No close follows the rejection: go by its `next_step`."""
    link = core.linked()
    core.close(CLOSE_NORMAL, "rejected")
    core.end(of_close(TransportClosed(connection=link.connection), link.rejection), now)


def answer_ping(core: ClientCore, ping: Ping, _: float) -> None:
    """Answer; a version 1 server counts the connection as joined while `join` is under way."""
    core.pong(ping)
