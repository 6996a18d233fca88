"""ResourcePool and Rv1Pool, for schedulers (spec 07, 8.4)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flux.resource import InfeasibleRequest, InsufficientResources, ResourcePool, ResourceSet, Rv1Pool
from flux.scheduler import resolve_pool_class


def r(cores: str = "0-3", **execution: Any) -> dict[str, Any]:
    lite = [{"rank": "0-2", "children": {"core": cores}}]
    return {"version": 1, "execution": {"R_lite": lite, "nodelist": ["n[0-2]"], **execution}}


def jobspec(slots: Any, cores: int = 1, **system: Any) -> dict[str, Any]:
    resources = [{"type": "slot", "count": slots, "label": "task", "with": [{"type": "core", "count": cores}]}]
    return {"resources": resources, "attributes": {"system": system}}


def pool(**execution: Any) -> ResourcePool:
    return ResourcePool(r(**execution))


def alloc(pool: ResourcePool, jobid: int, *args: Any, **system: Any) -> ResourcePool:
    return pool.alloc(jobid, pool.parse_resource_request(jobspec(*args, **system)))


def test_an_allocation_is_r_of_a_job() -> None:
    resources = pool(properties={"fast": "1-2", "+here": "0"}, expiration=99.0)
    R = alloc(resources, 7, 6, 2)
    assert R.dumps() == "rank[0-2]/core[0-3]"
    execution = R.to_dict()["execution"]
    assert (execution["nslots"], execution["nodelist"], execution["expiration"]) == (6, ["n[0-2]"], 99.0)
    assert execution["properties"] == {"fast": "1-2"}
    assert execution["starttime"] > 0
    assert resources.copy_allocated().dumps() == R.dumps()
    assert resources.to_resource_set().dumps() == "rank[0-2]/core[0-3]"


def test_not_now_and_never_are_different() -> None:
    resources = pool()
    alloc(resources, 1, 12)
    with pytest.raises(InsufficientResources) as later:
        alloc(resources, 2, 1)
    with pytest.raises(InfeasibleRequest, match="need 13 slot") as never:
        alloc(resources, 2, 13)
    assert (later.value.errno, never.value.errno) == (None, None)
    assert ResourcePool.InfeasibleRequest is InfeasibleRequest
    with pytest.raises(ValueError, match="discrete valid values"):
        alloc(resources, 2, "1,5")


def test_jobs_end_and_give_back() -> None:
    resources = pool()
    alloc(resources, 1, 4, duration=60.0)
    alloc(resources, 2, 4, duration=30.0)
    alloc(resources, 3, 4)
    assert [jobid for jobid, _ in resources.job_end_times()] == [2, 1]
    resources.update_expiration(3, 1.0)
    assert resources.job_end_times()[0] == (3, 1.0)
    before = resources.generation
    resources.free(2)
    resources.free(2)  # it has nothing any more
    assert resources.generation == before + 1


def test_a_part_is_given_back_by_ranks_and_the_rest_must_be_the_rest() -> None:
    resources = pool()
    whole = ResourceSet(alloc(resources, 1, 12).to_dict())
    resources.free(1, whole.copy_ranks("0"))
    assert resources.copy_allocated().dumps() == "rank[1-2]/core[0-3]"
    with pytest.raises(ValueError, match=r"final R mismatch: got rank1/core\[0-3\], expected rank\[1-2\]/core\[0-3\]"):
        resources.free(1, whole.copy_ranks("1"), final=True)
    with pytest.raises(ValueError, match=r"R contains ranks not in job allocation: \{0\}"):
        resources.free(1, whole.copy_ranks("0"), final=True)
    resources.free(1, whole.copy_ranks("1-2"), final=True)
    assert resources.copy_allocated().nnodes == 0


def test_ranks_that_are_down_are_not_given() -> None:
    resources = pool()
    resources.mark_down("all")
    with pytest.raises(InsufficientResources):
        alloc(resources, 1, 1)
    resources.mark_up("1-2")
    assert resources.copy_down().dumps() == "rank0/core[0-3]"
    assert alloc(resources, 1, 1).dumps() == "rank1/core0"


def test_a_job_that_has_resources_is_taken_in() -> None:
    resources = pool()
    resources.register_alloc(1, ResourceSet(r(cores="0-1", expiration=50.0)))
    assert resources.job_end_times() == [(1, 50.0)]
    with pytest.raises(ValueError, match=r"ranks not in resource pool: \[7\]"):
        resources.register_alloc(2, {"version": 1, "execution": {"R_lite": [{"rank": "7", "children": {"core": "0"}}]}})
    with pytest.raises(ValueError, match="not free"):
        resources.register_alloc(2, r())


def test_a_copy_is_to_try_things_out_with() -> None:
    resources = pool()
    alloc(resources, 1, 4)
    trial = resources.copy()
    alloc(trial, 2, 8)
    trial.free(1)
    assert resources.copy_allocated().ncores == 4
    assert trial.copy_allocated().ncores == 8


def test_constraints_choose_ranks() -> None:
    resources = pool(properties={"fast": "2"})
    assert alloc(resources, 1, 1, constraints={"properties": ["fast"]}).dumps() == "rank2/core0"
    with pytest.raises(InfeasibleRequest):
        alloc(resources, 2, 1, constraints={"properties": ["no"]})


def test_ranks_that_are_gone_are_gone() -> None:
    resources = pool()
    alloc(resources, 1, 12)
    resources.remove_ranks("1-2")
    resources.free(1, r(), final=True)
    assert resources.dumps() == "rank0/core[0-3]"
    assert alloc(resources, 2, 4).dumps() == "rank0/core[0-3]"


class HighestFirst(Rv1Pool):
    """Another order."""

    def _sort_candidates(self, candidates: list[int], request: Any) -> list[int]:
        return sorted(candidates, reverse=True)


def test_a_subclass_puts_ranks_in_another_order() -> None:
    resources = ResourcePool(HighestFirst(r()))
    assert alloc(resources, 1, 1).dumps() == "rank2/core0"
    assert alloc(resources, 2, 2, 3).dumps() == "rank1/core[0-2] rank2/core[1-3]"


class Racks(Rv1Pool):
    """Jobs stay in a rack, as in the guide of flux-core."""

    racks = ({0, 1}, {2})

    def _select_resources(self, candidates: list[Any], request: Any) -> Any:
        assert [len(free) for _, _, free, _ in candidates] == sorted((len(c[2]) for c in candidates), reverse=True)
        for rack in self.racks:
            try:
                return super()._select_resources([entry for entry in candidates if entry[0] in rack], request)
            except InsufficientResources:
                continue
        raise InsufficientResources("no single rack has sufficient resources")

    def _check_feasibility(self, request: Any) -> None:
        super()._check_feasibility(request)
        if request.nnodes > max(len(rack & set(self._ranks)) for rack in self.racks):
            raise InfeasibleRequest("no rack is as large")


def test_a_subclass_selects_from_some_of_the_candidates() -> None:
    resources = ResourcePool(Racks(r()))
    assert alloc(resources, 1, 6).dumps() == "rank0/core[0-3] rank1/core[0-1]"
    assert alloc(resources, 2, 3).dumps() == "rank2/core[0-2]"
    with pytest.raises(InsufficientResources, match="no single rack"):
        alloc(resources, 3, 3)
    three = jobspec(1)
    three["resources"] = [{"type": "node", "count": 3, "with": three["resources"]}]
    with pytest.raises(InfeasibleRequest, match="no rack is as large"):
        resources.alloc(4, resources.parse_resource_request(three))


def test_a_pool_class_may_be_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "RackPool.py"
    file.write_text("class RackPool: pass\nclass Other: pass\n")
    assert resolve_pool_class(f"file://{file}").__name__ == "RackPool"
    assert resolve_pool_class(f"file://{file}#Other").__name__ == "Other"
    for wrong in (f"file://{file}#Nope", "file:///nosuch.py"):
        with pytest.raises(ValueError, match="there is no pool class"):
            resolve_pool_class(wrong)


def test_what_is_no_pool() -> None:
    for bad, error in [({}, KeyError), ({"version": 2}, ValueError), (7, TypeError), ("[]", TypeError)]:
        with pytest.raises(error):
            ResourcePool(bad)
    with pytest.raises(TypeError, match="unknown option of a Rv1Pool: colour"):
        ResourcePool(r(), colour="red")
    assert ResourcePool(json.dumps(r())).dumps() == "rank[0-2]/core[0-3]"
    assert ResourcePool(r(), placement="first").dumps() == "rank[0-2]/core[0-3]"


def test_pool_classes_have_names() -> None:
    assert resolve_pool_class("Rv1Pool") is Rv1Pool
    assert resolve_pool_class("flux.resource.Rv1Pool:Rv1Pool") is Rv1Pool
    with pytest.raises(ValueError, match="no pool class 'nosuch'"):
        resolve_pool_class("nosuch")
