"""4: who may do what, read from the source."""

import ast
from pathlib import Path

import skuld_async

PACKAGE = Path(skuld_async.__file__).parent
STEPS = {"asend", "athrow", "aclose", "send", "throw"}


def mentions(tree: ast.AST) -> set[str]:
    """Names of *tree* that step a generator or a coroutine."""
    found = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    found |= {
        str(node.args[1].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "getattr"
        and isinstance(node.args[1], ast.Constant)
    }
    return found & STEPS


def test_frames_alone_step_generators() -> None:
    """4 `_frames.py` is the only file that calls asend / athrow / aclose / send / throw."""
    files = sorted(PACKAGE.rglob("*.py"))
    stepping = {
        str(file.relative_to(PACKAGE)) for file in files if mentions(ast.parse(file.read_text(encoding="utf-8")))
    }
    assert stepping == {"_frames.py"}
