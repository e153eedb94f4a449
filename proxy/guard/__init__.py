"""What stands between a server's promises and its callers: pinned contracts, artifacts, the operator's hooks."""
