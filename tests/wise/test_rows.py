"""What an emulator of Wise must reproduce, row by row, and the tests that hold it to that.

A row says what is asked for and what comes of it; its settings are the answers that Wise leaves open. A row without a
test, a test that is gone and a setting that no row needs fail here.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass, fields
from pathlib import Path

import pytest

from local.wise.settings import WiseSettings

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Row:
    number: int
    what: str
    tests: dict[str, tuple[str, ...]]
    """By the module's name without ``test_``."""
    settings: tuple[str, ...] = ()


ROWS = (
    Row(
        1,
        "client_credentials",
        {
            "application_tokens": (
                "test_answer_has_five_fields_and_nothing_to_refresh",
                "test_format_is_a_setting",
                "test_both_formats_come_by_default",
                "test_earlier_tokens_stay_valid",
                "test_new_token_kills_the_earlier_ones_where_so_set",
                "test_application_token_dies_of_age",
                "test_what_a_users_resource_says_to_the_application_is_a_setting",
            )
        },
        ("application_token_format", "application_tokens_coexist", "application_as_user", "access_token_lifetime_s"),
    ),
    Row(
        2,
        "registration_code that is good",
        {
            "registration": (
                "test_partner_makes_a_user_and_gets_tokens_for_them",
                "test_registration_code_is_good_again_and_again",
            )
        },
    ),
    Row(
        3,
        "registration_code that is wrong, reclaimed or with another address",
        {
            "registration": (
                "test_wrong_code_or_address_is_refused_word_for_word",
                "test_reclaimed_account_refuses_the_code_and_keeps_its_tokens",
            )
        },
        ("registration_refused_status",),
    ),
    Row(
        4,
        "authorization_code that is good",
        {
            "linking": (
                "test_code_is_answered_with_all_nine_fields",
                "test_new_link_ends_the_old_refresh_token_and_leaves_the_last_access_token",
                "test_new_link_may_return_the_access_token_that_lives_already",
                "test_grants_for_two_profiles_of_a_user_may_live_side_by_side",
            )
        },
        ("new_grant_keeps_access_token", "profiles_coexist"),
    ),
    Row(
        5,
        "authorization_code that was used, is too old, unknown or came with another redirect_uri",
        {
            "linking": (
                "test_code_is_good_once",
                "test_code_is_good_for_half_an_hour",
                "test_code_that_came_with_another_redirect_uri_is_lost",
                "test_code_needs_our_client_and_survives_its_absence",
                "test_status_of_a_bad_code_is_a_setting",
            )
        },
        ("bad_code_status", "authorization_code_lifetime_s"),
    ),
    Row(
        6,
        "refresh_token that is good",
        {
            "answers": ("test_refresh_answers_as_the_example_of_the_token_page",),
            "tokens": (
                "test_refresh_kills_the_previous_access_token_at_once",
                "test_same_policy_returns_the_refresh_token_with_its_old_expiry",
                "test_rotated_policy_replaces_the_refresh_token",
                "test_omitted_policy_leaves_the_refresh_token_out_and_valid",
                "test_tokens_of_every_format_go_round_whole",
            ),
            "foreign_refresher": ("test_other_gets_what_a_refresh_brings_under_the_same_policy",),
        },
        ("refresh_token_policy", "refresh_token_lifetime_s", "token_format", "created_at_digits"),
    ),
    Row(
        7,
        "refresh_token that is unknown or revoked",
        {"answers": ("test_token_endpoint_refuses",), "ends_of_grants": ("test_user_or_wise_ends_the_grant",)},
        ("unknown_refresh_status", "echo_refresh_token"),
    ),
    Row(
        8,
        "refresh_token that is too old",
        {
            "answers": (
                "test_expired_refresh_token_is_an_invalid_grant",
                "test_expired_refresh_token_takes_the_access_token_with_it_when_so_set",
            )
        },
        ("expired_refresh",),
    ),
    Row(9, "no grant_type", {"answers": ("test_token_endpoint_refuses", "test_form_without_a_body_has_no_grant_type")}),
    Row(10, "unknown grant_type", {"answers": ("test_token_endpoint_refuses",)}, ("unsupported_grant_status",)),
    Row(
        11,
        "missing parameter",
        {
            "answers": ("test_token_endpoint_refuses",),
            "linking": ("test_every_parameter_is_required",),
            "registration": ("test_every_parameter_is_required",),
        },
        ("missing_parameter_status",),
    ),
    Row(12, "no client", {"answers": ("test_token_endpoint_refuses",)}, ("no_client_status",)),
    Row(
        13,
        "wrong client",
        {"answers": ("test_token_endpoint_refuses", "test_unreadable_basic_credentials_are_a_wrong_client")},
        ("wrong_client_status", "wrong_client_error"),
    ),
    Row(
        14,
        "grant_type that the client may not use",
        {"answers": ("test_token_endpoint_refuses",)},
        (
            "client_credentials_allowed",
            "authorization_code_allowed",
            "registration_code_allowed",
            "refused_grant_status",
            "refused_grant_error",
        ),
    ),
    Row(
        15,
        "body that is no form",
        {"answers": ("test_body_that_is_no_form_counts_as_without_a_grant_type",)},
        ("foreign_body_status",),
    ),
    Row(
        16,
        "account or profile that is deactivated",
        {
            "ends_of_grants": (
                "test_deactivated_account_is_a_401_for_tokens_and_codes",
                "test_closed_profile_ends_its_own_tokens_only",
                "test_opened_account_must_be_linked_anew",
                "test_opened_account_may_have_its_tokens_back",
            ),
            "subscriptions": (
                "test_application_subscribes_looks_and_unsubscribes",
                "test_each_change_of_state_is_told_once",
            ),
            "webhooks": (
                "test_event_is_signed_and_says_what_happened",
                "test_event_of_a_profile_names_the_profile",
            ),
            "personal_tokens": ("test_deactivation_ends_it",),
        },
        ("deactivated_error", "tokens_survive_deactivation", "client_key"),
    ),
    Row(
        17,
        "e-mail address that was changed",
        {"ends_of_grants": ("test_changed_address_ends_everything_with_a_status_of_its_own",)},
        ("email_changed_status",),
    ),
    Row(
        18,
        "grant that the user or Wise ended, of which nobody is told",
        {
            "ends_of_grants": ("test_user_or_wise_ends_the_grant",),
            "subscriptions": ("test_no_other_end_of_a_grant_is_told",),
            "personal_tokens": ("test_user_revokes_one_or_all",),
        },
    ),
    Row(19, "too many requests", {"faults": ("test_throttling_answers_429_everywhere_and_carries_nothing_out",)}),
    Row(
        20,
        "what goes wrong on the way",
        {
            "faults": (
                "test_next_calls_fail_with_the_given_answer_and_are_not_carried_out",
                "test_failure_may_hide_that_the_refresh_was_carried_out",
                "test_connection_is_lost_without_an_answer",
                "test_slow_answer_comes_after_both_pauses",
            )
        },
    ),
    Row(
        21,
        "/v1/me with a token that lives",
        {
            "answers": ("test_me_answers_with_the_user", "test_both_forms_of_a_path_lead_to_the_same_wise"),
            "personal_tokens": ("test_token_is_good_for_its_user",),
        },
        ("quarters",),
    ),
    Row(22, "/v1/me with a token that is dead", {"answers": ("test_me_echoes_a_dead_token_in_its_error",)}),
    Row(
        23,
        "resource that asks for a second factor",
        {"faults": ("test_second_factor_is_asked_for_with_a_403_and_the_token_stays_good",)},
    ),
    Row(
        24,
        "authorization page",
        {
            "linking": (
                "test_user_logs_in_chooses_a_profile_and_is_sent_back_with_a_code",
                "test_refusal_is_sent_back_as_an_error_with_the_state",
                "test_unregistered_addresses_and_clients_end_on_a_page_of_wises",
                "test_code_is_good_for_half_an_hour",
            )
        },
        ("redirect_uris",),
    ),
    Row(
        25,
        "sign-up",
        {
            "registration": (
                "test_partner_makes_a_user_and_gets_tokens_for_them",
                "test_sign_up_is_refused_with_the_field",
                "test_taken_address_is_answered_word_for_word_and_half_hidden",
                "test_partner_may_ask_whether_an_address_is_taken",
                "test_only_the_application_makes_users",
            )
        },
    ),
    Row(
        26,
        "claim-account",
        {
            "claiming": (
                "test_user_takes_the_account_over_and_lets_the_partner_in",
                "test_code_is_good_for_five_minutes_and_then_anew",
                "test_nobody_takes_over_the_account_of_another",
            )
        },
        ("claim_account_code_lifetime_s",),
    ),
    Row(
        27,
        "client secret that was replaced",
        {
            "tokens": (
                "test_new_client_secret_works_and_the_old_one_fails_at_once",
                "test_both_client_secrets_work_while_they_overlap",
                "test_rotating_the_client_secret_may_revoke_every_token",
            ),
            "application_tokens": ("test_new_client_secret_may_end_the_applications_tokens_too",),
            "personal_tokens": ("test_client_secret_is_nothing_to_it",),
        },
    ),
    Row(
        28,
        "listener that demands a client certificate",
        {
            "mutual_tls": (
                "test_a_client_with_its_certificate_is_served",
                "test_nobody_is_served_without_a_certificate",
                "test_the_certificates_name_is_the_client_id",
                "test_a_certificate_counts_only_while_it_is_valid",
                "test_a_refused_certificate_meets_an_alert",
                "test_the_plain_host_refuses_the_api_once_mutual_tls_is_enforced",
            ),
            "application_tokens": ("test_playground_takes_every_token_that_lives",),
        },
        ("mtls_only", "mtls_highest", "refused_certificate"),
    ),
)
CLIENT = {"client_id", "client_secret"}
"""Not an answer of Wise's, but who we are to it."""


def names_in(module: str) -> set[str]:
    tree = ast.parse((HERE / f"test_{module}.py").read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


def test_every_row_is_there_once() -> None:
    assert [row.number for row in ROWS] == list(range(1, 29))
    assert len({row.what for row in ROWS}) == len(ROWS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.number}-{row.what.replace(' ', '-')}")
def test_row_has_tests(row: Row) -> None:
    assert row.tests
    for module, names in row.tests.items():
        assert names, module
        assert set(names) <= names_in(module), module


def test_every_answer_that_is_left_open_belongs_to_a_row() -> None:
    assert {name for row in ROWS for name in row.settings} == {field.name for field in fields(WiseSettings)} - CLIENT


@pytest.mark.parametrize("setting", sorted({name for row in ROWS for name in row.settings}))
def test_every_setting_is_tried_by_a_test(setting: str) -> None:
    texts = [path.read_text() for path in HERE.glob("test_*.py") if path != Path(__file__)]
    assert any(setting in text for text in texts)
