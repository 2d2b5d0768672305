"""What a client must do with the frames of a server, whatever they are, and with its welcome.

What follows a welcome is in `_client_live` and `_client_v1`.

Spec: The welcome; The client's side; Version 1.
"""

import json

from gatewayproto.actions import (
    Joined,
    ResumeToken,
)
from gatewayproto.testing import _shapes
from gatewayproto.testing.any_peer._client_known import (
    ANY,
    ATTACHED,
    CLOSE_OF,
    LINK_DEADLINES,
    Ending,
    Frame,
    floor_of,
)
from gatewayproto.testing.any_peer._client_v1 import V1Book
from gatewayproto.testing.any_peer._reading import (
    NO_FRAMES,
    bare,
    entries_of,
    epoch_in,
    has_huge,
    is_numbered,
    is_snapshot_v1,
    lenient,
    same_session,
)
from gatewayproto.testing.reference import compact


class FrameBook(V1Book):
    """What the frames of a server must come to."""

    def take_bytes(self, data: bytes) -> None:
        """A frame came in on the present connection, after its transport opened."""
        link, frame = self.linked, None
        too_large = len(data) > self.config.max_payload
        if not too_large and data not in NO_FRAMES:
            frame = json.loads(data)
            frame = None if has_huge(frame) else frame
        if frame is None or not self._fits(frame):
            self.witnessed.add(f"{self.phase}: bad frame")
            self._take_bad(too_large=too_large)
            return
        self.witnessed.add(f"{self.phase}: {frame['type']}")
        if self.phase in ATTACHED:
            self.hear()
            if link.version == 1:
                self._take_v1(frame)
            else:
                self._take_v2(frame)
        else:
            self._take_early(frame)

    def _fits(self, frame: Frame) -> bool:
        """Whether its fields are what the version agreed says they are."""
        if self.phase not in ATTACHED:
            return True
        if self.linked.version == 1:
            return is_numbered(frame) or frame["type"] != "snapshot" or is_snapshot_v1(frame)
        shape = _shapes.SERVER.get(frame["type"])
        return shape is None or shape(frame)

    def _take_bad(self, *, too_large: bool) -> None:
        if self.phase != "rejected":
            self.end_bad(too_large=too_large)

    # -- up to the welcome --------------------------------------------------------------------

    def _take_early(self, frame: Frame) -> None:
        type_ = frame["type"]
        if is_numbered(frame) and self.config.versions.minimum == 1:
            return
        if self.phase == "rejected":
            return
        if type_ in {"error", "hello_error"}:
            self._take_rejection(frame)
        elif type_ == "ping" and self.phase == "rejoining":
            self.send("pong", nonce=lenient(_shapes.NONCE, frame.get("nonce")))
        elif type_ == "joined" or (type_ == "hello_ok" and self.phase == "handshaking"):
            self._take_welcome(frame)

    def _take_rejection(self, frame: Frame) -> None:
        link = self.linked
        asked = floor_of(lenient(_shapes.number, frame.get("retry_after_seconds")))
        link.floor = max(link.floor, asked)  # one that an earlier error asked for carries over
        code = lenient(_shapes.text(), frame.get("code")) or ""
        message = lenient(_shapes.text(), frame.get("message")) or ""
        close = CLOSE_OF.get(code)
        if close is None:
            step = lenient(_shapes.text(), frame.get("next_step"))
            link.rejection = (code, message, step)
            self.phase = "rejected"
            return
        self.close(1000)
        kind = "token" if close == CLOSE_OF["auth_expired"] else "retry"
        self.end(
            Ending("stop" if close >= CLOSE_OF["version_unsupported"] else kind, code, message)
        )

    def _take_welcome(self, frame: Frame) -> None:
        fields = (frame.get("protocol_version"), frame.get("protocol"))
        stated = [value for value in fields if value is not None] or [1]
        version = stated[0]
        if not all(map(_shapes.VERSION, stated)) or stated[-1] != version:
            self.end_bad()
        elif version < self.config.versions.minimum:
            self.close(1000)
            self.stop("version_unsupported", ANY)
        elif version > self.config.versions.maximum:
            self.end_bad()
        elif version == 1:
            self._welcome_v1(frame)
        elif self._is_believable(frame):
            self._attach(frame, version)
        else:
            self.end_bad()

    def _is_believable(  # noqa: PLR0911 -- one for each rule
        self, frame: Frame
    ) -> bool:
        """The rules for version 2 welcomes, one after the other."""
        if not _shapes.WELCOME(frame):
            return False
        if any(frame.get(name) is None for name in ("epoch", "cursor", "sequence")):
            return False
        held, resumed = self.position, frame.get("resumed")
        if not resumed:
            same = held is not None and frame["session_id"] == held.session_id
            named = same and held is not None and frame["epoch"] == held.epoch
            said = resumed is False or held is None
            return said and frame["sequence"] == 0 and not named
        if held is None or bare(frame["session_id"]) != bare(held.session_id):
            return False
        required, epoch = frame.get("resync_required"), held.epoch or epoch_in(held.session_id)
        if required and frame.get("resync_reason") == "epoch_changed":
            return True
        if epoch is not None and epoch != frame["epoch"]:
            return False
        if required:
            return True
        unnamed = epoch is None and held.cursor > 0
        goes_on = frame["sequence"] == held.cursor <= frame["cursor"]
        return goes_on and not unnamed

    def _attach(self, frame: Frame, version: int, *, resumed: bool | None = None) -> None:
        """A welcome that is believed."""
        link, v1 = self.linked, version == 1
        resumed = bool(frame.get("resumed")) if resumed is None else resumed
        required = bool(frame.get("resync_required"))
        link.reason = (frame.get("resync_reason") or "unspecified") if required else None
        link.version, link.session_id = version, frame["session_id"]
        link.epoch, link.head = frame.get("epoch"), frame.get("cursor")
        link.has_floor = frame.get("oldest_cursor") is not None
        link.due, link.nonce = True, None
        told = {} if v1 else frame
        link.presence_version = told.get("presence_version")
        link.presence_listed = told.get("presence") is not None
        link.health_version = told.get("health_version")
        self._take_policy(frame.get("policy"))
        self.disarm("handshake")
        self.phase = "live"
        if not resumed:
            self.position = ResumeToken(session_id=link.session_id, epoch=link.epoch, cursor=0)
            self.taken = 0
        elif not required:
            self.position = ResumeToken(
                session_id=link.session_id, epoch=link.epoch, cursor=self.cursor
            )
        else:
            self.phase = "resyncing"
            self.arm("recovery", self.now + self.config.recovery_timeout)
        self.rename("connected")
        self.witnessed.add(f"welcome: {link.reason}" if resumed else "welcome: new")
        self.tell(
            Joined(
                token=self.held,
                session_id=link.session_id,
                epoch=link.epoch,
                protocol_version=version,
                resumed=resumed,
                cursor=self.cursor if link.head is None else link.head,
                oldest_cursor=frame.get("oldest_cursor"),
                sequence=frame["sequence"],
                resync_required=required,
                resync_reason=link.reason,
                presence=entries_of(frame.get("presence")),
                health=frame.get("health"),
                presence_count=told.get("presence_count"),
                presence_version=link.presence_version,
                health_version=link.health_version,
            )
        )
        if not resumed or link.reason == "epoch_changed":
            self.forget_written()
        self.hear()
        if link.new_token:
            self.present_token()
        self.flush()
        if v1:
            self._name_trimmed(frame)
            self._note_caught_up_v1(by_frame=False)
        self._ask_again(resumed=resumed)

    def present_token(self) -> None:
        """Fresh credentials on this connection, if the server takes so large a frame."""
        if self.token is None or self.linked.version == 1:
            return
        if len(compact({"type": "auth", "token": self.token})) <= self.max_payload:
            self.linked.presented = self.now
            self.send("auth", token=self.token)

    def _ask_again(self, *, resumed: bool) -> None:
        """The application's wish for a snapshot, after a welcome that brings none."""
        if not resumed:
            self.wants_snapshot = False
        elif self.wants_snapshot and self.phase == "live":
            if self.linked.asked_snapshot:
                self.wants_snapshot = False
            else:
                self.ask_snapshot()

    def ask_snapshot(self) -> None:
        """Ask for one on this connection."""
        if self.linked.version == 1:
            self.join_again(self.cursor)
        else:
            self.send("resync", nonce=ANY)
            self.recover()

    def _take_policy(self, policy: Frame | None) -> None:
        """What the server asks, within reason; without a policy the configuration counts."""
        config = self.config
        self.max_payload, self.window = config.server_max_payload, config.max_pending_requests
        self.heartbeat, self.ttl = config.heartbeat, config.request_ttl
        if policy is None:
            return
        self.max_payload, self.window = (
            policy["max_payload"],
            max(1, policy["max_pending_requests"]),
        )
        if policy["heartbeat_ms"]:
            self.heartbeat = min(max(policy["heartbeat_ms"] / 1000, 0.1), 86_400.0)
        if policy["request_ttl_ms"]:
            self.ttl = policy["request_ttl_ms"] / 1000

    # -- version 1 ----------------------------------------------------------------------------

    def _welcome_v1(self, frame: Frame) -> None:
        strict = {
            "session_id": _shapes.NAME,
            **dict.fromkeys(
                ("cursor", "head", "oldest_cursor", "sequence"), _shapes.maybe(_shapes.CURSOR)
            ),
            "resync_required": _shapes.maybe(_shapes.boolean),
        }
        if not all(shape(frame.get(name)) for name, shape in strict.items()):
            self.end_bad()
            return
        held, link = self.position, self.linked
        resumed = held is not None and same_session(held, frame["session_id"])
        head = frame.get("cursor") if frame.get("head") is None else frame["head"]
        since = self.cursor if resumed else 0
        welcome = {
            **frame,
            "epoch": None,
            "cursor": head,
            "sequence": since if frame.get("sequence") is None else frame["sequence"],
            "resync_reason": lenient(_shapes.text(), frame.get("resync_reason")),
            "presence": lenient(_shapes.items(_shapes.ENTRY), frame.get("presence")),
            "health": lenient(_shapes.thing, frame.get("health")),
            "policy": lenient(_shapes.POLICY, frame.get("policy")),
        }
        if held is not None:
            if frame.get("oldest_cursor") is None and self.phase == "handshaking":
                self.join_again(held.cursor)
                return
            if link.dropped:
                resumed, welcome["sequence"] = False, 0
            elif (
                resumed
                and not frame.get("resync_required")
                and head is not None
                and head < held.cursor
            ):
                link.dropped = True
                self.join_again(0)
                return
        self._attach(welcome, 1, resumed=resumed)

    def join_again(self, since: int) -> None:
        """Version 1: the handshake again, in the spelling that is guarded better."""
        link, config, held = self.linked, self.config, self.held
        link.version, link.asked_snapshot = None, self.wants_snapshot
        for message in self.outbox:
            message.in_flight = False
        self.disarm(*(name for name in LINK_DEADLINES if name != "handshake"))
        if "handshake" not in self.deadlines:
            self.arm("handshake", self.now + config.handshake_timeout)
        self.phase = "rejoining"
        self.send(
            "join",
            agent_id=config.agent_id,
            min_version=config.versions.minimum,
            max_version=config.versions.maximum,
            capabilities=list(config.capabilities) or None,
            session_id=held.session_id,
            epoch=held.epoch,
            since=since,
            start="snapshot" if link.asked_snapshot else None,
            token=self.token,
            max_payload=config.max_payload,
            client=self.about(),
        )

    def about(self) -> Frame | None:
        """What the client says of itself."""
        client = self.config.client
        if client is None:
            return None
        fields = {"name": client.name, "version": client.version}
        return {name: value for name, value in fields.items() if value is not None}
