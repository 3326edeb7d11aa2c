"""LATENCY: when something took long, and how the times of commands are spread."""

from __future__ import annotations

from typing import Any

from commands.family import Family
from commands.spec import Arg, Context, Flags, Page, Text, command

_family = Family("LATENCY")


@_family.member("LATEST", summary="Of each event: name, unix time, last ms, most ms.")
def latency_latest(context: Context, words: list[bytes]) -> list[list[Any]]:
    return [list(event) for event in context.server.latency.latest()]


@_family.member("HISTORY", syntax="<event>", summary="Its last 160 samples: unix time, ms.", least=1, most=1)
def latency_history(context: Context, words: list[bytes]) -> list[list[int]]:
    event = words[0].decode("utf-8", "surrogateescape")
    return [list(sample) for sample in context.server.latency.history(event)]


@_family.member(
    "RESET", syntax="[<event> ...]", summary="Forgets these events, or all; how many there were.", most=None
)
def latency_reset(context: Context, words: list[bytes]) -> int:
    return context.server.latency.reset([word.decode("utf-8", "surrogateescape") for word in words])


@_family.member(
    "HISTOGRAM",
    syntax="[<command> ...]",
    summary="How many calls took at most so many microseconds.",
    most=None,
)
def latency_histogram(context: Context, words: list[bytes]) -> dict[str, dict[str, Any]]:
    names = {word.decode("utf-8", "surrogateescape").upper() for word in words}
    return {
        name.lower(): {"calls": calls, "histogram_usec": histogram}
        for name, (calls, histogram) in context.server.histograms(names).items()
    }


@_family.member("DOCTOR", summary="What the events say, in a sentence each.")
def latency_doctor(context: Context, words: list[bytes]) -> Text:
    events = context.server.latency.latest()
    if not events:
        return Text(
            "No latency was noted. latency-monitor-threshold says from how many milliseconds on it is; "
            "0 notes nothing.\n"
        )
    return Text(
        "".join(
            f"{event.name}: last {event.ms} ms at {event.unix_seconds}, at most {event.most_ms} ms.\n"
            for event in events
        )
    )


@command(
    "LATENCY",
    summary="When something took longer than latency-monitor-threshold, and how commands' times are spread.",
    syntax="<subcommand> [<argument> ...]",
    args=(("words", Arg.REST),),
    least=1,
    flags=Flags.ADMIN | Flags.LOADING | Flags.CONNECTION,
    group="server",
    complexity="O(events)",
    family=_family,
    page=Page(
        text="Events are `command`, `fast-command`, `aof-fsync-always`, a sync of the log, and `checkpoint`.",
        partly="GRAPH",
    ),
)
def latency(context: Context, words: list[bytes]) -> object:
    return _family.run(context, words)
