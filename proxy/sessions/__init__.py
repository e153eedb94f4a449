"""Legacy sessions (SPEC S2–S4): kept in PostgreSQL under ids of ours, bound to their callers, rebuilt when lost."""
