"""The page's files, without a browser."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

import serving.page
from serving.page import page_files, router

ROOT = Path(serving.page.__file__).parent


@pytest.fixture(scope="module")
def client() -> TestClient:
    app = FastAPI()
    app.include_router(router)
    return TestClient(app)


def test_the_page_and_all_that_it_names_are_sent(client: TestClient) -> None:
    index = client.get("/")
    assert index.headers["content-type"] == "text/html; charset=utf-8"
    named = re.findall(r'(?:href|src)="((?:css|js|icon)[^"#]+)"', index.text)
    assert len(named) >= 5
    assert {client.get(f"/{path}").status_code for path in named} == {200}
    for name, (data, _, _) in page_files().items():
        for module in re.findall(r'from "\./([^"]+)"', data.decode()):
            assert f"js/{module}" in page_files(), f"{name} imports {module}"


def test_unchanged_files_are_not_sent_again(client: TestClient) -> None:
    first = client.get("/js/main.js")
    again = client.get("/js/main.js", headers={"If-None-Match": first.headers["etag"]})
    assert (first.headers["content-type"], again.status_code) == (
        "text/javascript; charset=utf-8",
        304,
    )
    assert again.content == b""


@pytest.mark.parametrize(
    "name",
    ["__init__.py", "js", "js/", "js/none.js", "js/..%2f__init__.py", "css/%2e%2e%2findex.html"],
)
def test_nothing_else_is_sent(client: TestClient, name: str) -> None:
    assert client.get(f"/{name}").status_code == 404


def test_no_inline_script_or_style() -> None:
    text = page_files()["index.html"][0].decode()
    assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:", text)
    assert re.findall(r"<script([^>]*)>(.*?)</script>", text, re.DOTALL) == [
        (' type="module" src="js/main.js"', "")
    ]


def test_text_never_becomes_markup_or_code() -> None:
    markup = re.compile(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|\beval\(|new Function"
        r"|localStorage|setAttribute\(\"style"
    )
    for name, (data, _, _) in page_files().items():
        assert not markup.search(data.decode()), name


def test_the_package_carries_every_file() -> None:
    given = tomllib.loads((ROOT.parents[1] / "pyproject.toml").read_text())
    patterns = given["tool"]["setuptools"]["package-data"]["serving.page"]
    carried = {p.relative_to(ROOT).as_posix() for glob in patterns for p in ROOT.glob(glob)}
    assert carried == set(page_files())
