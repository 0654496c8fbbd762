import ast
from pathlib import Path

import stream.pipeline.pipeline


def imported(module: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
    return names


def test_no_module_reads_a_clock_but_the_one_of_retries():
    modules = list(Path(stream.pipeline.pipeline.__file__).parent.glob("*.py"))
    assert len(modules) > 20
    readers = {each.name for each in modules if imported(each) & {"time", "datetime"}}
    # A failed model is tried again after some real time; no event's result depends on it.
    assert readers == {"fallback.py"}
