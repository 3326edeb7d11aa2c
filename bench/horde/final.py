"""The last line of each flow: a word of its own, then keys and values in a fixed order."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from bench.horde.stats import Outcome, merged, peak_qps, per_second, percentile

Values = dict[str, int | str]
UNREAD = "unread"  # stands for verified_sold when storage could not be read again


def final_line(flow: str, outcome: Outcome) -> str:
    word, values_of = FINALS[flow]
    return f"{word} " + " ".join(f"{key}={value}" for key, value in values_of(outcome).items())


def _seed(outcome: Outcome) -> Values:
    """The seed's keys, in the seed's order."""
    tally, kind = outcome.tally, outcome.tally.kind
    return {
        "users": outcome.users,
        "seats": outcome.seats,
        "sold": outcome.sold,
        "verified_sold": _verified(outcome),
        "read_queries": tally.count(kind.sums["reads"]),
        "updates": tally.count(kind.sums["updates"]),
        "peak_qps": _peak(outcome),
        "read_p90_us": _quantile(outcome, kind.sums["reads"], 0.9),
        "update_p90_us": _quantile(outcome, kind.sums["updates"], 0.9),
        **_events(outcome, "lock_conflicts", "already_sold", "no_ticket"),
        **_ending(outcome),
    }


def _claim(outcome: Outcome) -> Values:
    return {
        "users": outcome.users,
        "seats": outcome.seats,
        "sold": outcome.sold,
        "verified_sold": _verified(outcome),
        **_events(outcome, "sold_out", "busy"),
        "peak_qps": _peak(outcome),
        **_quantiles(outcome, "CLAIM"),
        **_ending(outcome),
    }


def _hold(outcome: Outcome) -> Values:
    return {
        "users": outcome.users,
        "seats": outcome.seats,
        "sold": outcome.sold,
        "verified_sold": _verified(outcome),
        "holds": sum(outcome.tally.event(name) for name in ("confirmed", "released", "expired", "resold")),
        **_events(outcome, "confirmed", "released", "expired", "resold", "sold_out", "busy"),
        "peak_qps": _peak(outcome),
        **_quantiles(outcome, "HOLD"),
        **_quantiles(outcome, "CONFIRM"),
        **_ending(outcome),
    }


def _rooms(outcome: Outcome) -> Values:
    return {
        "sessions": outcome.users,
        "rooms": outcome.seats,
        "booked": outcome.sold,
        "verified_booked": _verified(outcome),
        **_events(outcome, "hotel_full", "sold_out", "busy"),
        "peak_qps": _peak(outcome),
        **_quantiles(outcome, "CLAIM"),
        **_ending(outcome),
    }


FINALS: dict[str, tuple[str, Callable[[Outcome], Values]]] = {
    "exact": ("thundering_herd_done", _seed),
    "pipelined": ("thundering_herd_done", _seed),
    "claim": ("claim_herd_done", _claim),
    "hold": ("hold_herd_done", _hold),
    "rooms": ("rooms_done", _rooms),
}


def _events(outcome: Outcome, *names: str) -> Values:
    return {name: outcome.tally.event(name) for name in names}


def _verified(outcome: Outcome) -> int | str:
    """A word where storage could not be read, so that nobody takes it for a count."""
    verified = outcome.stored.verified_sold
    return UNREAD if verified is None else verified


def _peak(outcome: Outcome) -> int:
    return peak_qps(per_second(outcome.tally, outcome.wall_seconds), outcome.tally.kind.rated)


def _quantile(outcome: Outcome, commands: Iterable[str], fraction: float) -> int:
    return percentile(sorted(merged(outcome.tally.took_us, commands)), fraction)


def _quantiles(outcome: Outcome, command: str) -> Values:
    return {
        f"{command.lower()}_p{percent}_us": _quantile(outcome, (command,), percent / 100)
        for percent in (50, 90, 99)
    }


def _ending(outcome: Outcome) -> Values:
    return {"failed_workers": outcome.failed_workers, "wall_secs": f"{outcome.wall_seconds:.3f}"}
