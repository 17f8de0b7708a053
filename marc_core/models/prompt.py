"""The text of a prompt: question, options, answer template, in the model's own chat format.

The one place for how a question is put: the command line, notebooks, evaluation, training and
serving all use it. (The wording of Video-R1's benchmarks belongs to their protocol and stands in
`marc_core.evaluation`.)
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from marc_core.errors import AnswerError, ModelLoadError
from marc_core.question import Question, Turn

if TYPE_CHECKING:
    from marc_core.archive import SearchHit, VideoLength

VIDEO_MARK = "<|vision_start|><|video_pad|><|vision_end|>"
"""What the chat templates of all three families write where a video goes."""

PromptTemplate = Literal["letter", "choice"]

_LETTER = "Answer with the letter of the right option only."
_CHATML = (
    "{%- for message in messages -%}{{ '<|im_start|>' + message.role + '\n' }}"
    "{%- if message.content is string -%}{{ message.content }}{%- else -%}"
    "{%- for part in message.content -%}{%- if part.type == 'video' -%}{{ '" + VIDEO_MARK + "' }}"
    "{%- else -%}{{ part.text }}{%- endif -%}{%- endfor -%}{%- endif -%}"
    "{{ '<|im_end|>\n' }}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\n' }}{%- endif -%}"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Prompt:
    """How one question is put to the student.

    text: the user's turn beside the video. history: earlier turns, oldest first, all before the
    video. choices: the texts among which the answer is decoded; none where it is free.
    """

    text: str
    history: tuple[Turn, ...] = ()
    choices: tuple[str, ...] = ()


_CONTROL = re.compile(r"<\|[^|]*\|>")


def direct_prompt(question: Question, template: PromptTemplate) -> Prompt:
    """Return MARC's own prompt of a question. Raises AnswerError like `question_text`."""
    return Prompt(
        text=question_text(question.text, question.options, template=template),
        history=question.history,
        choices=tuple(choices_of(question.options)) if template == "choice" else (),
    )


def question_text(
    question: str, options: Sequence[str] = (), *, template: PromptTemplate = "letter"
) -> str:
    """Return the user's turn: the question, "Options:" lines A, B, ..., and the instruction.

    "letter" asks for the letter; "choice" is the question alone, whose answer is then decoded
    among the options (`choices_of`). Options that already carry their letter keep it. Raises
    AnswerError for an empty question, an option without words or with a control token (an answer
    decoded among options would be one), and more than 26 options.
    """
    if not question.strip():
        raise AnswerError("A question must not be empty. Got only white space.")
    if len(options) > 26:
        raise AnswerError(f"A question can have at most 26 options. Got {len(options)}.")
    for text in choices_of(options):
        if not text or _CONTROL.search(text):
            raise AnswerError(
                f"An option must be words, without control tokens such as <|im_end|>. Got '{text}'."
            )
    lines = [question.strip()]
    if options and template == "letter":
        lines.append("Options:")
        lines += [_option(chr(ord("A") + i), text) for i, text in enumerate(options)]
        lines.append(_LETTER)
    return "\n".join(lines)


def event_facts(events: Sequence[SearchHit], lengths: Mapping[str, VideoLength]) -> str:
    """Return one line an event on where it lies in its video, in whole seconds.

    lengths: of the events' videos. (Our choice; the share is where the event's middle lies, in
    steps of 5 per cent.)
    """
    lines = []
    for hit in events:
        whole = lengths[hit.video_id]
        start_s = hit.start_s - hit.video_start_s
        middle_s = (hit.start_s + hit.end_s) / 2 - hit.video_start_s
        share = 5 * round(20 * middle_s / whole.duration_s) if whole.duration_s > 0 else 0
        lines.append(
            f"Scene {hit.index + 1} of {whole.num_events}: {_seconds(hit.end_s - hit.start_s)} "
            f"long, at {_seconds(start_s)}, {share} %."
        )
    return "\n".join(lines)


def _seconds(seconds: float) -> str:
    whole = round(seconds)
    return "1 second" if whole == 1 else f"{whole} seconds"


def choices_of(options: Sequence[str]) -> list[str]:
    """Return the options without their letters: "B. blue" -> "blue"."""
    texts = (text.strip() for text in options)
    return [re.sub(_lettered(chr(ord("A") + i)), "", text) for i, text in enumerate(texts)]


def chat_text(
    tokenizer: Any, user_text: str, *, with_video: bool, history: Sequence[Turn] = ()
) -> str:
    """Return the full prompt up to the assistant's turn, with one VIDEO_MARK if with_video.

    history: earlier turns, oldest first; the video stands in the last turn. The tokenizer's own
    chat template is used where it has one, else plain ChatML. Special tokens inside texts are
    removed: a question must not open turns or visual blocks.
    """
    earlier = [
        {"role": turn.role, "content": [_text_part(tokenizer, turn.text)]} for turn in history
    ]
    content: list[dict[str, str]] = [{"type": "video"}] if with_video else []
    content.append(_text_part(tokenizer, user_text))
    text = tokenizer.apply_chat_template(
        [*earlier, {"role": "user", "content": content}],
        tokenize=False,
        add_generation_prompt=True,
        chat_template=tokenizer.chat_template or _CHATML,
    )
    if text.count(VIDEO_MARK) != int(with_video):
        raise ModelLoadError(
            f"The chat template must write {VIDEO_MARK} once for a video. Got {text[:200]!r}. "
            "Use the template of a Qwen2-VL, 2.5-VL or 3-VL checkpoint."
        )
    return str(text)


def _text_part(tokenizer: Any, text: str) -> dict[str, str]:
    return {"type": "text", "text": _without_special(tokenizer, text)}


def _option(letter: str, text: str) -> str:
    text = text.strip()
    return text if re.match(_lettered(letter), text) else f"{letter}. {text}"


def _lettered(letter: str) -> str:
    return rf"\(?{letter}[.):]\s+"


def _without_special(tokenizer: Any, text: str) -> str:
    added = {token for token in tokenizer.get_added_vocab() if token.startswith("<|")}
    special = sorted(added | set(tokenizer.all_special_tokens), key=len, reverse=True)
    previous = None
    while previous != text:
        previous = text
        for token in special:
            text = text.replace(token, "")
    return text
