"""What a server and a client need on any I/O framework: no I/O here, and no framework.

Each adapter exports the names of its users as its own; they are the same classes in all of them.
"""
