"""A node or a whole cluster that is stopped in order: no task pays for it."""

from tests.e2e.cluster import PATIENCE_S, notes
from tests.e2e.conftest import MakeCluster
from tests.support import wait_until_true


def test_a_long_task_outlives_any_number_of_stops(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(1)
    with cluster.session("Gated", common_data=str(cluster.directory).encode()) as session:
        future = session.run(b"long")
        for stops in range(1, 6):
            wait_until_true(lambda: len(notes(cluster.directory, "begin")) >= stops, PATIENCE_S)  # noqa: B023
            assert cluster.stop("n1") == 0
            if stops % 2:
                assert cluster.stop("session-manager") == 0
                cluster.start_session_manager()
            cluster.restart_node("n1")
        (cluster.directory / "long.go").touch()
        assert future.result(PATIENCE_S)
