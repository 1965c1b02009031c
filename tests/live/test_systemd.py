"""The units under a real systemd: a Debian is booted twice, with a CA and a sidecar from the wheel.

The steps are in `support/machine/steps.py`; here is what each must have found.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.debian import needs
from support.nspawn import PAGE, STEPS, Machine
from support.pages import Page

pytestmark = [needs("systemd-nspawn", "debootstrap"), pytest.mark.timeout(900)]

HELLO = {"status": 200, "text": "hello\n", "reason": ""}

Boots = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def boots(debian: Path, wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Boots]:
    with Machine(debian, wheel, tmp_path_factory.mktemp("machine")) as machine:
        yield {name: machine.boot(name) for name in ("first", "second")}


def found(boots: Boots, step: str, boot: str = "first") -> Any:
    facts = boots[boot][step]
    assert "failed" not in facts, facts["failed"]
    return facts


def is_up(unit: dict[str, str]) -> bool:
    return (unit["ActiveState"], unit["SubState"]) == ("active", "running")


def test_every_command_of_the_page_is_one_of_the_steps() -> None:
    """The blocks that are marked `bash` are run inside of the machine, each by its beginning."""
    steps = (STEPS / "steps.py").read_text()
    begun = re.findall(r'told\("(.+?)"\)', steps)
    blocks = Page(PAGE).blocks("bash")
    assert [sum(block.startswith(one) for one in begun) for block in blocks] == [1] * len(blocks)


def test_the_ca_is_a_service_of_a_user_that_is_nobody_else(boots: Boots) -> None:
    facts = found(boots, "a_ca_is_made_and_started")
    assert is_up(facts["unit"])
    assert facts["unit"]["StatusText"] == "answering on https://0.0.0.0:8444"
    assert int(facts["unit"]["UID"]) > 1000
    assert facts["files"]["."] == ["0o700", False]
    assert facts["files"]["intermediate_key.pem"] == ["0o600", False], "root's no more"


def test_a_sidecar_joins_with_the_token_that_its_unit_lends_it(boots: Boots) -> None:
    facts = found(boots, "a_sidecar_joins_with_a_token_and_is_started")
    assert is_up(facts["unit"])
    assert facts["unit"]["StatusText"] == "ready, 1 inbound, certificate for 60 min"
    assert facts["files"]["."] == ["0o700", False]
    assert facts["files"]["certs/mcp/files/svid_key.pem"] == ["0o600", False]
    assert json.loads(facts["log"])["chain"] == "whole"


def test_the_token_stands_neither_in_the_journal_nor_in_the_environment(boots: Boots) -> None:
    facts = found(boots, "a_sidecar_joins_with_a_token_and_is_started")
    assert facts["token in the journal or the unit"] is False
    assert "CREDENTIALS_DIRECTORY=" in facts["environment"]
    assert facts["token in the environment"] is False


def test_a_call_goes_through(boots: Boots) -> None:
    assert found(boots, "a_call_goes_through") == HELLO


def test_an_administrator_checks_it_from_outside_by_its_file_alone(boots: Boots) -> None:
    facts = found(boots, "it_is_checked_from_outside")
    assert facts["code"] == 0
    ticks = {one["name"] for one in facts["outcomes"] if one["ok"]}
    assert {"identity", "expiry", "port", "ready", "certificate", "last metre"} <= ticks


def test_a_reload_takes_new_rules_in_the_same_process(boots: Boots) -> None:
    facts = found(boots, "it_is_reloaded")
    assert facts["refused"]["status"] == 403
    assert facts["called"]["status"] == 200
    assert is_up(facts["after"])
    assert facts["after"]["MainPID"] == facts["before"]["MainPID"]


def test_a_bad_configuration_is_told_and_changes_nothing(boots: Boots) -> None:
    facts = found(boots, "a_bad_configuration_changes_nothing")
    assert "the last reload was refused: error[SC0102]" in facts["status"]
    assert facts["call"] == HELLO


def test_texts_are_scanned_with_all_that_the_unit_is_denied(boots: Boots) -> None:
    facts = found(boots, "texts_are_scanned_with_all_that_the_unit_is_denied")
    assert (facts["status"], facts["reason"]) == (403, "injection")


def test_a_hung_sidecar_is_killed_and_started_again(boots: Boots) -> None:
    facts = found(boots, "a_hung_sidecar_is_killed_and_started_again")
    assert "Watchdog timeout" in facts["journal"]
    assert int(facts["after"]["NRestarts"]) >= 1
    assert facts["after"]["MainPID"] != facts["before"]["MainPID"]
    assert facts["call"] == HELLO
    assert facts["cores"] == [], "keys would be in it"


def test_a_configuration_that_cannot_be_read_is_not_tried_again(boots: Boots) -> None:
    facts = found(boots, "a_bootstrap_that_cannot_be_read_is_not_tried_again")
    assert facts["code"] != 0
    assert facts["unit"]["ActiveState"] == "failed"
    assert (facts["unit"]["ExecMainStatus"], facts["unit"]["NRestarts"]) == ("78", "0")


def test_a_connection_to_its_socket_brings_it_up(boots: Boots) -> None:
    facts = found(boots, "its_socket_brings_it_up")
    assert facts["before"]["ActiveState"] == "inactive"
    assert facts["call"] == HELLO
    assert is_up(facts["after"])


def test_nobody_is_refused_while_it_restarts_behind_its_socket(boots: Boots) -> None:
    facts = found(boots, "its_socket_stays_while_it_restarts")
    assert set(facts["statuses"]) == {200}
    assert facts["after"]["MainPID"] != facts["before"]["MainPID"]
    assert is_up(facts["after"])


def test_a_program_runs_behind_a_unit_that_is_made_for_it(boots: Boots) -> None:
    facts = found(boots, "a_program_is_started_behind_its_sidecar")
    assert is_up(facts["unit"])
    assert facts["uids"] == [facts["unit"]["UID"]] * 4, "of the sidecar's own user"
    code, said = facts["check"]
    assert code == 0, said


def test_each_sidecar_has_a_user_of_its_own(boots: Boots) -> None:
    facts = found(boots, "a_program_is_started_behind_its_sidecar")
    assert (facts["unit"]["User"], facts["other"]["User"]) == ("sidecar_git", "sidecar_files")
    assert facts["unit"]["UID"] != facts["other"]["UID"]


def test_a_program_gets_its_cache_and_the_secret_that_is_named(boots: Boots) -> None:
    environment = found(boots, "a_program_is_started_behind_its_sidecar")["environment"]
    assert environment["HOME"] == "/var/cache/sidecar/git"
    assert environment["GIT_TOKEN"] == "of the program"
    others = {"OTHER", "NOTIFY_SOCKET", "CREDENTIALS_DIRECTORY", "WATCHDOG_USEC"}
    assert not others & environment.keys()


def test_a_program_may_make_code_and_run_what_it_keeps(boots: Boots) -> None:
    facts = found(boots, "a_program_may_make_code_and_run_what_it_keeps")
    assert (facts["status"], facts["text"]) == (200, "it ran\n")


def test_a_program_goes_on_over_a_reload(boots: Boots) -> None:
    facts = found(boots, "a_program_goes_on_over_a_reload")
    assert facts["refused"]["status"] == 403
    assert is_up(facts["after"])
    assert facts["after"]["MainPID"] == facts["before"]["MainPID"]
    assert facts["same program"] is True


def test_a_program_and_what_it_started_end_with_a_sidecar_that_is_killed(boots: Boots) -> None:
    facts = found(boots, "a_program_ends_with_a_sidecar_that_is_killed")
    assert facts["unit"]["NRestarts"] == "1"
    assert facts["again"] is True, "another one is started"


def test_a_program_and_what_it_started_end_with_its_sidecar(boots: Boots) -> None:
    facts = found(boots, "a_program_ends_with_its_sidecar")
    assert facts["living"] == []
    unit = facts["unit"]
    assert (unit["ActiveState"], unit["SubState"], unit["Result"]) == (
        "inactive",
        "dead",
        "success",
    )


def test_after_a_reboot_the_identity_is_still_good_without_a_token(boots: Boots) -> None:
    facts = found(boots, "the_identity_is_still_good", "second")
    assert facts["token"] is False
    assert facts["before"]["ActiveState"] == "inactive", "its socket alone was started"
    assert facts["call"] == HELLO
    before = found(boots, "its_socket_stays_while_it_restarts")
    assert facts["leaf"] == before["leaf"]


def test_after_a_reboot_the_ca_goes_on_with_its_log(boots: Boots) -> None:
    facts = found(boots, "the_ca_still_issues", "second")
    assert facts["call"] == HELLO
    assert facts["leaf"] != found(boots, "the_identity_is_still_good", "second")["leaf"]
    log = json.loads(facts["log"])
    assert (log["chain"], log["token_made"]) == ("whole", 3)


@pytest.mark.parametrize("boot", ["first", "second"])
def test_no_unit_of_the_machine_has_failed(boots: Boots, boot: str) -> None:
    facts = found(boots, "nothing_has_failed", boot)
    assert facts["units"] == ""
    assert facts["ca"]["NRestarts"] == "0", "it gave its signs of life"
    assert "a fault in" not in facts["journal"]
    assert "Traceback" not in facts["journal"]
