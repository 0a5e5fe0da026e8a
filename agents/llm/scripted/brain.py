"""Which script answers which goal."""

from agents.demo import GOAL
from agents.llm.scripted import answers, chatting, demo, look, planning, team
from agents.llm.scripted.scene import Move, Scene


def move(scene: Scene) -> Move:
    """The next answer. Told by the conversation alone: the server keeps nothing between requests."""
    if planning.asked(scene):
        return planning.move(scene)
    if answers.asked(scene):
        return answers.move(scene)
    if chatting.asked(scene):
        return chatting.move(scene)
    if _plain(scene.goal) == _plain(GOAL) and all(scene.has(name) for name in demo.NEEDS):
        return demo.move(scene)
    return team.move(scene) or look.move(scene)


def _plain(text: str) -> str:
    return " ".join(text.lower().replace(",", " ").strip(" .!").split())
