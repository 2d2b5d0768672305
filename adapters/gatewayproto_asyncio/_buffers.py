"""The write buffers of transports."""

import asyncio


def keep_informed(transport: asyncio.Transport) -> None:
    """Have a transport pause its protocol once bytes stay behind, and resume it once none do.

    These are the two moments at which it matters how much was taken. A plain transport pauses
    above its limit, a TLS transport at it, where 0 would mean always.
    """
    secure = transport.get_extra_info("sslcontext") is not None
    transport.set_write_buffer_limits(high=1 if secure else 0, low=0)
