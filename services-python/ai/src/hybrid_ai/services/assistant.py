"""AssistantService: answers from documents with citations, and chat."""

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Any

from hybrid.ai.v1 import assistant_service_pb2 as pb
from hybrid.ai.v1 import assistant_service_pb2_grpc

from hybrid_ai.errors import InvalidArgument, Overloaded, PublicError, Unavailable
from hybrid_ai.models.language_model import Generation, Usage
from hybrid_ai.services.checks import Violations, check_length
from hybrid_ai.services.edge import current_call
from hybrid_ai.services.search_checks import check_collections, collections
from hybrid_ai.serving.fallback import begin
from hybrid_ai.serving.generation import Generator
from hybrid_ai.store.access import access_for
from hybrid_ai.store.answer import Extractor, Reading
from hybrid_ai.store.database import Found
from hybrid_ai.store.index import DocumentIndex, Query

MAX_QUESTION, MAX_CITATIONS, DEFAULT_CITATIONS = 4096, 10, 3
MAX_MESSAGES, MAX_CHARACTERS = 64, 16_384
MAX_TOKENS, DEFAULT_TOKENS = 1024, 256
MAX_TEMPERATURE, DEFAULT_TEMPERATURE = 2.0, 0.2
ANSWER_TOKENS = 512

EXTRACTIVE = "extractive"
NOT_FOUND = "The documents that you may read do not seem to answer this question."
FALLBACK_NOTICE = "The configured model is not available now."
REFUSED_NOTICE = "The configured model did not take the question with its passages."
_INSTRUCTIONS = (
    "Answer the question from the numbered passages alone. After each statement write the number of the passage that it"
    " rests on in square brackets, for example [1]. If the passages do not hold the answer, say so."
)
_ROLES = {pb.CHAT_ROLE_SYSTEM: "system", pb.CHAT_ROLE_USER: "user", pb.CHAT_ROLE_ASSISTANT: "assistant"}
_FINISH = {"stop": pb.FINISH_REASON_STOP, "length": pb.FINISH_REASON_LENGTH}


class AssistantService(assistant_service_pb2_grpc.AssistantServiceServicer):
    """Implements hybrid.ai.v1.AssistantService.

    `chat` are who writes chats, in order of preference; `writers`, where given, write answers instead of extracting
    them, and `fallback` says whether an answer is extracted when they fail.
    """

    def __init__(
        self,
        index: DocumentIndex,
        extractor: Extractor,
        chat: Sequence[Generator],
        writers: Sequence[Generator],
        fallback: bool,
    ) -> None:
        self._index = index
        self._extractor = extractor
        self._chat = chat
        self._writers = writers
        self._fallback = fallback

    async def Answer(self, request: pb.AnswerRequest, context: Any) -> AsyncIterator[pb.AnswerResponse]:
        _check_question(request)
        call = current_call()
        limit = request.max_citations or DEFAULT_CITATIONS
        named = collections(request.collection, request.collections)
        query = Query(request.question, access_for(call.identity, ()), limit, collections=named)
        hits = await self._index.search(query)
        call.add_timing("queue", hits.timing.queue)
        call.add_timing("inference", hits.timing.inference)
        passages = [found for found, _ in hits.found]
        reading = self._extractor.read(request.question, [passage.text for passage in passages], hits.vector)
        writes = self._writers and passages
        events = self._write(request, passages, reading) if writes else self._extract(passages, reading)
        async with contextlib.aclosing(events):
            async for event in events:
                yield event

    async def Chat(self, request: pb.ChatRequest, context: Any) -> AsyncIterator[pb.ChatResponse]:
        # A full queue or a refused prompt is a status, not a broken stream.
        begun = await begin(self._chat, _generation(request))
        async with contextlib.aclosing(begun):
            notice = f"{FALLBACK_NOTICE} {begun.writer.notice}" if begun.fallback else begun.writer.notice
            yield pb.ChatResponse(started=pb.ChatStarted(model=begun.writer.model, notice=notice))
            async for piece in begun:
                yield _chat_event(piece)

    async def _extract(
        self, passages: list[Found], reading: Reading, notice: str = ""
    ) -> AsyncGenerator[pb.AnswerResponse, None]:
        """With a notice the citations were sent before; else they come as soon as an answer is certain."""
        cited = bool(notice)
        if not cited and await reading.certain():
            cited = True
            for event in _citations(passages):
                yield event
        sentences = await reading.extract()
        if sentences and not cited:
            for event in _citations(passages):
                yield event
        for position, sentence in enumerate(sentences):
            text = sentence.text if position == 0 else " " + sentence.text
            yield pb.AnswerResponse(delta=pb.AnswerDelta(text=text, citations=[sentence.passage + 1]))
        if not sentences:
            yield pb.AnswerResponse(delta=pb.AnswerDelta(text=NOT_FOUND))
        completed = pb.AnswerCompleted(model=EXTRACTIVE, found=bool(sentences), notice=notice)
        yield pb.AnswerResponse(completed=completed)

    async def _write(
        self, request: pb.AnswerRequest, passages: list[Found], reading: Reading
    ) -> AsyncGenerator[pb.AnswerResponse, None]:
        """Citations come at once; a writer that fails before its first piece is replaced by extraction."""
        for event in _citations(passages):
            yield event
        numbered = "\n\n".join(f"[{number}] {passage.text}" for number, passage in enumerate(passages, 1))
        messages = [("system", _INSTRUCTIONS), ("user", f"{numbered}\n\nQuestion: {request.question}")]
        try:
            begun = await begin(self._writers, Generation(messages, ANSWER_TOKENS, DEFAULT_TEMPERATURE, None))
        except (InvalidArgument, Overloaded, Unavailable) as error:
            if not self._fallback:
                raise _about_the_question(error) from None
            notice = REFUSED_NOTICE if isinstance(error, InvalidArgument) else FALLBACK_NOTICE
            async with contextlib.aclosing(self._extract(passages, reading, notice)) as events:
                async for event in events:
                    yield event
            return
        async with contextlib.aclosing(begun):
            async for piece in begun:
                if isinstance(piece, str):
                    yield pb.AnswerResponse(delta=pb.AnswerDelta(text=piece))
        # Whether the passages hold the answer is for the text to say: nobody here has judged it.
        yield pb.AnswerResponse(completed=pb.AnswerCompleted(model=begun.writer.model, found=True))


