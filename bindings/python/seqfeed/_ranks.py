# SPDX-License-Identifier: MIT
"""Which rank of how many this process is, and which job it belongs to, as launchers tell it."""
from __future__ import annotations

import os
import re
from typing import Mapping, NamedTuple, Optional


class Place(NamedTuple):
    rank: int
    world: int
    local: int  # ranks of this machine


def _number(environment: Mapping[str, str], name: str) -> Optional[int]:
    text = environment.get(name, "").strip()
    if not text:
        return None
    if not text.isdigit():
        raise ValueError(f"{name}={text!r} is no number")
    return int(text)


def slurm_tasks(text: str, node: int) -> int:
    """The entry of a list such as 4(x2),3 for one node."""
    counts: list[int] = []
    for word in text.split(","):
        match = re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", word.strip())
        if not match:
            raise ValueError(f"SLURM_STEP_TASKS_PER_NODE={text!r} is no list of counts")
        counts += [int(match.group(1))] * int(match.group(2) or 1)
        if node < len(counts):
            return counts[node]
    raise ValueError(f"SLURM_STEP_TASKS_PER_NODE={text!r} has no entry for node {node}")


def launched(environment: Mapping[str, str]) -> Optional[Place]:
    """What the launcher says, or None where there is none."""
    for names in (("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"),
                  ("SLURM_PROCID", "SLURM_NTASKS", None),
                  ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_SIZE")):
        rank, world = _number(environment, names[0]), _number(environment, names[1])
        if rank is None or world is None:
            continue
        if names[2] is not None:
            local = _number(environment, names[2])
        elif "SLURM_STEP_TASKS_PER_NODE" in environment:
            local = slurm_tasks(environment["SLURM_STEP_TASKS_PER_NODE"],
                                _number(environment, "SLURM_NODEID") or 0)
        else:
            local = None
        return Place(rank, world, local or 1)
    return None


def place(rank: Optional[int] = None, world: Optional[int] = None, local: Optional[int] = None,
          environment: Mapping[str, str] = os.environ) -> Place:
    """The arguments, else what the launcher says, else the only rank there is."""
    if (rank is None) != (world is None):
        raise ValueError("rank and world_size: give both or neither")
    told = launched(environment)
    if rank is None and told is None and (_number(environment, "WORLD_SIZE") or 1) > 1:
        raise ValueError(f"WORLD_SIZE={environment['WORLD_SIZE']} without RANK: which rank is this? Give "
                         "rank= and world_size=, or attach once torch.distributed is initialised")
    if rank is None or world is None:
        rank, world = (told.rank, told.world) if told else (0, 1)
    if local is None:
        local = told.local if told and told.world == world else 1
    if world < 1 or not 0 <= rank < world:
        raise ValueError(f"rank {rank} is not one of {world} ranks")
    if not 1 <= local <= world:
        raise ValueError(f"local_world_size {local} is not in 1 to {world}")
    return Place(rank, world, local)


def job(environment: Mapping[str, str] = os.environ) -> Optional[str]:
    """A name that all processes of this job share and no other job has."""
    name = environment.get("TORCHELASTIC_RUN_ID", "")
    if name and name != "none":
        return name
    if environment.get("SLURM_JOB_ID") and environment.get("SLURM_STEP_ID"):
        return f"{environment['SLURM_JOB_ID']}.{environment['SLURM_STEP_ID']}"
    if environment.get("PMIX_NAMESPACE"):
        return environment["PMIX_NAMESPACE"]
    if environment.get("MASTER_ADDR") and environment.get("MASTER_PORT"):
        return f"{environment['MASTER_ADDR']}:{environment['MASTER_PORT']}"
    return None
