"""Which steps each boot does, and in which order."""

from __future__ import annotations

from collections.abc import Callable

from . import programs, steps
from .shell import Facts

BOOTS: dict[str, tuple[Callable[[], Facts], ...]] = {
    "first": (
        steps.a_ca_is_made_and_started,
        steps.a_server_is_started,
        steps.a_sidecar_joins_with_a_token_and_is_started,
        steps.a_call_goes_through,
        steps.it_is_checked_from_outside,
        steps.it_is_reloaded,
        steps.a_bad_configuration_changes_nothing,
        steps.texts_are_scanned_with_all_that_the_unit_is_denied,
        steps.a_hung_sidecar_is_killed_and_started_again,
        steps.a_bootstrap_that_cannot_be_read_is_not_tried_again,
        steps.its_socket_brings_it_up,
        steps.its_socket_stays_while_it_restarts,
        programs.a_program_is_started_behind_its_sidecar,
        programs.a_program_may_make_code_and_run_what_it_keeps,
        programs.a_program_goes_on_over_a_reload,
        programs.a_program_ends_with_a_sidecar_that_is_killed,
        programs.a_program_ends_with_its_sidecar,
        steps.nothing_has_failed,
    ),
    "second": (
        steps.the_identity_is_still_good,
        steps.the_ca_still_issues,
        steps.nothing_has_failed,
    ),
}
