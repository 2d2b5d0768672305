"""`python -m gatewayproto_cli` is the command `gatewayproto`."""

from gatewayproto_cli import main

main()
