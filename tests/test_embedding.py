"""The page for embedders: its C++ compiles."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
COMPILER = shutil.which(os.environ.get("CXX", "c++"))


@pytest.mark.skipif(COMPILER is None, reason="needs a C++ compiler")
def test_the_cpp_of_the_page_compiles(tmp_path: Path) -> None:
    blocks = re.findall(r"```cpp\n(.*?)```", (ROOT / "docs" / "embedding.md").read_text(), re.DOTALL)
    assert blocks
    for number, block in enumerate(blocks):
        source = tmp_path / f"block_{number}.cpp"
        source.write_text(block)
        flags = ["-std=c++20", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", f"-I{ROOT / 'cpp' / 'include'}"]
        done = subprocess.run([str(COMPILER), *flags, str(source)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
