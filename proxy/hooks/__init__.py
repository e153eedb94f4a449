"""Policy hooks: code of the operator's before and after a tool runs (SPEC C5). What a hook imports is here."""

from proxy.hooks.api import Answer, Caller, HookEvent, Refuse, Replace, Rewrite

__all__ = ["Answer", "Caller", "HookEvent", "Refuse", "Replace", "Rewrite"]
