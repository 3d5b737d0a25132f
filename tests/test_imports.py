"""Imports point down: kinolex -> lm -> tokenizer -> data -> nothing of ours."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LAYERS = ["data", "tokenizer", "lm", "kinolex"]  # each may import itself and what stands before it


def imported_packages(source: str) -> set[str]:
    """Top-level names of every import in `source`, inside functions too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import: imports are absolute here"
            names.add((node.module or "").split(".")[0])
    return names


def upward_imports(layer: str, source: str) -> set[str]:
    return imported_packages(source) & set(LAYERS[LAYERS.index(layer) + 1 :])


@pytest.mark.parametrize("layer", LAYERS)
def test_imports_point_down(layer: str) -> None:
    files = [ROOT / "kinolex.py"] if layer == "kinolex" else sorted((ROOT / layer).rglob("*.py"))
    assert files
    for file in files:
        found = upward_imports(layer, file.read_text())
        assert not found, f"{file.relative_to(ROOT)} imports {found}, which stands above it"


def test_a_planted_upward_import_is_found() -> None:
    assert upward_imports("data", "def f():\n    import tokenizer.codec") == {"tokenizer"}


def test_model_code_loads_without_its_trainer() -> None:
    for name in ("tokenizer/codec.py", "tokenizer/metrics.py", "tokenizer/rate.py", "lm/model.py"):
        assert "lightning" not in imported_packages((ROOT / name).read_text()), name


def test_one_importer_of_vector_quantize_pytorch() -> None:
    importers = [
        file.relative_to(ROOT).as_posix()
        for layer in LAYERS[:3]
        for file in (ROOT / layer).rglob("*.py")
        if "vector_quantize_pytorch" in imported_packages(file.read_text())
    ]
    assert importers == ["tokenizer/quantizer/scalar.py"]


def test_data_is_not_ignored() -> None:
    lines = [line.strip() for line in (ROOT / ".gitignore").read_text().splitlines()]
    assert not {"data", "data/", "/data", "/data/"} & set(lines)
