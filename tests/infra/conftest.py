"""Templates, each synthesized once per run and without the bundle."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.infra.template import Template

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture(scope="session")
def synthesized(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Template]:
    """The template of one of the gates' variants."""
    from infra.check import VARIANTS, build

    kept: dict[str, Template] = {}

    def template(variant: str) -> Template:
        if variant not in kept:
            app, stack = build(VARIANTS[variant], tmp_path_factory.mktemp("cdk"))
            assembly = app.synth()
            raw = assembly.get_stack_by_name(stack.stack_name).template
            kept[variant] = Template.read(raw, protected=bool(stack.termination_protection))
        return kept[variant]

    return template


@pytest.fixture(scope="session")
def sandbox(synthesized: Callable[[str], Template]) -> Template:
    """A sandbox with three partner services.

    acme-payroll reads and manages two tenants, globex reads one, operations may stop one of each.
    """
    return synthesized("sandbox with partners")


@pytest.fixture(scope="session")
def production(synthesized: Callable[[str], Template]) -> Template:
    """A production with every setting given."""
    return synthesized("production")


@pytest.fixture(scope="session")
def first_sandbox(synthesized: Callable[[str], Template]) -> Template:
    """What `cdk.json` deploys as it is: no partner service yet."""
    return synthesized("sandbox")


@pytest.fixture(params=["sandbox", "sandbox with partners", "production"])
def every(request: pytest.FixtureRequest, synthesized: Callable[[str], Template]) -> Template:
    """Each of them."""
    return synthesized(request.param)
