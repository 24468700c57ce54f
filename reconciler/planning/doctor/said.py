"""The words in which a finding is made."""

from reconciler.model.doctor import Complaint, Finding, Opinion


def ok(text: str) -> Finding:
    """Nothing stands against it."""
    return Finding(opinion=Opinion.OK, text=text)


def warning(reference: str, text: str, fix: str) -> Finding:
    """It works today."""
    return Finding(opinion=Opinion.WARNING, text=text, fix=fix, reference=reference)


def problem(reference: str, text: str, fix: str) -> Finding:
    """It does not work, or harms."""
    return Finding(opinion=Opinion.PROBLEM, text=text, fix=fix, reference=reference)


def unknown(reason: str) -> Finding:
    """It could not be looked at."""
    return Finding(opinion=Opinion.UNKNOWN, text=reason, reference="not-seen")


def complained(complaint: Complaint) -> Finding:
    """Something said itself what is wrong."""
    return problem(complaint.reference, complaint.message, complaint.hint)


def quoted(path: str) -> str:
    """A path as a shell takes it."""
    return "'" + path.replace("'", "'\\''") + "'"
