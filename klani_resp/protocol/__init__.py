"""RESP without I/O: bytes to requests, values to bytes."""
