"""Any goal but the demo's: an honest look around, and how to get a real model."""

from agents.llm.scripted.scene import Ask, Move, Scene

WHO = "This is the scripted stand-in, not a model."
HOW = (
    "It cannot work on goals of its own. To connect a model, set OPENAI_BASE_URL, OPENAI_API_KEY and LLM_MODEL to any "
    "OpenAI-compatible endpoint (OpenAI, vLLM, Ollama, llama.cpp) and start again."
)


def move(scene: Scene) -> Move:
    """Reads what can be read without asking anybody, then finishes without success."""
    if not scene.done:
        looks = [
            Ask(name=name, arguments={}, reason="To see what is here.")
            for name in ("files.list", "git.log")
            if scene.has(name)
        ]
        if looks:
            return Move(words=f"{WHO} I only look around.", asks=tuple(looks))
    return finish(f"{WHO} {HOW} {_seen(scene)}".strip(), success=False)


def finish(summary: str, *, success: bool) -> Move:
    return Move(words=summary, asks=(Ask(name="finish", arguments={"success": success, "summary": summary}),))


def _seen(scene: Scene) -> str:
    listed, log = scene.last("files.list"), scene.last("git.log")
    parts = []
    if listed is not None and listed.ok:
        parts.append(f"{sum(1 for line in listed.text.splitlines() if line.strip())} lines of file names")
    if log is not None and log.ok:
        parts.append("the git history")
    return f"I read {' and '.join(parts)}, and changed nothing." if parts else "I changed nothing."
