"""Tasks of both eras under ids of ours, bound to their principal."""
