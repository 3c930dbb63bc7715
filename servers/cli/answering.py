"""Answers what a run waits for."""

import json
from dataclasses import dataclass

from astromesh.agents.v1 import ask_pb2 as pb
from astromesh.agents.v1.agent_service_pb2_grpc import AgentServiceStub
from google.protobuf.json_format import ParseDict

from servers.cli.choices import Output
from servers.cli.client import PATIENCE, connected
from servers.cli.runs import show_run
from servers.kernel.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class Answer:
    """What somebody has said on the command line."""

    approve: bool
    reject: str | None
    result: str | None
    failed: bool
    call: str
    arguments: str

    def request(self, run: str, wait: bool) -> pb.ResumeRunRequest:
        """Raises InvalidInput where it is not one answer."""
        said = {
            "approve": self.approve,
            "reject": self.reject is not None,
            "result": self.result is not None,
        }
        verdicts = [verdict for verdict, is_said in said.items() if is_said]
        if len(verdicts) != 1:
            raise InvalidInput("say one of --approve, --reject REASON and --result TEXT")
        if self.failed and self.result is None:
            raise InvalidInput("--failed goes with --result")
        request = pb.ResumeRunRequest(
            run=run,
            call_id=self.call,
            verdict=verdicts[0],
            reason=self.reject or "",
            content=self.result or "",
            is_error=self.failed,
            wait=wait,
        )
        if self.arguments:
            ParseDict(_object(self.arguments), request.arguments)
        return request


def _object(text: str) -> dict[str, object]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise InvalidInput(f"--arguments is no JSON: {error}") from error
    if not isinstance(value, dict):
        raise InvalidInput("--arguments is no JSON object")
    return value


async def resume_run(address: str, run: str, answer: Answer, wait: bool, form: Output) -> None:
    request = answer.request(run, wait)
    async with connected(address) as channel:
        # One that waits for the end of the run has as much time as the run.
        timeout = None if wait else PATIENCE
        found = await AgentServiceStub(channel).ResumeRun(request, timeout=timeout)
    show_run(found, form)
