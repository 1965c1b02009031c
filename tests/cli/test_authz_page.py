"""The page on asking who may do what: its commands say what it shows, and so does the README."""

from __future__ import annotations

import re
from pathlib import Path

from support.pages import ROOT, Folder, Page

PAGE = Page(ROOT / "docs" / "how-to" / "ask-who-may-do-what.md")
README = Page(ROOT / "README.md")


def test_its_commands_say_what_it_shows(tmp_path: Path) -> None:
    folder = Folder(tmp_path, {"1": 1})
    said, compared = "", 0
    blocks = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE.text, re.MULTILINE | re.DOTALL)
    for kind, body in blocks:
        if kind == "sh":
            said = folder.run(body)
        else:
            assert said == body
            compared += 1
    assert compared == 2


def test_the_readme_shows_the_four_answers() -> None:
    (answers,) = [body for body in PAGE.blocks("text") if body.startswith("allow")]
    assert len(answers.splitlines()) == 4
    assert README.block("", "allow  agent/alice") == answers
