from django.apps import AppConfig


class CampaignConfig(AppConfig):
    name = "bench.campaign"
    label = "campaign"

    def ready(self) -> None:
        from bench.campaign.tools import TOOLS
        from tools import registry

        for tool in TOOLS:
            registry.register(tool)
