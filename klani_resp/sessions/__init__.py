"""What a client says and is told, without I/O: sessions, transactions, the gate to the commands."""
