"""What a server promised, as it was reviewed: canonical digests, the lock file beside the registry, and drift."""
