"""What health and metrics say of a background job that cannot do its work, and that it comes back."""

from tests.fixtures_postgres import OWNER, Database, execute, run_apart
from tests.sidecar import Sidecar, http, wait_for


def test_a_job_that_ends_is_in_health_and_metrics_and_comes_back(tmp_path, database: Database) -> None:
    """The proxy's role may not prune nonces: no reason to refuse calls, and none to say nothing."""
    run_apart(execute(database.dsn(OWNER), "revoke delete on proxy_nonces from postern_proxy"))
    sidecar = Sidecar(tmp_path / "s", database.dsn("postern_proxy"), {})
    try:
        sidecar.start_proxy()

        def metrics() -> str:
            return http("GET", f"{sidecar.url}/metrics").body.decode()

        def unwell() -> list[str]:
            answer = http("GET", f"{sidecar.url}/readyz")
            assert answer.status == 200
            return answer.json()["unwell"]

        wait_for(lambda: unwell() == ["nonces"], "health names it")
        assert 'postern_background_healthy{job="nonces"} 0' in metrics()
        assert 'postern_background_healthy{job="sessions"} 1' in metrics()
        assert 'postern_background_ended_total{job="sessions"} 0' in metrics()
        log = sidecar.log("proxy")
        assert "the background job 'nonces' has ended" in log
        assert "permission denied for table proxy_nonces" in log
        run_apart(execute(database.dsn(OWNER), "grant delete on proxy_nonces to postern_proxy"))
        wait_for(lambda: unwell() == [], "it is well again")
        assert 'postern_background_healthy{job="nonces"} 1' in metrics()
    finally:
        sidecar.stop()
