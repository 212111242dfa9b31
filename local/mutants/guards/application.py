"""Guards of our application's own token."""

from __future__ import annotations

from typing import Final

from local.mutants.guard import Guard

_REFRESH: Final = "functions/token_rotator/service/refresh_grant.py"
_ASK: Final = "functions/token_rotator/service/ask_about_client.py"
_STORE: Final = "functions/token_rotator/adapters/dynamo_grants.py"
_TESTS: Final = "tests/unit/test_application_token.py"

GUARDS: Final = (
    Guard(
        name="application-asked",
        says="our own question about the client, accepted, puts the application token in doubt",
        path=_ASK,
        old="                self._doubt(attempt_id, self.clock())\n",
        new="                pass\n",
        tests=(f"{_TESTS}::test_a_question_about_our_client_that_may_have_ended_it_puts_it_in_doubt",),
    ),
    Guard(
        name="application-asked-late",
        says="no application token is had while an earlier question may still be carried out",
        path=_ASK,
        old="self.clock() + self.budgets.settle + self.budgets.margin)\n",
        new="self.clock())\n",
        tests=(f"{_TESTS}::test_one_that_wise_may_still_carry_out_is_waited_for",),
    ),
    Guard(
        name="application-doubted-beside",
        says="a doubt from outside is not ended by an answer that was under way",
        path=_STORE,
        old='        update.add("version", NUMBER.encode(1))\n',
        new="",
        tests=(
            "tests/contract/test_grants_contract.py::test_a_doubt_from_outside_is_of_another_version_whoever_works_on_it",
        ),
    ),
    Guard(
        name="application-doubted-late",
        says="a doubt that comes late leaves a token alone that was had after the question",
        path=_STORE,
        old='        update.require(f"attribute_not_exists({issued_at}) OR {issued_at} <= {until}")\n',
        new='        update.require(f"attribute_exists(pk) OR {issued_at} <= {until}")\n',
        tests=("tests/contract/test_grants_contract.py::test_a_doubt_that_comes_late_leaves_a_newer_token_alone",),
    ),
    Guard(
        name="application-begins-once",
        says="who begins the application token second overwrites nothing",
        path=_STORE,
        old='        update.require("attribute_not_exists(pk)")\n',
        new='        update.require("attribute_exists(pk) OR attribute_not_exists(pk)")\n',
        tests=("tests/contract/test_grants_contract.py::test_what_is_there_does_not_begin_again",),
    ),
    Guard(
        name="application-alone",
        says="a client that gets no application token stops no user's refresh",
        path=_REFRESH,
        old="            return self._client_refused(grant, outcome)\n",
        new="            pass\n",
        tests=(f"{_TESTS}::test_a_client_that_gets_none_is_held_and_told_alone",),
    ),
    Guard(
        name="application-own-question",
        says="what the attempt itself asked about the client puts the token before in doubt",
        path=_REFRESH,
        old="        if isinstance(check, ClientAccepted | ServerFault | Unknown):\n",
        new="        if check is None:\n",
        tests=(f"{_TESTS}::test_a_second_refusal_after_a_changed_secret_is_not_a_third_request",),
    ),
    Guard(
        name="application-question-waited-for",
        says="what a question without an answer puts off is put off for whoever was at it, too",
        path="functions/token_rotator/domain/policy.py",
        old="    return max(now, grant.due_at)\n",
        new="    return now\n",
        tests=(
            f"{_TESTS}::test_a_question_without_an_answer_is_waited_for_whoever_was_at_it",
            f"{_TESTS}::test_a_question_that_comes_before_the_lease_is_waited_for_as_well",
        ),
    ),
    Guard(
        name="application-report-waits",
        says="a report of the application token does not end the wait for a question about our client",
        path=_REFRESH,
        old="        if self.key != APPLICATION or isinstance(cause, Due):\n",
        new="        if self.key is not None or isinstance(cause, Due):\n",
        tests=(f"{_TESTS}::test_a_report_does_not_end_the_wait_for_a_question",),
    ),
    Guard(
        name="application-report-in-doubt",
        says="a report of an application token in doubt is none of what may be replaced at once",
        path=_REFRESH,
        old=" or answer.grant.in_doubt is not None:\n            return answer\n",
        new=":\n            return answer\n",
        tests=(f"{_TESTS}::test_a_report_does_not_end_the_wait_for_a_question",),
    ),
    Guard(
        name="application-fits-parking",
        says="an application token of the greatest length fits the parking queue, sealed and in base64",
        path="functions/token_rotator/adapters/wise_answers.py",
        old="MAX_APPLICATION_TOKEN: Final = 184_320\n",
        new="MAX_APPLICATION_TOKEN: Final = 262_144\n",
        tests=("tests/contract/test_parking_contract.py::test_the_longest_application_token_has_room",),
    ),
)
