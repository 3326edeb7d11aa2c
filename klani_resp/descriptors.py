"""File descriptors: as many as the connections need, and some kept back for the log and its checkpoints."""

from __future__ import annotations

import logging
import resource

import msgspec

from klani_resp.config import Config

log = logging.getLogger("klani_resp")
# Without them clients could take the last one, and a log that cannot open its next segment is the end.
KEPT_BACK = 32


def fitted(config: Config) -> Config:
    """Raises the process's limit as far as the settings need and may; fewer connections where it may not."""
    onlookers = bool(config.metrics_port) + bool(config.board_port)
    kept_back = KEPT_BACK + onlookers * config.onlooker_connections_max
    wanted = config.connections_max + kept_back
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return config
    soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == wanted:
        return config
    connections = max(1, soft - kept_back)
    log.warning(
        "connections_max is %d, not %d: the system allows %d descriptors",
        connections,
        config.connections_max,
        soft,
    )
    return msgspec.structs.replace(config, connections_max=connections)
