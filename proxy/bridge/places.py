"""How many children a bridge may have at once."""


class Places:
    """A counter with a limit. The one shared modern child of a bridge needs no place."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.taken = 0

    def take(self) -> bool:
        """Whether there was a free place; it is the caller's now."""
        if self.taken >= self.limit:
            return False
        self.taken += 1
        return True

    def give_back(self) -> None:
        self.taken -= 1
