"""What commands say where there is no instance, against what the reference printed (spec 08, 5.2)."""

from __future__ import annotations

from pathlib import Path

import pytest
from goldens import Golden, Player, goldens

#: We say what can be done about it.
HINT = "no Flux instance was found: run this program under `flux start`, or set FLUX_URI to an instance's URI"
HINTED = {"env -u FLUX_URI flux job last": "flux-job", "env -u FLUX_URI flux getattr size": "flux"}


@pytest.mark.parametrize("golden", [*goldens("cli-noconn")], ids=lambda golden: golden.command)
def test_it_prints_what_the_reference_does(golden: Golden, tmp_path: Path) -> None:
    if golden.command in HINTED:
        golden = golden._replace(stderr=(*golden.stderr, f"{HINTED[golden.command]}: {HINT}"))
    # Nobody will come: not to be waited for.
    player = Player("local:///tmp/nosuch", tmp_path, {"FLUX_LOCAL_CONNECTOR_RETRY_COUNT": "0"})
    assert player.differences(golden) == []
