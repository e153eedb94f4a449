"""Registry to supervisord: the text of `supervisord.conf` and of one file per program.

How the fleet is brought up (`up.py` uses exactly this):

    paths = Paths(state=Path(...), registry=Path(...), dsn_file=Path(...) or None)
    conf = write_supervisord_config(fleet, paths)      # creates state directories, main file, conf.d/*.conf; returns the file
    process = Popen(supervisord_argv(conf), ...)       # stays in the foreground; one SIGTERM ends everything
    SupervisorClient(paths.socket)                     # client.py: await client.fleet_status() -> dict as `fleet status --json`

Every program has `autostart=false`: the listener starts the proxy and the servers after the gate. Text that supervisord's
format cannot carry is refused as `ConfigError`, never written in a way that means something else.
"""
