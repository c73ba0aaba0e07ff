"""Why the page does not do what it is asked for; each becomes an answer in `admin.responses`."""

from __future__ import annotations


class Refusal(Exception):
    """A request that is not carried out; the message is shown."""

    status = 400


class NotSignedIn(Refusal):
    """Nobody that the page knows."""

    status = 401

    def __init__(self, words: str, *, is_program: bool = False) -> None:
        super().__init__(words)
        self.is_program = is_program


class Forbidden(Refusal):
    """Known, but may not."""

    status = 403


class TooOften(Refusal):
    """Try later."""

    status = 429

    def __init__(self, words: str, *, again_after_s: float) -> None:
        super().__init__(words)
        self.again_after_s = again_after_s


class NotValid(Refusal):
    """A value of a form or an address that cannot be."""

    status = 422


class NothingChosen(NotValid):
    """Nothing is ticked that something could be done with; a browser is told on the page where it ticks."""


class NotThere(Refusal):
    """There is no such page or thing."""

    status = 404
