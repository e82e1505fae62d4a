"""The trainer: a library with one entry, a command, and no idea that a server exists (torch)."""


class PeerLost(Exception):
    """Another process of the run is gone. The run goes on from its last saved step when it is started again."""


class TrainingError(Exception):
    """The run cannot go on. `code` is for programs; the message may be shown to the customer, so it holds no paths."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
