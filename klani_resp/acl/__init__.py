"""Users and their permissions: rules, key patterns, what is checked before a command runs."""
