"""Settings: argv over the TOML file over the defaults; what cannot be used is refused with a clear text."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from klani_resp.config import Config, ConfigError, from_argv
from klani_resp.server import engine_options


def test_defaults() -> None:
    config = from_argv([])
    assert config == Config()
    assert (config.bind, config.port, config.appendfsync) == ("127.0.0.1", 7700, "always")
    assert config.default_table == "seats"


def test_each_option_of_argv() -> None:
    argv = "--bind ::1 --port 0 --dir d --appendfsync everysec --unixsocket /s --default-table t --lease-ms 5"
    more = ["--history-keep-days", "0.5", "--history-bytes-max", "0"]
    more += ["--metrics-bind", "::2", "--metrics-port", "7701"]
    assert from_argv([*argv.split(), "--checkpoint-bytes", "9", "--ballast-bytes", "0", *more]) == Config(
        bind="::1",
        port=0,
        dir="d",
        appendfsync="everysec",
        unixsocket="/s",
        default_table="t",
        lease_ms=5,
        checkpoint_bytes=9,
        ballast_bytes=0,
        history_keep_days=0.5,
        history_bytes_max=0,
        metrics_bind="::2",
        metrics_port=7701,
    )


@pytest.mark.parametrize("option", ["--board-table", "--board-sold", "--default-table"])
def test_what_is_no_text_is_refused_at_the_start(option: str) -> None:
    """Not when a browser asks for it."""
    with pytest.raises(ConfigError):
        from_argv([option, "a\udcff" if option.endswith("table") else "a\udcff 1"])


def test_argv_wins_over_the_file(tmp_path: Path) -> None:
    path = tmp_path / "klani.toml"
    path.write_text('port = 1234\nappendfsync = "no"\narguments_max = 100\n')
    config = from_argv(["--config", str(path), "--port", "99"])
    assert (config.port, config.appendfsync, config.arguments_max) == (99, "no", 100)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("prot = 1", "unknown field `prot`"),
        ('port = "1"', "Expected `int`, got `str` - at `$.port`"),
        ("port = 65536", "Expected `int` <= 65535 - at `$.port`"),
        ("segment_bytes = 1", "Expected `int` >= 65536 - at `$.segment_bytes`"),
        ("ballast_bytes = -1", "Expected `int` >= 0 - at `$.ballast_bytes`"),
        ("history_keep_days = -1", "Expected `float` >= 0.0 - at `$.history_keep_days`"),
        ("history_keep_days = inf", "Expected `float` <= 36500.0 - at `$.history_keep_days`"),
        ("history_bytes_max = -1", "Expected `int` >= 0 - at `$.history_bytes_max`"),
        ("metrics_port = 65536", "Expected `int` <= 65535 - at `$.metrics_port`"),
        (
            "onlooker_request_seconds_max = 0.0",
            "Expected `float` > 0.0 - at `$.onlooker_request_seconds_max`",
        ),
        ("lease_ms = 0", "Expected `int` >= 1 - at `$.lease_ms`"),
        ('appendfsync = "never"', "Invalid enum value 'never' - at `$.appendfsync`"),
        ('default_table = "a b"', "$.default_table"),
        ('dir = ""', "Expected `str` of length >= 1 - at `$.dir`"),
        ("tls_handshake_seconds_max = nan", "Expected `float` > 0.0 - at `$.tls_handshake_seconds_max`"),
        ("idle_seconds_max = nan", "$.idle_seconds_max"),
        (f"turn_events_max = {2**63 - 1}", "Expected `int` <= 65536 - at `$.turn_events_max`"),
        (f"bulk_bytes_max = {64 * 1024 - 1}", "Expected `int` >= 65536 - at `$.bulk_bytes_max`"),
        ("port =", "Invalid value"),
        ("[klani]\nport = 1", "unknown field `klani`"),
    ],
)
def test_a_file_that_cannot_be_used(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "klani.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        from_argv(["--config", str(path)])
    assert str(caught.value).startswith(f"{path}: ")
    assert reason in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        from_argv(["--config", str(tmp_path / "none.toml")])


@pytest.mark.parametrize(
    "argv", [["--port", "70000"], ["--lease-ms", "86400001"], ["--default-table", "x\n"]]
)
def test_argv_has_the_same_limits(argv: list[str]) -> None:
    with pytest.raises(ConfigError):
        from_argv(argv)


@pytest.mark.parametrize("argv", [["--prot", "1"], ["--po", "1"], ["--appendfsync", "never"], ["more"]])
def test_unknown_options_are_usage_errors(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        from_argv(argv)
    assert caught.value.code == 2
    assert "usage: klani-resp" in capsys.readouterr().err


def test_every_number_has_bounds() -> None:
    """Or a call of the system, in C, could get one that it cannot have: that would be the server's end."""
    for field in msgspec.inspect.type_info(Config).fields:  # type: ignore[attr-defined]
        kind = field.type
        if isinstance(kind, msgspec.inspect.IntType | msgspec.inspect.FloatType):
            assert kind.le is not None and (kind.ge is not None or kind.gt is not None), field.name


def test_every_limit_says_its_unit() -> None:
    units = (
        "_bytes",
        "_us",
        "_ms",
        "_seconds",
        "_commands",
        "_connections",
        "_events",
        "_entries",
        "_keys",
        "arguments",
        "connections",
    )
    for name in msgspec.structs.asdict(Config()):
        if name.endswith("_max"):
            assert name.removesuffix("_max").endswith(units), name


def test_what_the_store_gets() -> None:
    options = engine_options(Config(default_table="rooms", appendfsync="no", lease_ms=7, checkpoint_bytes=8))
    assert (options.default_table, options.appendfsync) == (b"rooms", "no")
    assert (options.lease_ms, options.checkpoint_bytes) == (7, 8)
    assert (options.segment_bytes, options.ballast_bytes) == (64 << 20, 64 << 20)
    assert (options.history_keep_days, options.history_bytes_max) == (7, 1 << 30)
    none = engine_options(Config(history_keep_days=1.5, history_bytes_max=0))
    assert (none.history_keep_days, none.history_bytes_max) == (1.5, 0)
