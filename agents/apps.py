from django.apps import AppConfig


class AgentsConfig(AppConfig):
    name = "agents"

    def ready(self) -> None:
        from agents.accounts import records
        from agents.engine import resume
        from agents.llm.complete import Complete
        from agents.llm.think import Think
        from agents.triggers import emit
        from approvals import hooks
        from tools import registry

        hooks.on_decided(resume.decided)
        hooks.on_requested(emit.approval_requested)
        hooks.on_decided(emit.approval_decided)
        registry.register(Think())
        registry.register(Complete())
        records.connect()
