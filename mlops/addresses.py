"""Addresses as they may be shown: in messages, on the terminal, in the ledger. Values only."""

from __future__ import annotations

import re
from urllib.parse import unquote, urlsplit

# Up to the last @ of the word, because a password may have any of `@/?#` in it unescaped.
_CREDENTIALS = re.compile(r"(?<=://)[^\s'\"]*@")


MLFLOW_VIEW = "workflowType=machine_learning"
"""At the end of an address of MLflow's pages: they open on runs and models; without it MLflow 3 shows those for
language models first."""


def without_credentials(text: str) -> str:
    """The text with `user:password@` taken out of every address in it.

    >>> without_credentials("http://user:pass@host:5000/path does not answer")
    'http://host:5000/path does not answer'
    """
    return _CREDENTIALS.sub("", text)


def credentials_of(url: str) -> str:
    """`user:password` of a URL that may hold them; empty where it does not.

    >>> credentials_of("http://reader:p%40ss@host:5000")
    'reader:p@ss'
    """
    parts = urlsplit(url)
    return f"{unquote(parts.username)}:{unquote(parts.password or '')}" if parts.username else ""
