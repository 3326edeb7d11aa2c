"""Certificates that are signed for a test, and clients that show them."""

from __future__ import annotations

import datetime
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis
import trustme


def client_of(**options: Any) -> Any:
    """redis-py, which does not type execute_command."""
    return redis.Redis(**options)


@dataclass(frozen=True)
class Paper:
    """Who signs, and what was signed, as files."""

    ca: Path
    cert: Path
    key: Path
    client: Path  # with its key
    stranger: Path  # likewise, signed by somebody else
    expired: Path


@pytest.fixture(scope="session")
def paper(tmp_path_factory: pytest.TempPathFactory) -> Paper:
    folder = tmp_path_factory.mktemp("paper")
    ours, other = trustme.CA(), trustme.CA()
    server = ours.issue_cert("localhost", "127.0.0.1")
    old = datetime.datetime(2001, 1, 1, tzinfo=datetime.UTC)
    found = Paper(*(folder / name for name in ("ca", "cert", "key", "client", "stranger", "expired")))
    ours.cert_pem.write_to_path(str(found.ca))
    server.private_key_pem.write_to_path(str(found.key))
    for blob in server.cert_chain_pems:
        blob.write_to_path(str(found.cert), append=True)
    for path, signed in (
        (found.client, ours.issue_cert("client@shop")),
        (found.stranger, other.issue_cert("client@shop")),
        (found.expired, ours.issue_cert("client@shop", not_before=old, not_after=old.replace(year=2002))),
    ):
        signed.private_key_and_cert_chain_pem.write_to_path(str(path))
    return found


def context(paper: Paper, cert: Path | None = None) -> ssl.SSLContext:
    made = ssl.create_default_context(cafile=str(paper.ca))
    if cert is not None:
        made.load_cert_chain(str(cert))
    return made
