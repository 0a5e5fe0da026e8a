"""What the API answers about conversations."""

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.reverse import reverse

from agents.llm.talk import PROPOSE
from agents.models import Conversation, ConversationLink, Job, Step
from agents.states import JobState, StepState
from approvals.models import ApprovalRequest


class ConversationSerializer(serializers.ModelSerializer[Conversation]):
    """A conversation. `running`: the turn that the agent is at; `summary`: what it is told of the turns up to
    `summarised_to`."""

    url = serializers.SerializerMethodField()
    page = serializers.SerializerMethodField()
    agent = serializers.CharField(source="agent.name", read_only=True)
    repository = serializers.CharField(source="repository.name", default=None, allow_null=True, read_only=True)
    owner = serializers.CharField(source="owner.username", read_only=True)
    running = serializers.UUIDField(allow_null=True, read_only=True)

    class Meta:
        model = Conversation
        fields = [
            "id",
            "url",
            "page",
            "title",
            "titled_by",
            "agent",
            "repository",
            "owner",
            "running",
            "summary",
            "summarised_to",
            "archived_at",
            "created_at",
            "said_at",
        ]
        read_only_fields = fields

    def get_url(self, talk: Conversation) -> str:
        return reverse("chat", kwargs={"talk_id": talk.pk}, request=self.context.get("request"))

    def get_page(self, talk: Conversation) -> str:
        request = self.context.get("request")
        path = talk.get_absolute_url()
        return request.build_absolute_uri(path) if request is not None else path


class QuestionSerializer(serializers.ModelSerializer[ApprovalRequest]):
    """What a job asks; it is answered as every request of its kind is."""

    question = serializers.CharField(source="command", read_only=True)

    class Meta:
        model = ApprovalRequest
        fields = ["id", "question", "state", "answer", "created_at", "expires_at"]
        read_only_fields = fields


class OfferSerializer(serializers.Serializer[Step]):
    """A job that the agent offers: send it to the conversation's jobs to start it."""

    step = serializers.UUIDField(source="pk", read_only=True)
    goal = serializers.CharField(source="arguments.goal", read_only=True)
    agent = serializers.CharField(source="arguments.agent", default=None, allow_null=True, read_only=True)
    repository = serializers.CharField(source="arguments.repository", default=None, allow_null=True, read_only=True)


class TurnSerializer(serializers.ModelSerializer[Job]):
    """A turn (kind `chat`), or a job that was started from the conversation. `message` is what the person said, `answer`
    what the agent says, "" while it is at it or where it failed; then `error` says why. `stream`: server-sent events."""

    job_url = serializers.SerializerMethodField()
    stream = serializers.SerializerMethodField()
    message = serializers.CharField(source="goal", read_only=True)
    answer = serializers.SerializerMethodField()
    error = serializers.SerializerMethodField()
    state = serializers.ChoiceField(choices=JobState.choices, read_only=True)
    conversation = serializers.UUIDField(source="conversation_id", read_only=True)
    questions = serializers.SerializerMethodField()
    offers = serializers.SerializerMethodField()

    class Meta:
        model = Job
        fields = [
            "id",
            "conversation",
            "kind",
            "message",
            "state",
            "answer",
            "error",
            "questions",
            "offers",
            "tokens_used",
            "cost_used",
            "created_at",
            "finished_at",
            "job_url",
            "stream",
        ]
        read_only_fields = fields

    def get_job_url(self, job: Job) -> str:
        return reverse("job", kwargs={"job_id": job.pk}, request=self.context.get("request"))

    def get_stream(self, job: Job) -> str:
        return reverse("job-stream", kwargs={"job_id": job.pk}, request=self.context.get("request"))

    def get_answer(self, job: Job) -> str:
        return job.outcome if job.state == JobState.SUCCEEDED else ""

    def get_error(self, job: Job) -> str:
        return job.outcome if job.done and job.state != JobState.SUCCEEDED else ""

    @extend_schema_field(QuestionSerializer(many=True))
    def get_questions(self, job: Job) -> list[dict[str, object]]:
        asked = ApprovalRequest.objects.filter(parent_id=str(job.pk), kind=ApprovalRequest.Kind.QUESTION)
        return list(QuestionSerializer(asked.order_by("created_at"), many=True).data)

    @extend_schema_field(OfferSerializer(many=True))
    def get_offers(self, job: Job) -> list[dict[str, object]]:
        steps = Step.objects.filter(job=job, tool=PROPOSE, state=StepState.SUCCEEDED).order_by("seq")
        return [OfferSerializer(step).data for step in steps]


class LinkSerializer(serializers.ModelSerializer[ConversationLink]):
    """A link to a conversation; its address was told when it was made."""

    created_by = serializers.CharField(source="created_by.username", read_only=True)

    class Meta:
        model = ConversationLink
        fields = ["id", "until", "created_by", "created_at", "expires_at", "revoked_at", "opened", "opened_at"]
        read_only_fields = fields


class NewLinkSerializer(LinkSerializer):
    """With its address: the only time that anybody sees it."""

    address = serializers.SerializerMethodField()

    class Meta(LinkSerializer.Meta):
        fields = [*LinkSerializer.Meta.fields, "address"]
        read_only_fields = fields

    def get_address(self, link: ConversationLink) -> str:
        return str(self.context["address"])
