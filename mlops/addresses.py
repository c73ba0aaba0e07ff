"""Addresses as they may be shown: in messages, on the terminal, in the ledger. Values only."""

from __future__ import annotations

import re

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
