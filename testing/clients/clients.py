"""Real Python clients against a running `shoal up`, whose model is random numbers.

Usage: clients.py URL [CHECK…]. The answers mean nothing; their shapes must be what each client
expects, and calls of tools must be calls of tools that were offered.
"""

import json
import os
import sys

# Prices of other models are not looked up.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

from anthropic import Anthropic
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_openai import ChatOpenAI
from openai import BadRequestError, OpenAI
import litellm
import llm
from llm.default_plugins.openai_models import Chat
from pydantic import SecretStr

URL = sys.argv[1]
V1 = f"{URL}/v1"
KEY = "none"
CITY = {
    "type": "object",
    "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}},
    "required": ["city"],
    "additionalProperties": False,
}
HELLO = [{"role": "user", "content": "Hello"}]
TURNS = 10


def tool(name):
    return {"type": "function", "function": {"name": name, "parameters": CITY, "strict": True}}


def openai_client():
    # Every field of every answer is checked against the published types.
    return OpenAI(base_url=V1, api_key=KEY, _strict_response_validation=True, max_retries=0)


def openai_chat():
    client = openai_client()
    model = client.models.list().data[0].id
    answer = client.chat.completions.create(
        model=model, messages=HELLO, max_completion_tokens=8, seed=1, n=2, logprobs=True,
        top_logprobs=2, stop=["\x00\x01"], temperature=0.5, logit_bias={"70": 1},
        frequency_penalty=0.1, presence_penalty=0.1, top_p=0.9, user="me",
    )
    assert len(answer.choices) == 2 and answer.usage.completion_tokens > 0
    assert answer.choices[0].logprobs.content[0].top_logprobs
    again = client.chat.completions.create(
        model=model, messages=HELLO, max_completion_tokens=8, seed=1, temperature=0.5,
        stream=True, stream_options={"include_usage": True},
    )
    chunks = list(again)
    assert chunks[-1].usage.completion_tokens > 0
    form = {"type": "json_schema", "json_schema": {"name": "c", "schema": CITY, "strict": True}}
    for seed in range(5):
        answer = client.chat.completions.create(
            model=model, messages=HELLO, max_tokens=200, seed=seed, response_format=form
        )
        if answer.choices[0].finish_reason == "stop":
            assert json.loads(answer.choices[0].message.content)["city"] in ("Paris", "Rome")
    try:
        client.chat.completions.create(model=model, messages=HELLO, extra_body={"temprature": 1})
        raise AssertionError("an unknown parameter was accepted")
    except BadRequestError as error:
        assert error.param == "temprature"


def openai_others():
    client = openai_client()
    text = client.completions.create(model="tools", prompt=["a", "b"], max_tokens=4, logprobs=2)
    assert len(text.choices) == 2
    # The client's type of this stream has no `null` before its end, which the API it is made for
    # sends too, so it is not checked here.
    loose = OpenAI(base_url=V1, api_key=KEY, max_retries=0)
    list(loose.completions.create(model="tools", prompt="a", max_tokens=4, stream=True))
    vectors = client.embeddings.create(
        model="tools", input=["a", "b"], encoding_format="float"
    )
    assert len(vectors.data) == 2 and len(vectors.data[0].embedding) > 1
    assert client.models.retrieve("tools").id == "tools"


def openai_responses():
    client = openai_client()
    answer = client.responses.create(model="tools", input="Hello", max_output_tokens=8)
    assert answer.status in ("completed", "incomplete") and answer.output[0].type == "message"
    events = list(client.responses.create(
        model="tools", input="Hello", max_output_tokens=8, stream=True
    ))
    assert events[0].type == "response.created"
    assert events[-1].type in ("response.completed", "response.incomplete")
    flat = [{"type": "function", "name": name, "parameters": CITY, "strict": True}
            for name in ("weather", "time")]
    items = [{"role": "user", "content": "Hello"}]
    for _ in range(3):
        with client.responses.stream(
            model="tools", input=items, tools=flat, tool_choice="required",
            parallel_tool_calls=False,
        ) as stream:
            for _ in stream:
                pass
            answer = stream.get_final_response()
        calls = [item for item in answer.output if item.type == "function_call"]
        assert len(calls) == 1 and json.loads(calls[0].arguments)["city"] in ("Paris", "Rome")
        items.append({"type": "function_call", "call_id": calls[0].call_id,
                      "name": calls[0].name, "arguments": calls[0].arguments})
        items.append({"type": "function_call_output", "call_id": calls[0].call_id,
                      "output": "sunny"})


