"""Who may do what on one server: pure, compiled once, the same for live calls, lists and `postern explain`."""

from proxy.authorize.decision import AuthzCode, Decision
from proxy.authorize.policy import Policy

__all__ = ["AuthzCode", "Decision", "Policy"]
