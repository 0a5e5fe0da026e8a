from django.apps import AppConfig


class AgentsConfig(AppConfig):
    name = "agents"

    def ready(self) -> None:
        from agents.accounts import records
        from agents.chat.tools import Propose, Summarise, Title
        from agents.engine import asked, denied, holders, origins, recorded, resume
        from agents.evolution import tools as evolution
        from agents.llm.compact import Compact
        from agents.llm.complete import Complete
        from agents.llm.think import Think
        from agents.memory import learn, learning
        from agents.memory import tools as memory
        from agents.planning import tools as planning
        from agents.planning.drafting import DraftWorkflow
        from agents.prompts.tool import AskByPrompt
        from agents.selectors import recorded_about
        from agents.triggers import emit
        from approvals import hooks
        from approvals.policy import recorded as decisions
        from audit import related
        from tools import registry, secrets
        from tools.builtin.git import remotes

        hooks.on_decided(resume.decided)
        hooks.on_decided(denied.decided)  # after the step was settled
        hooks.on_decided(learning.decided)
        hooks.on_taken_back(resume.taken_back)
        hooks.on_edit(resume.edited)
        hooks.on_asked_back(asked.ask)
        hooks.on_requested(emit.approval_requested)
        hooks.on_decided(emit.approval_decided)
        decisions.register(recorded.Steps())
        registry.register(Think())
        registry.register(Complete())
        registry.register(Compact())
        for one in (AskByPrompt(), *evolution.ALL, *planning.ALL, DraftWorkflow()):
            registry.register(one)
        registry.register(Title())
        registry.register(Summarise())
        registry.register(Propose())
        for tool in (memory.Search(), memory.Propose(), memory.Admit(), learn.Learn()):
            registry.register(tool)
        records.connect()
        secrets.told_by(holders.holder_of)
        remotes.known_by(origins.addresses)
        related.register("job", recorded_about)
