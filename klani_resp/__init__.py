"""The server: wire, connections, scheduling. The only package that imports trio.

`klani_resp.client` is no part of it: it comes in a distribution of its own, which this file is not in.
"""

__version__ = "0.1.0"
