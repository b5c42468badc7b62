from pathlib import Path

import pytest
from stand_in import StandIn, order

from promptgraft.study.engines.base import ENGINES, Resources
from promptgraft.study.trial import Outcome


def test_trials_run_on_all_nodes_of_a_cluster_and_on_the_rest_when_one_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    node = {"num_cpus": 2, "include_dashboard": False, "object_store_memory": 100 << 20}
    cluster = Cluster(initialize_head=True, head_node_args=node)
    try:
        other = cluster.add_node(**node)
        cluster.wait_for_nodes()
        engine = ENGINES["ray"](Resources(jobs=2, address=cluster.address), make_worker=StandIn)
        a, b = str(tmp_path / "a"), str(tmp_path / "b")
        with engine:
            engine.submit(order("meet", mine=a, other=b), {})
            engine.submit(order("meet", mine=b, other=a), {})
            made = [*engine.wait(), *engine.wait()]
            engine.submit(order("add", n=1, pause=2), {})
            engine.submit(order("add", n=2, pause=2), {})
            cluster.remove_node(other, allow_graceful=False)
            rest = [*engine.wait(), *engine.wait()]
        outcomes = [outcome for _, outcome in made if isinstance(outcome, Outcome)]
        assert len({outcome.result["parent"] for outcome in outcomes}) == 2  # a node's raylet starts its workers
        assert {outcome.result["sum"] for _, outcome in rest if isinstance(outcome, Outcome)} == {1, 2}
    finally:
        cluster.shutdown()
