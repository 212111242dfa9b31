"""How the functions that call Wise do so."""

from __future__ import annotations

from typing import TYPE_CHECKING

from token_rotator.adapters.client_secrets import ClientSecrets
from token_rotator.adapters.wise_http import WiseHttp
from token_rotator.domain.errors import SettingsError

from .clients import client, utc_now

if TYPE_CHECKING:
    from types_boto3_secretsmanager import SecretsManagerClient

    from token_rotator.settings import WiseSettings


def wise_http(settings: WiseSettings, client_id: str | None = None) -> WiseHttp:
    """Call Wise as the client of the secret, which is to be `client_id` where that is told. Raises `SettingsError`."""
    secrets_client: SecretsManagerClient = client("secretsmanager", read_s=1, tries=2)
    secrets = ClientSecrets(
        secrets_client,
        settings.wise_secret_name,
        settings.environment,
        utc_now,
        client_id=client_id,
        mtls=settings.wise_mtls,
    )
    try:
        return WiseHttp(
            settings.wise_api_url,
            secrets,
            utc_now,
            connect_s=settings.budgets.connect.total_seconds(),
            api_version=settings.wise_api_version,
            ca_file=settings.wise_ca_file,
            mtls=settings.wise_mtls,
        )
    except OSError as error:  # an unreadable file, or one that holds no certificate
        msg = f"WISE_CA_FILE cannot be used: {type(error).__name__}"
        raise SettingsError(msg) from None
