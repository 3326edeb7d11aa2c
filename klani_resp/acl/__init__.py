"""Users and their permissions, without I/O: rules, key patterns, what is checked before a command runs."""
