"""What redis_exporter and RedisInsight ask when they connect and for overviews, and what they read of it.

Both ask in RESP2. Where an error makes them go another way it must be Redis's own text.
"""

from __future__ import annotations

from typing import Any

from tests.clients.talk import Talk, is_refused


def sections(info: bytes) -> dict[str, dict[str, str]]:
    """INFO as programs read it: `# Title` begins a section, the rest are `name:value`."""
    found: dict[str, dict[str, str]] = {}
    for line in info.decode().split("\r\n"):
        if line.startswith("# "):
            facts = found.setdefault(line[2:].lower(), {})
        elif line:
            name, colon, value = line.partition(":")
            assert colon, line
            facts[name] = value
    return found


def texts(reply: list[bytes]) -> list[str]:
    return [one.decode() for one in reply]


def pairs(reply: list[bytes]) -> dict[str, str]:
    words = texts(reply)
    return dict(zip(words[::2], words[1::2], strict=True))


def test_redis_exporter_s_scrape(talk: Talk, seats: Any) -> None:
    """INFO alone must be answered; `databases` says for how many it counts keys."""
    named, info, config, commandlog = talk(
        "CLIENT SETNAME redis_exporter", "INFO ALL", "CONFIG GET *", "COMMAND INFO COMMANDLOG"
    )
    assert named == b"OK"
    facts = sections(info)
    assert facts["server"]["redis_version"] == "7.4.0"
    assert facts["replication"]["role"] == "master"
    assert facts["keyspace"]["db0"].startswith("keys=1,expires=0")
    assert facts["persistence"]["loading"] == "0"
    for section, name in (
        ("server", "uptime_in_seconds"),
        ("server", "process_id"),
        ("clients", "connected_clients"),
        ("clients", "blocked_clients"),
        ("memory", "used_memory"),
        ("memory", "used_memory_rss"),
        ("stats", "total_commands_processed"),
        ("stats", "total_connections_received"),
        ("stats", "rejected_connections"),
        ("stats", "total_net_input_bytes"),
    ):
        assert int(facts[section][name]) >= 0
    assert float(facts["cpu"]["used_cpu_sys"]) >= 0
    settings = pairs(config)
    assert int(settings["maxclients"]) > 0
    assert settings["databases"] == "1"
    assert settings["maxmemory"] == "0"
    assert commandlog == [None]  # none here: it asks no more of it
    (clients,) = talk("CLIENT LIST")
    assert b"name=redis_exporter" in clients


def test_redisinsight_connects(talk: Talk, seats: Any) -> None:
    """It finds out what it talks to: modules by MODULE LIST or else by name, a cluster by CLUSTER INFO."""
    named, info, modules, known, cluster, databases = talk(
        "client setname redisinsight-browser-1a2b3c4d-1-1-0",
        "info",
        "module list",
        "command info ft.search json.get ts.add",
        "cluster info",
        "config get databases",
    )
    assert named == b"OK"
    facts = sections(info)
    assert facts["server"]["redis_version"] == "7.4.0"
    assert facts["server"]["redis_mode"] == "standalone"
    assert facts["replication"]["role"] == "master"
    assert modules == [] or is_refused(
        modules, "ERR unknown command 'module', with args beginning with: 'list' "
    )
    assert known == [None] * 3
    assert is_refused(cluster, "ERR unknown command 'cluster', with args beginning with: 'info' ")
    assert texts(databases) == ["databases", "1"]
    (hello,) = talk("hello")
    assert dict(zip(hello[::2], hello[1::2], strict=True))[b"modules"] == []


def test_redisinsight_s_overview(talk: Talk, seats: Any) -> None:
    clients, rows, threads, info, array = talk(
        "client list", "dbsize", "config get io-threads", "info keyspace", "command info arget"
    )
    lines = clients.decode().splitlines()
    facts = [dict(word.split("=", 1) for word in line.split(" ")) for line in lines]
    assert {"id", "addr", "name", "age", "idle", "db", "flags"} <= set.intersection(*map(set, facts))
    assert rows == 1
    assert threads == []
    assert list(sections(info)) == ["keyspace"]
    counted = dict(one.split("=") for one in sections(info)["keyspace"]["db0"].split(","))
    assert counted["keys"] == "1"
    assert array == [None]


def test_redisinsight_s_workbench(talk: Talk, seats: Any) -> None:
    """What a person types there: a line as it is, the reply shown as it comes."""
    assert talk("KL.INTERSECT seats rank 3", "kl.seek 42 rank") == [[42], [b"rank", 3]]
    (refused,) = talk("GET seats:42")
    assert is_refused(refused, "ERR unknown command 'GET', with args beginning with: 'seats:42' ")
