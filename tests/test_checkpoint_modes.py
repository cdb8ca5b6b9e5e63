"""The mode of a checkpoint's file while it is being written."""

import os

import numpy as np
import pytest

from wyrm.checkpoints import files
from wyrm.checkpoints.files import write_file

pytestmark = pytest.mark.skipif(not hasattr(os, "fchmod"), reason="files have no modes here")


def test_nobody_reads_a_file_before_it_has_the_mode_of_the_one_before(tmp_path, monkeypatch):
    """What replaces a private file is private from the beginning."""
    path, modes = tmp_path / "m", []
    write_file(path, {"a": np.zeros(1, np.float32)}, {})
    path.chmod(0o640)
    make_alike = files._make_alike

    def watched(descriptor, replaced):
        modes.append(os.fstat(descriptor).st_mode & 0o777)
        make_alike(descriptor, replaced)

    monkeypatch.setattr(files, "_make_alike", watched)
    write_file(path, {"a": np.zeros(1, np.float32)}, {})
    assert modes == [0o600] and path.stat().st_mode & 0o777 == 0o640