def _about_the_question(error: PublicError) -> PublicError:
    """The error as it concerns who asks: they did not write the messages that the writer refused."""
    if not isinstance(error, InvalidArgument):
        return error
    return InvalidArgument([("question", f"and its passages {description}") for _, description in error.violations])


def _citations(passages: list[Found]) -> list[pb.AnswerResponse]:
    return [
        pb.AnswerResponse(
            citation=pb.Citation(
                number=number,
                document_id=passage.document_id,
                title=passage.title,
                uri=passage.uri,
                passage=passage.text,
            )
        )
        for number, passage in enumerate(passages, 1)
    ]


def _chat_event(piece: str | Usage) -> pb.ChatResponse:
    if isinstance(piece, str):
        return pb.ChatResponse(delta=pb.ChatDelta(text=piece))
    completed = pb.ChatCompleted(
        finish_reason=_FINISH[piece.finish],
        prompt_tokens=piece.prompt_tokens,
        completion_tokens=piece.completion_tokens,
    )
    return pb.ChatResponse(completed=completed)


def _check_question(request: pb.AnswerRequest) -> None:
    violations: Violations = []
    check_length(violations, "question", request.question, 1, MAX_QUESTION)
    if not 0 <= request.max_citations <= MAX_CITATIONS:
        allowed = f"1 to {MAX_CITATIONS} are allowed, or 0 for {DEFAULT_CITATIONS}"
        violations.append(("max_citations", f"is {request.max_citations}; {allowed}"))
    check_collections(violations, request.collection, request.collections)
    if violations:
        raise InvalidArgument(violations)


def _generation(request: pb.ChatRequest) -> Generation:
    """The request, checked. Raises InvalidArgument."""
    violations: Violations = []
    messages = request.messages
    if not 1 <= len(messages) <= MAX_MESSAGES:
        violations.append(("messages", f"has {len(messages)} messages; 1 to {MAX_MESSAGES} are allowed"))
    total = sum(len(message.content) for message in messages)
    if total > MAX_CHARACTERS:
        violations.append(("messages", f"have {total} characters together; at most {MAX_CHARACTERS} are allowed"))
    for index, message in enumerate(messages):
        if message.role not in _ROLES:
            violations.append((f"messages[{index}].role", "is not system, user or assistant"))
        if not message.content:
            violations.append((f"messages[{index}].content", "is empty"))
    if messages and messages[-1].role != pb.CHAT_ROLE_USER:
        violations.append((f"messages[{len(messages) - 1}].role", "is not the user's; the last message must be"))
    if not 0 <= request.max_tokens <= MAX_TOKENS:
        allowed = f"1 to {MAX_TOKENS} are allowed, or 0 for {DEFAULT_TOKENS}"
        violations.append(("max_tokens", f"is {request.max_tokens}; {allowed}"))
    temperature = request.temperature if request.HasField("temperature") else DEFAULT_TEMPERATURE
    if not 0 <= temperature <= MAX_TEMPERATURE:
        violations.append(("temperature", f"is {temperature:g}; 0 to {MAX_TEMPERATURE:g} are allowed"))
    if violations:
        raise InvalidArgument(violations)
    return Generation(
        messages=[(_ROLES[message.role], message.content) for message in messages],
        max_tokens=request.max_tokens or DEFAULT_TOKENS,
        temperature=temperature,
        seed=request.seed if request.HasField("seed") else None,
    )
