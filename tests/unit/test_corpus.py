"""What was decided stays decided: recorded logs of this release and of earlier ones are verified and restored."""

from __future__ import annotations

from pathlib import Path

import pytest

from placet.processors.ladder import LADDER, LADDERS
from placet.schemas.errors import SettingsError
from tests.corpus.check import state_digest, verified
from tests.corpus.record import ALL
from tests.corpus.recording import Recording

CORPUS = sorted((Path(__file__).parents[1] / "corpus").glob("*.jsonl.gz"))


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.name.removesuffix(".jsonl.gz"))
def test_a_recorded_log_is_verified_and_restored_as_it_was(path: Path) -> None:
    recording = Recording.read(path)
    assert path.name.startswith(f"ladder-{recording.ladder}.")
    for partition in range(recording.partitions):
        assert state_digest(recording, partition) == recording.states[partition]
        if recording.ladder not in LADDERS:
            with pytest.raises(SettingsError, match="Verify with the release that decided it"):
                verified(recording, partition)
            continue
        report = verified(recording, partition)
        assert not report.findings, [str(finding) for finding in report.findings]
        assert report.inputs


def test_this_release_has_its_recordings() -> None:
    """A new ladder, contract or header asks for new ones: `python -m tests.corpus.record`."""
    assert [path.name for path in CORPUS if path.name.startswith(f"ladder-{LADDER}.")] == [
        f"ladder-{LADDER}.{name}.jsonl.gz" for name in ALL
    ]
