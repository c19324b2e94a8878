"""A package that brings a grader, as an installer leaves it: its module and its metadata in a folder."""

from pathlib import Path

MODULE = '''
import os, sys, time
import pydantic

class Levenshtein:
    """1 less the edits as a share of `most`; what it does to some answers is a test's to want."""

    class Settings(pydantic.BaseModel):
        model_config = {"extra": "forbid"}
        most: int = pydantic.Field(default=3, ge=1)

    def __init__(self, settings):
        self.most = settings.most

    def grade(self, sample, reference):
        if sample == "sleep":
            time.sleep(60)
        if sample == "leave":
            os._exit(0)
        if sample == "raise":
            raise RuntimeError("<script>no</script>")
        if sample in ("text", "nan", "huge"):
            return {"text": "much", "nan": float("nan"), "huge": 9e99}[sample]
        if sample == "print":
            print('[1.0, ""]')
            sys.stdout.flush()
        if sample == "read":
            sys.stdin.read()
        if sample == "environment":
            return float(any("TOKEN" in name or "KEY" in name for name in os.environ))
        if sample == "memory":
            return len(bytearray(2**34))
        if not reference.isalpha():
            return None
        before = list(range(len(reference) + 1))
        for row, letter in enumerate(sample, start=1):
            now = [row]
            for column, other in enumerate(reference, start=1):
                now.append(min(before[column] + 1, now[-1] + 1, before[column - 1] + (letter != other)))
            before = now
        return 1 - before[-1] / self.most

class Broken:
    def __init__(self, settings):
        """It has no Settings."""
'''
METADATA = "Metadata-Version: 2.1\nName: acme-graders\nVersion: 1.2\n"
ENTRY_POINTS = "[meteor.graders]\nlevenshtein = acme_graders:Levenshtein\nbroken = acme_graders:Broken\nabsent = acme_absent:Grader\n"


def install(folder: Path) -> Path:
    """The folder, which belongs on the path."""
    (folder / "acme_graders.py").write_text(MODULE)
    metadata = folder / "acme_graders-1.2.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(METADATA)
    (metadata / "entry_points.txt").write_text(ENTRY_POINTS)
    (metadata / "INSTALLER").write_text("test\n")
    return folder
