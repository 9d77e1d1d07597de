"""Runs on a Ray cluster."""

import pytest
import torch

from adai.lab.queue.compare import compare
from adai.lab.results.folders import RunFolder
from tests.untimed import alike

pytestmark = pytest.mark.slow


def test_a_node_that_dies_costs_nothing(tmp_path):
    """Two nodes of a Ray cluster; one is killed while a run is under way on it."""
    cluster_utils, on_ray = pytest.importorskip("ray.cluster_utils"), pytest.importorskip("adai.lab.queue.on_ray")
    options = {"optimizers": ["adai", "sgd"], "seeds": 1, "epochs": 4}
    expected, folder = RunFolder(tmp_path / "expected"), RunFolder(tmp_path / "runs")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    compare(expected, **options)
    torch.set_num_threads(threads)

    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    node = cluster.add_node(num_cpus=1)
    killed = []

    def kill_one(jobs):
        if not killed and any(job.run.rows() for job in jobs):
            cluster.remove_node(node, allow_graceful=False)
            killed.append(node)

    try:
        assert compare(folder, **options, execute=on_ray.OnRay(cluster.address), watch=kill_one) == []
    finally:
        cluster.shutdown()
    assert killed
    assert alike(expected, folder, ["adai", "sgd"], 1)
