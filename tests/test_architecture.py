"""The lines between the apps hold."""

import ast
import subprocess
import sys
from pathlib import Path

from django.apps import apps
from django.core.management import get_commands, load_command_class
from django.db.models import ForeignKey, ManyToManyField

from config.devstack.places import REPOSITORY

LAYERS = ["audit", "tools", "approvals", "agents", "config"]  # the lowest first
MAX_LINES = 500


def modules() -> list[Path]:
    return [
        path
        for app in LAYERS
        for path in sorted((REPOSITORY / app).rglob("*.py"))
        if "migrations" not in path.parts and "__pycache__" not in path.parts
    ]


def test_imports_point_down_only() -> None:
    program = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_foreign_keys_point_down_only() -> None:
    upward = []
    for model in apps.get_models():
        app = model._meta.app_label
        if app not in LAYERS:
            continue
        for field in model._meta.get_fields():
            if not isinstance(field, ForeignKey | ManyToManyField):
                continue
            target = field.related_model._meta.app_label
            if target in LAYERS and LAYERS.index(target) > LAYERS.index(app):
                upward.append(f"{model._meta.label}.{field.name} -> {target}")
    assert not upward


def test_modules_stay_short() -> None:
    lines = {
        str(path.relative_to(REPOSITORY)): len(path.read_text(encoding="utf-8").splitlines()) for path in modules()
    }
    assert not {name: count for name, count in lines.items() if count > MAX_LINES}


def test_nothing_is_called_common_or_utils() -> None:
    vague = {"common", "utils", "helpers", "misc"}
    assert not [path for path in modules() if vague & {*path.parts, path.stem}]


def test_every_command_of_ours_says_what_it_does() -> None:
    silent = []
    for name, app in get_commands().items():
        if app in LAYERS and not load_command_class(str(app), name).help:
            silent.append(name)
    assert not silent


def test_every_public_function_says_what_it_gives() -> None:
    """By a docstring or a return type."""
    bare = []
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or node.name.startswith("_"):
                continue
            if ast.get_docstring(node) is None and node.returns is None:
                bare.append(f"{path.relative_to(REPOSITORY)}:{node.lineno} {node.name}")
    assert not bare


def test_no_shell_and_no_pickle() -> None:
    """Commands are lists; nothing is unpickled, evaluated or run through a shell of ours."""
    found = []
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.keyword) and node.arg == "shell" and getattr(node.value, "value", None) is True:
                found.append(f"{path}:{node.value.lineno}")
            if isinstance(node, ast.Import | ast.ImportFrom) and any(alias.name == "pickle" for alias in node.names):
                found.append(f"{path}:{node.lineno}")
    assert not found
