"""What crosses the border: calls to Wise, sealed values, secrets and callers."""

from __future__ import annotations

from typing import Final

from local.mutants.guard import Guard

_HTTP: Final = "functions/token_rotator/adapters/wise_http.py"
_ANSWERS: Final = "functions/token_rotator/adapters/wise_answers.py"
_SEALER: Final = "functions/token_rotator/adapters/kms_sealer.py"
_VALUES: Final = "functions/token_rotator/domain/tokens.py"
_WISE: Final = "tests/contract/test_wise_contract.py"
_SEALS: Final = "tests/contract/test_sealer_contract.py"
_SECRETS: Final = "tests/contract/test_client_secrets.py"

GUARDS: Final = (
    Guard(
        name="total-deadline",
        says="a dripping answer does not stretch the deadline of a call",
        path=_HTTP,
        old="        self._timer.start()\n",
        new="",
        tests=(f"{_WISE}::test_the_deadline_is_total[me-drip_body]",),
    ),
    Guard(
        name="no-redirect",
        says="a redirect is not followed: it would send the credentials elsewhere",
        path=_HTTP,
        old="            allow_redirects=False,\n",
        new="            allow_redirects=True,\n",
        tests=(f"{_WISE}::test_a_redirect_is_never_followed",),
    ),
    Guard(
        name="never-resent",
        says="a request is not sent twice by the library",
        path=_HTTP,
        old="        super().__init__(max_retries=0, pool_maxsize=32)\n",
        new="        super().__init__(max_retries=urllib3.Retry(2, allowed_methods=None), pool_maxsize=32)\n",
        tests=(f"{_WISE}::test_a_connection_lost_after_the_commit_is_unknown",),
    ),
    Guard(
        name="sent-is-unknown",
        says="once a connection stands, a failure is not called not-sent",
        path=_HTTP,
        old="    if not watch.connected:\n",
        new="    if not watch.late:\n",
        tests=(f"{_WISE}::test_a_connection_lost_after_the_commit_is_unknown",),
    ),
    Guard(
        name="client-fault",
        says="a grant is not judged by what Wise says of our client",
        path=_ANSWERS,
        old="        if error in _CLIENT_ERRORS or (status == 401 and error is None):  # noqa: PLR2004\n"
        "            return ClientRefused(**facts)\n",
        new="        if error in _CLIENT_ERRORS or (status == 401 and error is None):  # noqa: PLR2004\n"
        "            return GrantInvalid(**facts)\n",
        tests=(f"{_WISE}::test_an_answer_is_read",),
    ),
    Guard(
        name="no-token-no-success",
        says="a success without a token is unknown, not refreshed and not harmless",
        path=_ANSWERS,
        old='else Unknown(reason=f"{status}-without-token", **facts)\n',
        new="else ServerFault(**facts)\n",
        tests=(f"{_WISE}::test_an_answer_is_read",),
    ),
    Guard(
        name="gateway-is-unknown",
        says="a fault that Wise itself did not answer leaves the outcome unknown",
        path=_ANSWERS,
        old='    if status in (500, 503) and isinstance(body.get("error"), str) and trace_id:  #',
        new="    if status >= 500:  #",
        tests=(f"{_WISE}::test_an_answer_is_read",),
    ),
    Guard(
        name="dead-in-wises-words",
        says="a token is dead only where Wise says so, and not on any 401",
        path=_ANSWERS,
        old='    if status == 401 and _body(content).get("error") == "invalid_token":  # noqa: PLR2004\n',
        new="    if status == 401:  # noqa: PLR2004\n",
        tests=(f"{_WISE}::test_what_is_said_about_a_token",),
    ),
    Guard(
        name="previous-secret",
        says="where Wise refuses the current client secret the previous one is tried",
        path="functions/token_rotator/adapters/client_secrets.py",
        old="        for stage in (_CURRENT, _PREVIOUS):\n",
        new="        for stage in (_CURRENT,):\n",
        tests=("tests/contract/test_client_secrets.py::test_a_version_that_cannot_be_used_is_left_out",),
    ),
    Guard(
        name="accepted-secret",
        says="the client secret that Wise accepts is used from then on",
        path=_HTTP,
        old="        self._secrets.use(accepted)\n",
        new="",
        tests=(f"{_WISE}::test_the_client_secret_that_wise_accepts_is_used_from_then_on",),
    ),
    Guard(
        name="refusal-of-both",
        says="one version's refusal proves nothing while the other has no answer",
        path=_HTTP,
        old=(
            "            if isinstance(check, ClientRefused | WeAreWrong):\n"
            "                refused = refused or check\n"
            "            elif credentials.certificate is None or not isinstance(check, NotSent | Unknown):\n"
            "                return check, None\n"
            "            else:\n"
            "                silent = silent or check\n"
        ),
        new="            refused = refused or check\n",
        tests=(f"{_WISE}::test_a_refusal_of_one_version_proves_nothing_while_the_other_has_no_answer",),
    ),
    Guard(
        name="one-deadline",
        says="all questions about our client share one deadline",
        path=_HTTP,
        old="since=own.answered, until=ends)\n",
        new="since=own.answered, until=ends + 60)\n",
        tests=(f"{_WISE}::test_a_slow_secret_does_not_outlast_the_deadline",),
    ),
    Guard(
        name="asked-since",
        says="what Wise said of our client before it refused us is no answer to that refusal",
        path="functions/token_rotator/adapters/shared_answer.py",
        old="            while self._began < since:\n",
        new="            while self._began < 0:\n",
        tests=("tests/contract/test_shared_answer.py",),
    ),
    Guard(
        name="working-secret",
        says="a client secret that works is not given up for a newer version",
        path="functions/token_rotator/adapters/client_secrets.py",
        old="        if before is None or before == current or not self._is_previous(before):\n",
        new="        if before is None or current:\n",
        tests=("tests/contract/test_client_secrets.py::test_what_is_in_use_stays_in_use_as_the_previous_version",),
    ),
    Guard(
        name="previous-secret-when-cold",
        says="a process that begins uses the secret's version before one that cannot be used",
        path="functions/token_rotator/adapters/client_secrets.py",
        old="            if previous is None:\n                raise\n",
        new="            if previous is None or before is None:\n                raise\n",
        tests=(f"{_SECRETS}::test_a_process_that_begins_uses_the_version_before_one_that_cannot_be_used",),
    ),
    Guard(
        name="secret-of-environment",
        says="a secret of another environment is not used",
        path="functions/token_rotator/adapters/client_secrets.py",
        old='        if value["environment"] != self._environment:\n',
        new='        if value["environment"] is None:\n',
        tests=("tests/contract/test_client_secrets.py::test_an_unusable_secret_says_why_and_nothing_else",),
    ),
    Guard(
        name="earlier-end",
        says="of two ends that Wise names for a token the earlier one counts",
        path=_ANSWERS,
        old="    return min(moments, default=None)\n",
        new="    return max(moments, default=None)\n",
        tests=(f"{_WISE}::test_the_end_of_a_token_is_the_earlier_of_what_wise_says",),
    ),
    Guard(
        name="bound-to-its-grant",
        says="a sealed value opens only for its own grant and field",
        path=_SEALER,
        old='        return f"{self._environment}|{key.tenant}|{key.grant_id}|{field}".encode()\n',
        new='        return f"{self._environment}|{field}".encode()\n',
        tests=(f"{_SEALS}::test_a_value_moved_to_another_grant_does_not_open",),
    ),
    Guard(
        name="bound-to-its-environment",
        says="a sealed value opens only in its own environment",
        path=_SEALER,
        old='        return f"{self._environment}|{key.tenant}|{key.grant_id}|{field}".encode()\n',
        new='        return f"{key.tenant}|{key.grant_id}|{field}".encode()\n',
        tests=(f"{_SEALS}::test_a_data_key_at_hand_does_not_open_another_environments_value",),
    ),
    Guard(
        name="secret-repr",
        says="a secret does not show itself",
        path=_VALUES,
        old='        return "Secret(…)"\n',
        new='        return f"Secret({self._value})"\n',
        tests=("tests/unit/test_values.py::test_a_secret_shows_itself_only_to_who_asks_by_name",),
    ),
    Guard(
        name="one-profile-one-grant",
        says="two grants of one Wise user would kill each other's tokens",
        path="functions/token_rotator/adapters/dynamo_grants.py",
        old='HOLDER: me},\n                    "ConditionExpression": "attribute_not_exists(pk) OR holder = :me",\n',
        new="HOLDER: me},\n"
        '                    "ConditionExpression": "attribute_not_exists(pk) OR holder = :me OR holder <> :me",\n',
        tests=("tests/contract/test_grants_contract.py::test_a_profile_belongs_to_one_grant",),
    ),
    Guard(
        name="third-lock",
        says="the function itself refuses a partner the tenants of another",
        path="functions/token_rotator/handlers/http.py",
        old="        or not (of_all or tenant in partner.tenants)\n",
        new="",
        tests=(
            "tests/handlers/test_locks.py::test_a_role_may_what_its_partner_may_and_nothing_else",
            "tests/handlers/test_locks.py::test_a_stranger_costs_no_read",
        ),
    ),
    Guard(
        name="one-client",
        says="no grant is judged by what Wise says to another client",
        path="functions/token_rotator/adapters/client_secrets.py",
        old='        if self._client_id not in (None, value["client_id"]):\n',
        new="        if False:\n",
        tests=("tests/contract/test_client_secrets.py::test_a_secret_of_another_client_is_not_used",),
    ),
    Guard(
        name="asked-once",
        says="the refresh function is invoked once: a retry of the SDK would start a second refresh",
        path="functions/token_rotator/wiring/serving.py",
        old="tries=1",
        new="tries=3",
        tests=("tests/mutants/test_guards.py::test_the_refresh_function_is_asked_once_as_it_is_wired",),
    ),
)
