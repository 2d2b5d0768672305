"""The one exception of this layer."""


class WsUsageError(RuntimeError):
    """The caller's own mistake: a call that no order of the peer's bytes could have made right.

    Raised before anything has changed. What a peer sends never raises; a lawful call that lost a
    race with a close comes back as a value.
    """
