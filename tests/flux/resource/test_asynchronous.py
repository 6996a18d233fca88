"""Resources under asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

import flux.aio


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(main, 30.0))


def test_lists_status_and_changes(instance_uri: str) -> None:
    async def main() -> None:
        async with flux.aio.connect(instance_uri) as h:
            assert str((await h.resource.list()).up.ranks) == "0"
            await h.resource.drain("0", "to see")
            with pytest.raises(FileExistsError, match="rank 0 already drained"):
                await h.resource.drain("0", "again")
            await h.resource.drain("0", "again", mode="overwrite")
            info = (await h.resource.status()).get_drain_info(0)
            assert info is not None
            assert info.reason == "again"
            await h.resource.undrain("0", "seen")
            assert (await h.resource.status()).drained.count() == 0

    run(main())


def test_events_of_before_and_of_now(instance_uri: str) -> None:
    async def main() -> None:
        async with flux.aio.connect(instance_uri) as h:
            before = [event.name async for event in h.resource.events(follow=False)]
            assert before[0] == "restart"
            seen: list[str] = []
            async for event in h.resource.events():
                seen.append(event.name)
                if len(seen) == len(before):
                    await h.resource.drain("0")
                    await h.resource.undrain("0")
                if seen[len(before) :] == ["drain", "undrain"]:
                    break

    run(main())
