"""`gatewayproto demo`: a gateway, a client and faults on the way, and an account of every event."""

from gatewayproto_cli.demo.command import demo_command

__all__ = ["demo_command"]
