"""The catalogue: what a caller may meet at the door: bodies, tokens, limits, states of a resource."""

from dataaggregator.catalogue.entry import Entry

CALLS: dict[str, Entry] = {
    "already-exists": Entry("The name is taken", "Choose another name, or change the one that is there."),
    "already-member": Entry("Already a member", "Nothing to do; PUT …/members/{user} changes the role."),
    "api-key-for-another": Entry(
        "The key would speak for another", "Let them make it, or make a service account and a key for that."
    ),
    "api-key-invalid": Entry(
        "The API key is not valid", "Compare it with GET /api/api-keys: make a new one where it is gone or has run out."
    ),
    "api-key-not-found": Entry("No such API key", "List those of the workspace with GET /api/api-keys."),
    "body-incomplete": Entry("The body did not arrive", "Send the whole body, in the encoding its headers name."),
    "body-invalid": Entry("Wrong fields in the body", "Correct every field named under errors and send it again."),
    "body-too-large": Entry("The body is too large", "Send less at once; the limit is named in the detail."),
    "config-invalid": Entry(
        "Wrong fields in the configuration",
        "Correct every field named under errors; GET /api/connector-types shows what each type takes.",
    ),
    "conflict": Entry("Not possible in this state", "Look at the present state of the resource, then decide again."),
    "csrf-token-missing": Entry(
        "The call may be forged",
        "Send X-CSRF-Token with what POST /api/auth/login or GET /api/auth/me gave as csrf_token.",
    ),
    "csrf-token-wrong": Entry(
        "The call may be forged", "The token is of another session: take the present one from GET /api/auth/me."
    ),
    "cursor-invalid": Entry(
        "The cursor is not one of ours", "Begin again without cursor and go on with next_cursor as it is given."
    ),
    "delivery-unknown": Entry(
        "No such delivery",
        "List those of the webhook with GET /api/webhooks/{webhook}/deliveries; they are kept a week.",
    ),
    "email-taken": Entry(
        "The e-mail is taken", "Use another e-mail, or let the existing user into the workspace as a member."
    ),
    "encoding-invalid": Entry("Not UTF-8 text", "Send addresses, headers and bodies as UTF-8."),
    "header-invalid": Entry("A header is wrong", "Correct the header named under errors."),
    "hook-unknown": Entry(
        "There is no such hook",
        "Ask for a new address with POST /api/pipelines/{pipeline}/hook/rotate; the pipeline needs the trigger "
        "{webhook: true}.",
    ),
    "idempotency-in-flight": Entry(
        "The first request is still at work", "Wait for it; the same request with the same key then gets its answer."
    ),
    "idempotency-key-invalid": Entry(
        "The Idempotency-Key is wrong",
        "Send 1 to 255 printable ASCII characters, a new random one for each thing to be done.",
    ),
    "idempotency-key-reused": Entry(
        "The key belongs to another request", "Take a new Idempotency-Key for a request that is not the same."
    ),
    "identifier-invalid": Entry(
        "The other system cannot hold this name", "Choose a shorter name, or rename the column in a step."
    ),
    "internal-error": Entry(
        "An error of ours",
        "Repeat the call once; if it stays, report it with the trace_id, which finds it in the logs.",
    ),
    "invalid-credentials": Entry(
        "Wrong e-mail or password",
        "Check both; an administrator can let you set a new password with POST /api/users/{user}/password-reset. If "
        "there is none who can log in, whoever has the machine can: `dataaggregator users reset-password` on it.",
    ),
    "json-malformed": Entry("The body is not JSON", "Send one JSON document; the detail names the place."),
    "keys-not-ready": Entry(
        "Tokens cannot be signed yet", "Wait a moment; if it stays, check that the auth service reaches its database."
    ),
    "last-admin": Entry("The last administrator", "Make another active user admin of that workspace first."),
    "length-required": Entry("The body was cut off", "Send the whole body that Content-Length announces."),
    "login-busy": Entry("Too many logins at once", "Try again in a moment."),
    "media-type-unsupported": Entry("The body is of another kind", "Send Content-Type: application/json."),
    "member-not-found": Entry("Not a member", "List the workspace's members to see who is."),
    "method-not-allowed": Entry("Not with this method", "Use one of the methods that the Allow header names."),
    "no-workspace": Entry(
        "No workspace", "Name one in the X-Workspace header, or ask an administrator to make you a member of one."
    ),
    "not-found": Entry("Not there", "Check the id or name and the workspace; what is not yours looks the same."),
    "oidc-email-taken": Entry(
        "The e-mail is another way's",
        "Log in with the password; whoever runs the platform can join such users by OIDC_JOIN_BY_EMAIL, or an "
        "administrator gives that user another e-mail.",
    ),
    "oidc-email-unverified": Entry(
        "The provider has not verified your e-mail",
        "Let the identity provider verify it, and say email and email_verified to this platform (OIDC_SCOPES).",
    ),
    "oidc-login-invalid": Entry(
        "This login cannot be ended",
        "Begin again with GET /api/auth/oidc/login, in one window of the browser, and come back within ten minutes.",
    ),
    "oidc-login-weak": Entry(
        "The login at the provider was too weak",
        "Log in at the identity provider with a second factor, then begin again here. Who runs the platform compares "
        "OIDC_STRENGTH with what the provider's id tokens say as acr and amr.",
    ),
    "oidc-not-configured": Entry(
        "No login by an identity provider", "Log in with e-mail and password; OIDC_ISSUER names a provider."
    ),
    "oidc-not-permitted": Entry(
        "You have no role here",
        "Ask whoever looks after the identity provider for a group that OIDC_ROLES names, or an administrator here.",
    ),
    "oidc-provider-unavailable": Entry(
        "The identity provider does not answer",
        "Try again soon; see whether it runs and auth reaches it. Passwords, keys and sessions go on meanwhile.",
    ),
    "oidc-provider-unusable": Entry(
        "The identity provider cannot be used",
        "Compare what the detail says with OIDC_ISSUER, OIDC_CLIENT_ID, OIDC_CLIENT_SECRET, OIDC_REDIRECT_URL and "
        "OIDC_ALGORITHM, and a private address with EGRESS_ALLOW.",
    ),
    "oidc-refused": Entry(
        "The identity provider did not log you in", "Begin again with GET /api/auth/oidc/login; else ask who runs it."
    ),
    "oidc-token-invalid": Entry(
        "The provider's token cannot be believed",
        "Begin again; if it stays, compare clocks, OIDC_ISSUER, OIDC_CLIENT_ID and OIDC_ALGORITHM with the provider.",
    ),
    "origin-refused": Entry(
        "A page of another origin calls",
        "Serve the page from the gateway's own origin, or name its origin in CORS_ORIGINS.",
    ),
    "password-login-off": Entry(
        "You log in by the identity provider",
        "Begin with GET /api/auth/oidc/login. Should the provider be lost, OIDC_ONLY=false lets passwords in again.",
    ),
    "password-refused": Entry(
        "The password cannot be taken",
        "Take a longer one that says nothing of you, such as four words drawn by chance. All that is wrong with this "
        "one stands under errors.",
    ),
    "password-wrong": Entry(
        "The present password is not right", "Give the one you log in with; an administrator can let you set a new one."
    ),
    "path-invalid": Entry("The address is wrong", "Correct the part of the path named under errors."),
    "permission-denied": Entry(
        "You may not do this", "Ask an administrator of the workspace for a role with the permission named."
    ),
    "rate-limited": Entry(
        "Too many requests",
        "Wait for the seconds in Retry-After; RateLimit-* tell what is left. An administrator sees whose limits are "
        "used up by `dataaggregator rate-limits show`, and lets somebody go on by `rate-limits clear`.",
    ),
    "refresh-invalid": Entry("The refresh token is not valid", "Log in again with e-mail and password."),
    "refresh-reused": Entry(
        "A refresh token was used twice",
        "Log in again; if nobody of yours used the token twice, somebody else had it: change the password.",
    ),
    "request-malformed": Entry("Not an HTTP request", "Send a well-formed HTTP/1.1 request."),
    "reset-invalid": Entry(
        "The token sets no password",
        "Ask an administrator for a new one (`dataaggregator users reset-password`); each is good once, for an hour "
        "unless set otherwise.",
    ),
    "route-unknown": Entry("No such address", "See GET /api/docs for every address there is."),
    "service-account": Entry(
        "A service account has no password",
        "Make an API key for it with POST /api/api-keys; programs log in with that.",
    ),
    "session-ended": Entry("The session has ended", "Log in again."),
    "signature-invalid": Entry(
        "The call is not signed as it should be",
        "Sign webhook-id, webhook-timestamp and the body with the present secret, by Standard Webhooks, and send it "
        "within five minutes.",
    ),
    "token-invalid": Entry("The token is not valid", "Log in again, or refresh, and send the new access token."),
    "token-missing": Entry("Not logged in", "Send Authorization: Bearer with an access token of POST /api/auth/login."),
    "user-inactive": Entry(
        "The account is deactivated", "Ask an administrator to activate it with PATCH /api/users/{user}."
    ),
    "user-not-found": Entry("No such user", "Check the id or e-mail; users of other workspaces are not shown."),
    "user-of-another-workspace": Entry(
        "The account belongs to another workspace",
        "Ask an administrator of its home workspace; here only the membership can be changed.",
    ),
    "version-stale": Entry(
        "Somebody else changed it first", "Read it again, look at what changed, and send your change with the new ETag."
    ),
    "webhook-disabled": Entry(
        "The webhook was given up",
        "Look at its disabled_reason, put the receiver right, and save the webhook: what waits is delivered then.",
    ),
    "webhook-unknown": Entry(
        "No such webhook", "Check the name or id with GET /api/webhooks; a webhook lives in one workspace."
    ),
    "workspace-denied": Entry("Not your workspace", "Name a workspace you are a member of in X-Workspace."),
    "workspace-not-found": Entry(
        "No such workspace", "List the workspaces you are a member of; what is not yours looks the same."
    ),
}
