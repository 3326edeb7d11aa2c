"""The commands: one file for a command or a small family. Plain functions; no async, no RESP, no files."""
