"""Mutual TLS: which certificate is shown, what its refusal means, and who hears that it ends."""

from __future__ import annotations

from typing import Final

from local.mutants.guard import Guard

_CERTIFICATES: Final = "functions/token_rotator/adapters/client_certificates.py"
_SECRETS: Final = "functions/token_rotator/adapters/client_secrets.py"
_HTTP: Final = "functions/token_rotator/adapters/wise_http.py"
_DOMAIN: Final = "functions/token_rotator/domain/certificate.py"
_WATCH: Final = "functions/token_rotator/service/watch_certificate.py"
_REVISED: Final = "functions/token_rotator/adapters/dynamo_revised.py"
_SETTINGS: Final = "functions/token_rotator/settings.py"
_READ: Final = "tests/contract/test_client_certificates.py"
_WIRE: Final = "tests/contract/test_mutual_tls.py"
_UNIT: Final = "tests/unit/test_watch_certificate.py"

GUARDS: Final = (
    Guard(
        name="key-fits",
        says="a key that does not fit its certificate is an error before anything is sent",
        path=_CERTIFICATES,
        old="    if key.public_key().public_bytes(*form) != public.public_bytes(*form):\n",
        new="    if not form:\n",
        tests=(f"{_READ}::test_what_cannot_be_used_says_why_and_shows_nothing",),
    ),
    Guard(
        name="key-in-memory",
        says="the key lies in no file on disk where there are files in memory",
        path=_CERTIFICATES,
        old='        descriptor = os.memfd_create("certificate")\n',
        new="        raise OSError\n",
        tests=(f"{_READ}::test_the_key_lies_in_memory_for_the_call_and_no_longer",),
    ),
    Guard(
        name="key-file-removed",
        says="a file with the key does not outlive the call",
        path=_CERTIFICATES,
        old="        shutil.rmtree(directory)\n",
        new="        shutil.which(directory)\n",
        tests=(f"{_READ}::test_where_there_are_no_files_in_memory_the_key_is_in_a_private_one",),
    ),
    Guard(
        name="certificate-valid-now",
        says="a certificate that is not valid now is an error before anything is sent",
        path=_SECRETS,
        old="        if why is not None:\n            raise self._unusable(why)\n",
        new="",
        tests=(f"{_WIRE}::test_nothing_is_sent_with_a_secret_that_has_no_usable_certificate",),
    ),
    Guard(
        name="certificate-over",
        says="a certificate that ended while it was in use is shown no more",
        path=_SECRETS,
        old="        return None if kept is None or self._is_over(kept[0]) else kept[0]\n",
        new="        return None if kept is None else kept[0]\n",
        tests=(f"{_WIRE}::test_a_certificate_that_is_over_gives_way_at_once",),
    ),
    Guard(
        name="certificate-over-not-preferred",
        says="a certificate that has ended is not used on because Secrets Manager does not answer",
        path=_SECRETS,
        old="        if before is not None and self._is_over(before):\n            before = None\n",
        new="",
        tests=(f"{_WIRE}::test_an_ended_certificate_is_not_used_on_while_the_secret_cannot_be_read",),
    ),
    Guard(
        name="new-certificate-tried",
        says="a new certificate is used at the next reading of the secret",
        path=_SECRETS,
        old="        return current if self._is_worth_trying(current, before) else before\n",
        new="        return before\n",
        tests=(f"{_WIRE}::test_a_new_certificate_is_used_at_the_next_reading",),
    ),
    Guard(
        name="new-secret-waits",
        says="a new client secret with the same certificate waits until Wise refuses the old one",
        path=_SECRETS,
        old="        if current.certificate == before.certificate:\n            return False\n",
        new="",
        tests=(f"{_WIRE}::test_a_new_client_secret_alone_waits_for_the_old_one_to_be_refused",),
    ),
    Guard(
        name="refused-certificate-rests",
        says="a new certificate that Wise refuses is left alone for an hour while the old one works",
        path=_HTTP,
        old="                self._secrets.refused(other)\n",
        new="                continue\n",
        tests=(f"{_WIRE}::test_the_old_certificate_is_used_while_the_new_one_is_refused",),
    ),
    Guard(
        name="silent-certificate",
        says="where a peer just hangs up on one certificate the other version's is tried",
        path=_HTTP,
        old="            elif credentials.certificate is None or not isinstance(check, NotSent | Unknown):\n",
        new="            elif check is not refused:\n",
        tests=(f"{_WIRE}::test_the_old_certificate_is_used_while_the_new_one_is_refused",),
    ),
    Guard(
        name="refused-certificate-is-the-client",
        says="a certificate that is refused by an alert is a refused client",
        path=_HTTP,
        old="        return ClientRefused(error=CERTIFICATE_REFUSED)\n",
        new='        return NotSent(reason="certificate-refused")\n',
        tests=(f"{_WIRE}::test_a_certificate_that_the_peer_refuses_is_a_refused_client",),
    ),
    Guard(
        name="verdict-awaited",
        says="nothing is sent before the peer could say what it thinks of our certificate",
        path=_HTTP,
        old="                _await_verdict(self.sock, min(VERDICT_WITHIN, watch.left()))\n",
        new="                self.sock.fileno()\n",
        tests=(f"{_WIRE}::test_nothing_is_sent_to_a_peer_that_does_not_wait_for_a_request",),
    ),
    Guard(
        name="bearer-shows-certificate",
        says="a call with a user's token shows the certificate too",
        path=_HTTP,
        old="            shown = credentials.certificate\n",
        new="            shown = None\n",
        tests=(f"{_WIRE}::test_every_call_shows_the_certificate",),
    ),
    Guard(
        name="mtls-host",
        says="the plain host of Wise's is not called with mutual TLS, nor the other without",
        path=_SETTINGS,
        old='    if host.lower().startswith(_MTLS_HOST) != _flag(environ, "WISE_MTLS") and _is_of_wise(host):\n',
        new='    if _flag(environ, "WISE_MTLS") and not host:\n',
        tests=("tests/handlers/test_settings.py::test_mutual_tls_has_hosts_of_its_own",),
    ),
    Guard(
        name="certificate-warned-once",
        says="each warning of the certificate's end is raised once",
        path=_DOMAIN,
        old="        if due is None or (self.told is not None and end - due <= self.told):\n",
        new="        if due is None:\n",
        tests=(f"{_UNIT}::test_it_is_announced_six_times_and_each_once",),
    ),
    Guard(
        name="renewed-when-answered",
        says="a later certificate ends the warning only once Wise has answered to it",
        path=_DOMAIN,
        old="        if in_use is not None and (in_use.accepted or end is None):\n",
        new="        if in_use is not None:\n",
        tests=(f"{_UNIT}::test_a_later_end_that_wise_has_not_answered_to_proves_nothing",),
    ),
    Guard(
        name="certificate-claim",
        says="of two processes that find a warning due one tells it",
        path=_WATCH,
        old=("        if written is not None and claimed is not None:\n            self._tell.publish(written)\n"),
        new="        if claimed is not None:\n            self._tell.publish(written or claimed)\n",
        tests=(f"{_UNIT}::test_who_was_slower_tells_nothing",),
    ),
    Guard(
        name="certificate-revision",
        says="a write of what is known of the certificate is conditional on nobody's having written since",
        path=_REVISED,
        old='        update.require_equal("revision", NUMBER.encode(before.revision) if before.revision else None)\n',
        new='        update.require("attribute_not_exists(never_there)")\n',
        tests=(
            "tests/contract/test_certificate_contract.py::test_the_second_to_write_over_one_revision_writes_nothing",
        ),
    ),
)
