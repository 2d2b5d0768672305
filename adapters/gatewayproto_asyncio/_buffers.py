"""The write buffers of transports."""

import asyncio


def keep_informed(transport: asyncio.Transport) -> None:
    """Have a transport pause its protocol once bytes stay behind, and resume it once none do.

    These are the two moments at which it matters how much was taken. A plain transport pauses
    above its limit, a TLS transport at it, where 0 would mean always.
    """
    if transport.get_extra_info("sslcontext") is None:
        transport.set_write_buffer_limits(high=0, low=0)
    else:
        # Not before the next turn: what the TLS handshake itself has left to be sent would count,
        # and whoever stops reading because of that keeps it from being sent.
        asyncio.get_running_loop().call_soon(transport.set_write_buffer_limits, 1, 0)