def openai_agent():
    """An agent of ten turns, each of which calls a tool; every second one is streamed."""
    client = openai_client()
    messages = list(HELLO)
    for turn in range(TURNS):
        ask = dict(
            model="tools", messages=messages, tools=[tool("weather"), tool("time")],
            tool_choice="required", parallel_tool_calls=False, seed=turn,
        )
        if turn % 2:
            with client.chat.completions.stream(**ask) as stream:
                for _ in stream:
                    pass
                choice = stream.get_final_completion().choices[0]
        else:
            choice = client.chat.completions.create(**ask).choices[0]
        assert choice.finish_reason == "tool_calls", choice
        (call,) = choice.message.tool_calls
        assert call.function.name in ("weather", "time")
        assert json.loads(call.function.arguments)["city"] in ("Paris", "Rome")
        messages.append(choice.message.model_dump(exclude_none=True, exclude={"parsed"}))
        for said in messages[-1]["tool_calls"]:
            said["function"].pop("parsed_arguments", None)
        messages.append({"role": "tool", "tool_call_id": call.id, "content": f"result {turn}"})
    end = client.chat.completions.create(
        model="tools", messages=messages, tools=[tool("weather")], tool_choice="none",
        max_tokens=8,
    )
    assert end.choices[0].message.tool_calls is None


def anthropic_messages():
    client = Anthropic(base_url=URL, api_key=KEY, _strict_response_validation=True, max_retries=0)
    answer = client.messages.create(model="tools", max_tokens=8, messages=HELLO, system="Be kind.")
    assert answer.content[0].type == "text" and answer.usage.output_tokens > 0
    with client.messages.stream(model="tools", max_tokens=8, messages=HELLO) as stream:
        text = "".join(stream.text_stream)
        assert stream.get_final_message().content[0].text == text
    letters = [chr(code) for code in range(ord("a"), ord("a") + 16)]
    stopped = client.messages.create(
        model="tools", max_tokens=300, messages=HELLO, stop_sequences=letters
    )
    if stopped.stop_reason == "stop_sequence":
        assert stopped.stop_sequence in letters
    tools = [{"name": name, "input_schema": CITY} for name in ("weather", "time")]
    messages = list(HELLO)
    for turn in range(3):
        choice = {"type": "any", "disable_parallel_tool_use": True}
        with client.messages.stream(
            model="tools", max_tokens=400, messages=messages, tools=tools, tool_choice=choice
        ) as stream:
            answer = stream.get_final_message()
        assert answer.stop_reason == "tool_use", answer
        (call,) = [block for block in answer.content if block.type == "tool_use"]
        assert call.input["city"] in ("Paris", "Rome")
        block = {"type": "tool_use", "id": call.id, "name": call.name, "input": call.input}
        messages.append({"role": "assistant", "content": [block]})
        result = {"type": "tool_result", "tool_use_id": call.id, "content": "sunny"}
        messages.append({"role": "user", "content": [result]})


def litellm_completion():
    ask = dict(model="openai/tools", api_base=V1, api_key=KEY, messages=HELLO, max_tokens=8)
    assert litellm.completion(**ask).usage.completion_tokens > 0
    assert list(litellm.completion(**ask, stream=True))
    answer = litellm.completion(
        model="openai/tools", api_base=V1, api_key=KEY, messages=HELLO,
        tools=[tool("weather")], tool_choice="required", parallel_tool_calls=False,
    )
    assert answer.choices[0].message.tool_calls[0].function.name == "weather"


def langchain_agent():
    model = ChatOpenAI(model="tools", base_url=V1, api_key=SecretStr(KEY), max_retries=0)
    assert model.invoke("Hello", max_tokens=8).response_metadata["token_usage"]
    assert list(model.stream("Hello", max_tokens=8))
    bound = model.bind_tools([tool("weather"), tool("time")], tool_choice="any")
    messages = [HumanMessage("Hello")]
    for _ in range(3):
        answer = bound.invoke(messages, parallel_tool_calls=False)
        assert answer.tool_calls[0]["args"]["city"] in ("Paris", "Rome")
        messages.append(answer)
        messages.extend(
            ToolMessage("sunny", tool_call_id=call["id"]) for call in answer.tool_calls
        )


def llm_prompt():
    model = Chat("tools", model_name="tools", api_base=V1, can_stream=True)
    model.key = KEY
    for stream in (True, False):
        assert isinstance(model.prompt("Hello", max_tokens=8, stream=stream).text(), str)
    assert llm.__name__


def main():
    only = sys.argv[2:]
    for check in (
        openai_chat, openai_others, openai_responses, openai_agent, anthropic_messages,
        litellm_completion, langchain_agent, llm_prompt,
    ):
        if only and check.__name__ not in only:
            continue
        check()
        print(f"ok {check.__name__}")


main()
