"""INFO's sections about commands: what they cost, and what they refused. Only commands that were called."""

from __future__ import annotations

from klani_resp.insight.statistics import Statistics

PERCENTILES = (50.0, 99.0, 99.9)
Section = dict[str, str | int | float]


def commandstats(statistics: Statistics) -> Section:
    section: Section = {}
    for one in statistics.commands.values():
        calls, us = one.calls, one.ns // 1000
        if calls or one.rejected:
            section[f"cmdstat_{one.name.lower()}"] = (
                f"calls={calls},usec={us},usec_per_call={us / calls if calls else 0:.2f},"
                f"rejected_calls={one.rejected},failed_calls={one.failed}"
            )
    return section


def latencystats(statistics: Statistics) -> Section:
    section: Section = {}
    for one in statistics.commands.values():
        if one.calls:
            values = zip(PERCENTILES, one.percentiles(PERCENTILES), strict=True)
            shown = ",".join(f"p{percent:g}={us:.3f}" for percent, us in values)
            section[f"latency_percentiles_usec_{one.name.lower()}"] = shown
    return section


def errorstats(statistics: Statistics) -> Section:
    return {f"errorstat_{word}": f"count={count}" for word, count in sorted(statistics.errors.items())}
