"""Real models: probes run on them, and they agree with themselves."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fcc.frontend import read
from fcc.parity import Judge

ZOO = Path(os.environ.get("FCC_ZOO", Path(__file__).parents[3] / "shared"))
MODELS = sorted((ZOO / "models").glob("*.onnx"))
pytestmark = [pytest.mark.zoo, pytest.mark.skipif(not MODELS, reason="no real models (FCC_ZOO)")]


@pytest.mark.parametrize("path", MODELS, ids=lambda p: p.stem)
def test_source_agrees_with_itself(path: Path) -> None:
    verdict = Judge.of(read(str(path))).judge(path)
    assert verdict.ran
    assert verdict.ok
    assert verdict.feeds >= 3
    assert verdict.limit == 1e-4


def test_chained_frames(tmp_path: Path) -> None:
    path = ZOO / "models" / "silero_vad.onnx"
    subprocess.run(
        [sys.executable, ZOO / "tools" / "feeds.py", "silero_vad", tmp_path], check=True, capture_output=True
    )
    verdict = Judge.of(read(str(path)), data=tmp_path, state={"stateN": "state"}, samples=50).judge(path)
    assert verdict.ok
    assert verdict.feeds == 50
