"""The OpenAPI document and its page."""

import json

import pytest
from django.core.management import call_command
from drf_spectacular.generators import SchemaGenerator

from agents.payload import JobInput
from tests.factories.people import user
from tests.integration.agents.api import client, problem

pytestmark = pytest.mark.django_db


def test_the_document_is_valid_and_complete_without_a_warning(tmp_path):
    call_command("spectacular", file=str(tmp_path / "api.yaml"), fail_on_warn=True, validate=True)


@pytest.fixture(scope="module")
def document():
    return SchemaGenerator().get_schema(request=None, public=True)


def test_it_is_openapi_3_1_with_both_ways_to_sign_in(document):
    assert document["openapi"].startswith("3.1")
    schemes = document["components"]["securitySchemes"]
    assert schemes["token"]["scheme"] == "bearer"
    assert any(scheme.get("in") == "cookie" for scheme in schemes.values())


def test_every_operation_declares_its_problems(document):
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            responses = operation["responses"]
            assert {"401", "403", "default"} <= set(responses), (method, path)
            for status, response in responses.items():
                if status == "default" or status[0] in "45":
                    assert list(response["content"]) == ["application/problem+json"], (method, path, status)


def test_the_request_is_described_by_the_model_that_checks_it(document):
    described = document["components"]["schemas"]["JobRequest"]
    assert set(described["properties"]) == set(JobInput.model_fields)
    assert described["additionalProperties"] is False
    assert "StepInput" in document["components"]["schemas"]


def test_the_endpoints_are_all_there(document):
    assert {
        "/api/v1/jobs",
        "/api/v1/jobs/{job_id}",
        "/api/v1/jobs/{job_id}/steps",
        "/api/v1/jobs/{job_id}/steps/{key}",
        "/api/v1/jobs/{job_id}/events",
        "/api/v1/jobs/{job_id}/cancel",
        "/api/v1/jobs/{job_id}/share",
        "/api/v1/tools",
        "/api/v1/agents",
        "/api/v1/agents/{name}/versions/{number}",
        "/api/v1/teams",
        "/api/v1/repositories",
        "/api/v1/me",
        "/api/v1/approvals",
        "/api/v1/approvals/{request_id}/approve",
        "/api/v1/audit/records",
    } <= set(document["paths"])


def test_the_document_is_served_as_yaml_and_json():
    assert client().get("/api/schema").status_code == 200
    response = client().get("/api/schema", headers={"Accept": "application/vnd.oai.openapi+json"})
    assert json.loads(response.content)["openapi"].startswith("3.1")


def test_its_page_runs_no_inline_script_and_loads_nothing_from_elsewhere():
    response = client().get("/api/docs")
    assert response.status_code == 200
    policy = response["Content-Security-Policy"]
    script_src = next(part for part in policy.split(";") if part.strip().startswith("script-src"))
    assert script_src.strip() == "script-src 'self'"
    html = response.content.decode()
    assert "<script>" not in html
    assert "https://" not in html and "http://" not in html
    script = client().get("/api/docs?script=")
    assert script["Content-Type"].startswith("application/javascript")
    assert "SwaggerUIBundle" in script.content.decode()


def test_the_catalogue_lists_what_jobs_may_use():
    tools = {tool["name"]: tool for tool in client(user("ada")).get("/api/v1/tools").json()["results"]}
    shell = tools["shell.exec"]
    assert (shell["queue"], shell["offered"]) == ("shell", True)
    assert shell["schema"]["additionalProperties"] is False
    problem(client().get("/api/v1/tools"), 401, "not_authenticated")
