from django.apps import AppConfig


class ApprovalsConfig(AppConfig):
    name = "approvals"

    def ready(self) -> None:
        from approvals.selectors import request_ids
        from audit import related

        related.register("job", request_ids)
