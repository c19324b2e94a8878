"""The settings of the steps that an export is made of."""

from pydantic import Field

from shared.contracts.steps import ModelRef, Wire


class MergeParams(Wire):
    """For train.merge: the adapter laid into the base's weights, both asked the same. keep: whether the merged model is
    wanted too, or only the comparison."""

    model: ModelRef
    keep: bool
    max_new_tokens: int = Field(default=32, ge=1, le=1024)


class GgufParams(Wire):
    """For train.gguf. folder: the content hash of a model's folder."""

    folder: str


class PushParams(Wire):
    """For train.push. export: the content hash of an export's index. job: makes every push a step of its own, since what a
    hub holds is not ours to know."""

    job: str
    export: str
    repo: str
    private: bool
