"""Where ids come from unless a test says otherwise: a cryptographic source.

The only module of the core that draws randomness. Session ids prove ownership where there is no
authentication, so they must never come from the generator that spreads delays.
"""

import secrets

_ID_BYTES = 18
"""144 bits: above the 122 random bits that the protocol asks of a request id."""


def random_id() -> str:
    """A new id of 24 URL-safe characters without a dot, which separates id and epoch."""
    return secrets.token_urlsafe(_ID_BYTES)
