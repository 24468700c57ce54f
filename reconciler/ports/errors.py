"""The two ways in which a request to the machine fails."""


class ObservationError(Exception):
    """A question could not be answered. It becomes `Unknown`, never absence; the text is the reason."""


class ActionError(Exception):
    """A request was not carried out, or its answer was lost; the next tick looks what is true.

    `cause` is a kebab-case class for the restart budget. A `permanent` failure is not retried until the spec
    changes or a person says `retry`.
    """

    def __init__(self, cause: str, message: str, *, permanent: bool = False) -> None:
        super().__init__(message)
        self.cause = cause
        self.message = message
        self.permanent = permanent
