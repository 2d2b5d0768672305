"""What arrives is judged by a frame's header, before its payload: size, kind and order."""

from typing import Final

from wsproto.extensions import Extension
from wsproto.frame_protocol import (
    CloseReason,
    FrameDecoder,
    FrameProtocol,
    Opcode,
    RsvBits,
)

_NO_RSV: Final = RsvBits(rsv1=False, rsv2=False, rsv3=False)
# 1014 (Bad Gateway) was registered after RFC 6455; wsproto takes it for a reserved one.
_BAD_GATEWAY: Final = (1014).to_bytes(2)
_STAND_IN: Final = int(CloseReason.TRY_AGAIN_LATER).to_bytes(2)


class FrameGuard(Extension):
    """A look at every incoming frame, in the place where wsproto lets an extension look.

    It is never negotiated and uses no reserved bit. A header whose frame cannot be accepted sets
    `fault` to the close code; should payload come with it, wsproto is told to fail before it
    decodes any. What RFC 6455 forbids in the header itself wsproto finds first.
    """

    name = "gatewayproto-frame-guard"

    def __init__(self, max_message: int) -> None:
        self.fault: CloseReason | None = None
        #: The Close frame that was read carried 1014, and wsproto was shown 1013 in its place.
        self.bad_gateway = False
        #: Complete frames that ended no message.
        self.overhead = 0
        self._max_message = max_message
        self._in_message = False
        self._size = 0  # of the frames of the current message that are complete
        self._opcode = Opcode.CONTINUATION
        self._frame_size = 0

    def enabled(self) -> bool:
        """Return True: wsproto drops extensions that are not."""
        return True

    def offer(self) -> bool:
        """Return False: nothing of this is said to the peer."""
        return False

    def frame_inbound_header(
        self,
        proto: FrameDecoder | FrameProtocol,  # noqa: ARG002 - wsproto's signature
        opcode: Opcode,
        rsv: RsvBits,  # noqa: ARG002
        payload_length: int,
    ) -> RsvBits:
        """Judge a header. wsproto may ask again for the same one, until its mask has come too."""
        self._opcode = opcode
        self._frame_size = payload_length
        if not opcode.iscontrol():
            self.fault = self._judge(opcode, payload_length)
        return _NO_RSV

    def frame_inbound_payload_data(
        self,
        proto: FrameDecoder | FrameProtocol,  # noqa: ARG002
        data: bytes,
    ) -> bytes | CloseReason:
        """Stop payload that must not be decoded; let 1014 pass."""
        if self.fault is not None:
            return self.fault
        if self._opcode is Opcode.CLOSE and data[:2] == _BAD_GATEWAY:
            self.bad_gateway = True
            return _STAND_IN + data[2:]
        return data

    def frame_inbound_complete(
        self,
        proto: FrameDecoder | FrameProtocol,  # noqa: ARG002
        fin: bool,
    ) -> None:
        """Count a complete frame towards its message."""
        if self._opcode.iscontrol() or not fin:
            self.overhead += 1
        if not self._opcode.iscontrol():
            self._in_message = not fin
            self._size = 0 if fin else self._size + self._frame_size

    def _judge(self, opcode: Opcode, payload_length: int) -> CloseReason | None:
        if (opcode is Opcode.CONTINUATION) is not self._in_message:
            return CloseReason.PROTOCOL_ERROR
        if opcode is Opcode.BINARY:
            return CloseReason.UNSUPPORTED_DATA
        if self._size + payload_length > self._max_message:
            return CloseReason.MESSAGE_TOO_BIG
        return None
