"""What the soak breaks on purpose still fits the code."""

from __future__ import annotations

import ast

import pytest

from local.aws.ministack import ROOT
from local.soak.breaks import BREAKS


@pytest.mark.parametrize("name", BREAKS)
def test_a_break_fits_the_code_and_leaves_it_valid(name: str) -> None:
    chosen = BREAKS[name]
    text = (ROOT / chosen.path).read_text(encoding="utf-8")
    assert text.count(chosen.old) == 1
    broken = text.replace(chosen.old, chosen.new)
    assert ast.dump(ast.parse(broken)) != ast.dump(ast.parse(text))
