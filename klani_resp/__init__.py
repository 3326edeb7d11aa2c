"""The server: wire, connections, scheduling. The only package that imports trio."""

__version__ = "0.1.0"
