"""File descriptors: as many as the connections need, and some kept back for the log and its checkpoints."""

from __future__ import annotations

import logging
import resource

import msgspec

from klani_resp.config import Config
from klani_resp.settings import Unfit

log = logging.getLogger("klani_resp")
# Without them clients could take the last one, and a log that cannot open its next segment is the end.
KEPT_BACK = 32


def fitted(config: Config) -> Config:
    """Raises the process's limit as far as the settings need and may; fewer connections where it may not."""
    connections = _raise_limit(config)
    if connections == config.connections_max:
        return config
    log.warning(
        "connections_max is %d, not %d: the system allows %d descriptors",
        connections,
        config.connections_max,
        connections + _kept_back(config),
    )
    return msgspec.structs.replace(config, connections_max=connections)


def refuse_more_than_fit(config: Config) -> None:
    """As `fitted`, for a setting that is being changed."""
    connections = _raise_limit(config)
    if connections < config.connections_max:
        raise Unfit(
            "connections_max",
            "The operating system is not able to handle the specified number of clients, "
            f"try with {connections}",
        )


def _kept_back(config: Config) -> int:
    onlookers = bool(config.metrics_port) + bool(config.board_port)
    return KEPT_BACK + onlookers * config.onlooker_connections_max


def _raise_limit(config: Config) -> int:
    """How many connections there can be."""
    wanted = config.connections_max + _kept_back(config)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return config.connections_max
    soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return config.connections_max if soft == wanted else max(1, soft - _kept_back(config))
