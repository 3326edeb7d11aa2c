"""Scrapes, read as Prometheus reads them."""

from __future__ import annotations

import urllib.request
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

DEPLOY = Path(__file__).resolve().parent.parent / "deploy"
Key = tuple[str, ...]  # a sample's name, then its labels' values in their order


@dataclass(frozen=True)
class Scrape:
    samples: dict[Key, float]
    families: dict[str, tuple[str, str]]  # kind and summary, by the name in the text

    def __getitem__(self, key: str | Key) -> float:
        return self.samples[(key,) if isinstance(key, str) else key]

    def names(self) -> set[str]:
        return {name for name, *_ in self.samples}


def read(text: str) -> Scrape:
    samples: dict[Key, float] = {}
    families = {}
    for found in text_string_to_metric_families(text):
        name = f"{found.name}_total" if found.type == "counter" else found.name
        assert name not in families, f"{name} comes twice"
        families[name] = (found.type, found.documentation)
        for sample in found.samples:
            key = (sample.name, *sample.labels.values())
            assert key not in samples, f"{key} comes twice"
            samples[key] = sample.value
    return Scrape(samples, families)


def fetch(port: int) -> Scrape:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as reply:
        assert reply.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        return read(reply.read().decode())


def risen(before: Scrape, after: Scrape) -> Counter[Key]:
    """What has changed of the counters of a sale: no times, bytes, or figures of the process."""
    skipped = ("process_", "klani_loop_", "klani_log_sync_", "klani_log_position_")
    changed: Counter[Key] = Counter()
    for key, value in after.samples.items():
        name = key[0]
        if name.startswith(skipped) or "_bytes" in name or "_seconds" in name or name.endswith("_bucket"):
            continue
        if delta := value - before.samples.get(key, 0):
            changed[key] = int(delta)
    return changed
