"""The whole rotator of one environment."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aws_cdk as cdk

from infra.alarms import Alarms
from infra.alerts import Alerts
from infra.bundling import code_asset, lambda_architecture
from infra.dashboard import Dashboard
from infra.grants_store import GrantsStore
from infra.keys import Keys
from infra.refreshing import Refreshing
from infra.token_api import CALLBACK_PATH, EVENTS_PATH, TokenApi

if TYPE_CHECKING:
    from constructs import Construct

    from infra.config import DeployConfig


class TokenRotatorStack(cdk.Stack):
    """Composes the parts and tells their names. Bound to no account or region; protected from deletion."""

    def __init__(self, scope: Construct, construct_id: str, *, config: DeployConfig) -> None:
        super().__init__(
            scope,
            construct_id,
            description=f"Wise token rotator, {config.environment}",
            termination_protection=True,
            analytics_reporting=False,
        )
        code, architecture = code_asset(config.architecture), lambda_architecture(config.architecture)
        keys = Keys(self, "Keys")
        alerts = Alerts(self, "Alerts", key=keys.alerts, emails=config.alert_emails)
        store = GrantsStore(self, "Store", key=keys.data)
        refreshing = Refreshing(
            self,
            "Refreshing",
            config=config,
            code=code,
            architecture=architecture,
            keys=keys,
            store=store,
            alerts=alerts,
        )
        api = TokenApi(
            self,
            "TokenApi",
            config=config,
            code=code,
            architecture=architecture,
            keys=keys,
            store=store,
            refresh=refreshing.refresh.function,
        )
        alarms = Alarms(self, "Alarms", config=config, alerts=alerts, refreshing=refreshing, api=api)
        dashboard = Dashboard(
            self,
            "Dashboard",
            config=config,
            alerts=alerts,
            refreshing=refreshing,
            api=api,
            alarms=alarms,
            functions=(refreshing.sweep, refreshing.refresh, api.serve, api.admin, api.callback),
        )

        outputs = {
            "ApiUrl": api.url,
            "ApiId": api.api.rest_api_id,
            "AccessLogGroup": api.access_log.log_group_name,
            "GrantsTable": store.table.table_name,
            "AlertsTopicArn": alerts.topic.topic_arn,
            "DashboardName": dashboard.board.dashboard_name,
            "FailuresQueueUrl": refreshing.failures.queue_url,
            "ParkedQueueUrl": refreshing.parked.queue_url,
            "WiseSecretName": config.wise_secret_name,
            "SweepFunction": refreshing.sweep.function.function_name,
            "RefreshFunction": refreshing.refresh.function.function_name,
            "ServeFunction": api.serve.function.function_name,
            "AdminFunction": api.admin.function.function_name,
            "CallbackFunction": api.callback.function.function_name,
            "RedirectUri": config.redirect_uri or f"{api.url}{CALLBACK_PATH}",
            **({"WiseEventsUrl": f"{api.url}{EVENTS_PATH}"} if config.wise_webhook_keys else {}),
            "SweepLogGroup": refreshing.sweep.log_group.log_group_name,
            "RefreshLogGroup": refreshing.refresh.log_group.log_group_name,
            "ServeLogGroup": api.serve.log_group.log_group_name,
            "AdminLogGroup": api.admin.log_group.log_group_name,
            "CallbackLogGroup": api.callback.log_group.log_group_name,
            "AccessTokensKeyArn": keys.access_tokens.arn,
            "RefreshTokensKeyArn": keys.refresh_tokens.arn,
            **{f"PartnerRole{title}": role.role_arn for title, role in api.partner_roles.items()},
        }
        for name, value in outputs.items():
            cdk.CfnOutput(self, name, value=value)
