"""The generated code is what the proto says, and its name on the wire is the public one."""

from __future__ import annotations

from pathlib import Path

from llmservice_api.names import GRPC_SERVICE
from llmservice_sidecar.wire.llmservice.inference.v1alpha1 import inference_pb2 as pb

PROTO = Path(pb.__file__).with_name("inference.proto")


def test_service_has_its_public_name_and_methods() -> None:
    service = pb.DESCRIPTOR.services_by_name["InferenceService"]
    assert service.full_name == GRPC_SERVICE
    assert [m.name for m in service.methods] == ["Generate", "Predict", "GetQueue", "WatchQueue"]


def test_every_message_field_has_its_own_number() -> None:
    messages = pb.DESCRIPTOR.message_types_by_name.values()
    assert len(messages) > 10
    for message in messages:
        numbers = [f.number for f in message.fields]
        assert len(numbers) == len(set(numbers)), message.name


def test_every_method_is_documented() -> None:
    lines = PROTO.read_text().splitlines()
    methods = [i for i, line in enumerate(lines) if line.strip().startswith("rpc ")]
    assert methods
    assert all(lines[i - 1].strip().startswith("//") for i in methods)
