"""Names that supervisord, the listener and the launcher share. Nothing else: supervisord loads it."""

LISTENER = "postern-fleet"
PROXY = "postern-proxy"
LAUNCHER_PREFIX = "postern exec: "
EXIT_CONFIG, EXIT_NOT_EXECUTABLE = 78, 126
