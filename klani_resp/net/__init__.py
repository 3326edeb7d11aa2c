"""Sockets and the tasks that serve them. Bytes go to sessions, which know nothing of all this."""
