"""The row store: files, rows, posting lists, leases. No trio, no RESP, no idea of clients."""
