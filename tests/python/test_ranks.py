# SPDX-License-Identifier: MIT
import pytest
from seqfeed import _attach, _ranks


@pytest.mark.parametrize("arguments, environment, place", [
    ({}, {}, (0, 1, 1)),
    ({"rank": 2, "world": 4}, {}, (2, 4, 1)),
    ({}, {"RANK": "3", "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4"}, (3, 8, 4)),
    ({}, {"RANK": "3", "WORLD_SIZE": "8"}, (3, 8, 1)),
    ({"rank": 1, "world": 2}, {"RANK": "3", "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4"}, (1, 2, 1)),
    ({"rank": 1, "world": 8}, {"RANK": "3", "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4"}, (1, 8, 4)),
    ({}, {"SLURM_PROCID": "5", "SLURM_NTASKS": "7", "SLURM_NODEID": "2",
          "SLURM_STEP_TASKS_PER_NODE": "2(x2),3"}, (5, 7, 3)),
    ({}, {"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2",
          "OMPI_COMM_WORLD_LOCAL_SIZE": "2"}, (1, 2, 2)),
    ({}, {"RANK": "0", "WORLD_SIZE": "2", "SLURM_PROCID": "5", "SLURM_NTASKS": "7"}, (0, 2, 1)),
])
def test_the_place_of_a_process(arguments, environment, place):
    assert _ranks.place(**arguments, environment=environment) == place


@pytest.mark.parametrize("arguments, environment, said", [
    ({"rank": 1}, {}, "both or neither"),
    ({"rank": 2, "world": 2}, {}, "rank 2 is not one of 2"),
    ({"rank": 0, "world": 2, "local": 3}, {}, "local_world_size 3"),
    ({}, {"RANK": "x", "WORLD_SIZE": "2"}, "RANK='x' is no number"),
    ({}, {"WORLD_SIZE": "2"}, "WORLD_SIZE=2 without RANK"),
])
def test_places_that_cannot_be(arguments, environment, said):
    with pytest.raises(ValueError, match=said):
        _ranks.place(**arguments, environment=environment)


@pytest.mark.parametrize("environment, name", [
    ({}, None),
    ({"TORCHELASTIC_RUN_ID": "none", "MASTER_ADDR": "a", "MASTER_PORT": "1"}, "a:1"),
    ({"TORCHELASTIC_RUN_ID": "run", "SLURM_JOB_ID": "1", "SLURM_STEP_ID": "0"}, "run"),
    ({"SLURM_JOB_ID": "1", "SLURM_STEP_ID": "0"}, "1.0"),
    ({"SLURM_JOB_ID": "1"}, None),
    ({"PMIX_NAMESPACE": "p"}, "p"),
])
def test_the_name_of_a_job(environment, name):
    assert _ranks.job(environment) == name


def test_seats_need_a_name(monkeypatch):
    two = _ranks.Place(0, 2, 2)
    assert _attach._group(None, None, None, two, "start") == (None, 1, 1)
    with pytest.raises(ValueError, match="give group="):
        _attach._group(None, None, 2, two, "start")
    with pytest.raises(ValueError, match="group without members"):
        _attach._group("g", None, None, two, "start")
    assert _attach._group("g", 3, None, two, "start") == ("g", 2, 3)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "job")
    assert _attach._group(None, None, None, two, "start") == ("job", 2, 1)
