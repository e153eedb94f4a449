"""What can be wrong with a hook.

HookError            it did not answer as it must: raised, hung, answered nonsense; before a call that refuses it
HookRaisedError      what a Python hook raised, on its way past the event loop
HookConfigError      it cannot be set up, so nothing starts: not importable, not signed, an address in the clear
"""

from proxy.settings import SettingsError


class HookError(Exception):
    """The hook failed; the message says how, without anything that it was given."""


class HookRaisedError(Exception):
    """Holds what a hook raised: a bare SystemExit would end the proxy, and no future holds a StopIteration."""

    def __init__(self, failure: BaseException) -> None:
        super().__init__(type(failure).__name__)
        self.failure = failure


class HookConfigError(SettingsError, ValueError):
    """The declaration cannot be used; the message names the hook and the way out."""
