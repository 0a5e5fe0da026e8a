from django.apps import AppConfig


class AgentsConfig(AppConfig):
    name = "agents"

    def ready(self) -> None:
        from agents.engine import resume
        from agents.llm.think import Think
        from approvals import hooks
        from tools import registry

        hooks.on_decided(resume.decided)
        registry.register(Think())
