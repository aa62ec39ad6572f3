import pytest


@pytest.fixture(autouse=True)
def isolated(tmp_path_factory, monkeypatch):
    """A home of its own, and nothing inherited that a test could depend on."""
    monkeypatch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
    for name in ("PYTHONPATH", "KUBERNETES_SERVICE_HOST", "SLURM_JOB_ID", "LSB_JOBID", "PBS_JOBID"):
        monkeypatch.delenv(name, raising=False)
