"""What schemathesis checks beside its own: no server error that the request did not ask for."""

import schemathesis


@schemathesis.check
def no_unasked_server_error(ctx, response, case):
    """503 and 504 are answers that a request can ask for; 500 never is."""
    if response.status_code < 500:
        return
    query = case.query or {}
    asked = {
        # A state no older than this; a node that is alone leads, but its clock ticks.
        503: "freshness" in query,
        # An index that is not there yet; a time that is too short; an event of the future.
        504: any(name in query for name in ("min_index", "timeout", "after")) or "Last-Event-ID" in (case.headers or {}),
    }
    assert asked.get(response.status_code, False), f"{response.status_code}: {response.text[:200]}"
