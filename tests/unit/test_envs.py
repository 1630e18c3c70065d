"""The environments agree with each other and with pyproject.toml, however they are made."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

NAMES = ("driver", "train", "dev")


@pytest.fixture
def project(repository: Path) -> dict[str, Any]:
    return tomllib.loads((repository / "pyproject.toml").read_text())["project"]


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def locked(repository: Path, name: str) -> dict[str, str]:
    lines = (repository / f"envs/{name}.lock.txt").read_text().splitlines()
    pins = (line.split("==") for line in lines if not line.startswith("#"))
    return {canonical(package): version for package, version in pins}


def test_what_environments_have_in_common_has_one_version(repository):
    driver, train, dev = (locked(repository, name) for name in NAMES)
    assert driver.items() <= train.items() <= dev.items()


def test_the_driver_has_slurm_and_no_torch(repository):
    driver = locked(repository, "driver")
    assert not {"torch", "transformers", "accelerate"} & driver.keys()
    assert driver["snakemake-executor-plugin-slurm"].startswith("2.")
    assert locked(repository, "train")["torch"] == "2.13.0"  # without its build


@pytest.mark.parametrize("name", NAMES)
def test_locks_hold_all_that_is_asked_for(repository, project, name):
    extras = {"driver": (), "train": ("train",), "dev": ("train", "dev")}[name]
    wanted = list(project["dependencies"])
    wanted += [text for extra in extras for text in project["optional-dependencies"][extra]]
    pins = locked(repository, name)
    for requirement in map(Requirement, wanted):
        assert pins[canonical(requirement.name)] in requirement.specifier, requirement


@pytest.mark.parametrize("name", ["driver", "train"])
def test_conda_brings_python_only(repository, project, name):
    content = yaml.safe_load((repository / f"envs/{name}.yaml").read_text())
    python, pip, libraries = content["dependencies"]
    assert pip == "pip"
    assert f"{python.removeprefix('python=')}.0" in SpecifierSet(project["requires-python"])
    assert libraries == {"pip": [f"-r {name}.lock.txt", "--editable .."]}


def test_the_image_has_the_lock_and_no_code(repository):
    text = (repository / "envs/train.def").read_text()
    files = re.search(r"^%files\n((?:    .*\n)+)", text, re.MULTILINE)[1].split()
    assert files == ["envs/train.lock.txt", "/opt/train.lock.txt"]
    assert "pip install --no-cache-dir --disable-pip-version-check -r /opt/train.lock.txt" in text
    # Debian 12 has Python 3.11.
    assert "From: debian:bookworm-slim" in text
