/** Types of `keyturn.js`. Fields in snake_case are those of the service's requests and answers (openapi.json). */

export interface KeyturnOptions {
  /** `KEYTURN_ISSUER`: the URL of the service. */
  issuer: string;
  /**
   * `cookie`: the refresh token is in a cookie that scripts cannot read, and so is a device token; the tabs of an
   * origin share one session, and `restoreSession` finds it after a reload. The page and the issuer must be of the
   * same site.
   * `memory`: the refresh token is a variable, which is lost when the page is closed or reloaded.
   */
  session: "cookie" | "memory";
  /** Origins beside the issuer's to which `fetch` sends the access token: those of your own services. */
  origins?: readonly string[];
}

/** JWT claims of the access token, for display. Services verify the token; a page does not. */
export interface User {
  readonly sub: string;
  readonly username: string;
  readonly sid: string;
  readonly roles: readonly string[];
  /** `aal2` if a second factor was proved in the session. */
  readonly acr: "aal1" | "aal2";
  readonly amr: readonly string[];
  /** Epoch seconds of the last login or step-up. */
  readonly auth_time: number;
}

export interface FieldProblem {
  readonly field: string;
  readonly message: string;
}

/** The error with which operations of this module reject. */
export class KeyturnError extends Error {
  constructor(code: string, message?: string, details?: Partial<KeyturnErrorDetails>);
  /**
   * A code of the service (docs/reference/errors.md), or one of this module: `network` (no answer, or one whose body
   * could not be read), `login_required` (no session), `user_changed` (another user has logged in in another tab;
   * the request was not sent as that user), `no_pending_token` (nothing waits for a code of this user),
   * `http_error` (an answer that is not the service's).
   */
  readonly code: string;
  /** The status of the answer; 0 if there was none. */
  readonly status: number;
  /** Seconds to wait before the next attempt. */
  readonly retryAfter: number | undefined;
  /** What is wrong with a password, for the user. */
  readonly detail: string | undefined;
  /** The fields that were refused. */
  readonly errors: readonly FieldProblem[] | undefined;
  /** The whole body of the refusal. */
  readonly problem: Readonly<Record<string, unknown>> | undefined;
  /** With `insufficient_user_authentication`: what the service demands (RFC 9470). */
  readonly acrValues: string | undefined;
  /** With `insufficient_user_authentication`: for how many seconds a proof is recent enough. */
  readonly maxAge: number | undefined;
}

export interface KeyturnErrorDetails {
  status: number;
  retryAfter: number;
  detail: string;
  errors: readonly FieldProblem[];
  problem: Readonly<Record<string, unknown>>;
  acrValues: string;
  maxAge: number;
  cause: unknown;
}

export type Method = "totp" | "recovery_code";

export interface Credentials {
  username: string;
  password: string;
}

export interface LoginCredentials extends Credentials {
  /**
   * In memory mode: the device token of an earlier login. This module does not store it. In cookie mode leave it out,
   * because the browser sends the cookie that has the device token.
   */
  device_token?: string;
  /** Request a device token, also in `giveCode`: only if nobody else uses the browser. */
  remember_device?: boolean;
}

export interface SignUpDetails extends Credentials {
  enable_mfa?: boolean;
  email?: string;
  locale?: string;
  invitation?: string;
}

export type Code = ({ otp: string } | { recovery_code: string }) & { remember_device?: boolean };

export interface SignedUp {
  message: string;
  username: string;
  mfa_enabled: boolean;
  /** The `otpauth://` URI of the authenticator; `giveCode` with its first verification code confirms it. */
  provisioning_uri: string | null;
  expires_in: number | null;
}

/** The session is open, or stepped up. */
export interface LoggedIn {
  mfa_required: false;
  /** The lifetime of the access token in seconds. */
  expires_in: number;
  /** Ten recovery codes, after an enrolment. They are shown only once. */
  recovery_codes?: string[];
  recovery_codes_left?: number;
  /** In memory mode, if it was requested. In cookie mode it is in a cookie that scripts cannot read. */
  device_token?: string;
}

/** The password is right, and `giveCode` completes the login. */
export interface CodeRequired {
  mfa_required: true;
  /** False: no authenticator is confirmed yet. Show the QR code. */
  mfa_confirmed: boolean;
  methods: Method[];
  /** Seconds within which the code must be given. */
  expires_in: number;
  message: string;
}

export interface StepUpStarted {
  methods: Method[];
  expires_in: number;
}

export interface EnrolmentStarted {
  provisioning_uri: string;
  expires_in: number;
}

export interface EnrolmentSecret {
  provisioning_uri: string;
  secret: string;
}

/** The username of the pending token. It is needed only if the user logged in with an e-mail address. */
export interface OfUser {
  username?: string;
}

export interface Account {
  sub: string;
  username: string;
  created_at: number;
  roles: string[];
  mfa_enabled: boolean;
  mfa_confirmed: boolean;
  recovery_codes_left: number | null;
  recovery_due_at: number | null;
  email: string | null;
  new_email: string | null;
  locale: string | null;
  sid: string;
}

export interface Session {
  sid: string;
  current: boolean;
  created_at: number;
  last_used_at: number;
  expires_at: number;
  auth_time: number;
  amr: string[];
  acr: string;
  address: string;
  user_agent: string;
}

export interface AccountEvent {
  event: string;
  occurred_at: number;
  details: Record<string, string | number | boolean>;
}

export interface Factor {
  id: string;
  type: "totp";
  name: string;
  created_at: number;
  confirmed_at: number | null;
  last_used_at: number | null;
  offset_seconds: number;
  weak_secret: boolean;
}

export interface RequestOptions {
  /** Which token the request carries: the access token (the default), the pending token, or none. */
  auth?: "session" | "pending" | "none";
  /** The body, sent as JSON. */
  json?: unknown;
  accept?: string;
  /** The form in which the body of the answer is returned: `json` by default. */
  as?: "json" | "text" | "blob";
  /** Milliseconds after which the request fails; 30,000 by default. */
  timeout?: number;
}

/**
 * Operations reject with `KeyturnError`, except a `fetch` that was aborted or has invalid arguments (`TypeError`).
 * The operation that discovers the end of the session rejects with the code of the service (`invalid_grant`, or
 * `invalid_token` for an access token that is refused twice), later ones with `login_required`. No function needs
 * `this`.
 */
export interface Keyturn {
  /** The user: `null` if nobody is logged in, `undefined` before that is known. The same object until it changes. */
  readonly user: User | null | undefined;
  /** Call `listener` when `user` changes, also by another tab; return a function that removes it. */
  onChange(listener: (user: User | null) => void): () => void;
  /** Remove all listeners, and stop listening to other tabs. */
  close(): void;

  signUp(details: SignUpDetails): Promise<SignedUp>;
  logIn(credentials: LoginCredentials): Promise<LoggedIn | CodeRequired>;
  /** Complete what waits for a code: a login, an enrolment or a step-up. */
  giveCode(code: Code): Promise<LoggedIn>;
  /** Begin a step-up of the session; `giveCode` completes it. */
  stepUp(): Promise<StepUpStarted>;
  /** At the start of a page in cookie mode: find the session of the browser. */
  restoreSession(): Promise<User | null>;
  /**
   * End the session; with `everywhere` all sessions of the user. Afterwards nobody is logged in in this browser: if
   * another user has logged in in another tab and `user` did not show it yet, the browser loses their session too. If
   * the access token of the first user was not accepted any more, the call with `everywhere` then rejects with
   * `user_changed`, because the other sessions of the first user go on.
   */
  logOut(options?: { everywhere?: boolean }): Promise<void>;

  /**
   * A valid access token, refreshed if it expires soon. Rejects with `login_required` if nobody is logged in, with
   * `invalid_grant` if the refresh shows that, and with `user_changed` if the refresh gave the access token of
   * another user than `user`; `user` is that other user from then on.
   */
  accessToken(): Promise<string>;
  /**
   * `fetch` with the access token for the issuer and `origins`, and without it for any other origin. It refreshes and
   * repeats the request once after `invalid_token`, and returns a second 401 as it is; it repeats nothing if another
   * service than the issuer refused a token that is less than ten seconds old. It rejects with
   * `insufficient_user_authentication` if the service demands a step-up. A request is never repeated as another user:
   * `fetch` then rejects with `user_changed`.
   */
  fetch(input: RequestInfo | URL, init?: RequestInit): Promise<Response>;
  /** Send any request to the issuer, such as one of the administration, and return the body of the answer. */
  request<Answer = unknown>(method: string, path: string, options?: RequestOptions): Promise<Answer>;

  account(): Promise<Account>;
  /** Change the language of messages to the user, such as `de`; `null`: that of the service. */
  changeLocale(locale: string | null): Promise<Account>;
  events(): Promise<AccountEvent[]>;
  sessions(): Promise<Session[]>;
  endSession(sid: string): Promise<void>;
  changePassword(passwords: { current_password: string; new_password: string }): Promise<void>;
  requestPasswordReset(username: string): Promise<{ message: string }>;
  resetPassword(reset: { token: string; new_password: string }): Promise<void>;
  /** Set or change the e-mail address. With the same address again: send the link again. */
  changeEmail(change: { email: string; password: string }): Promise<{ message: string }>;
  confirmEmail(token: string): Promise<void>;
  cancelEmail(token: string): Promise<void>;
  /** Only a user without a second factor gives the password. */
  removeEmail(password?: string): Promise<void>;
  /** Everything that is stored about the user, as one JSON document. */
  exportAccount(): Promise<Blob>;
  deleteAccount(password: string): Promise<{ deleted_at: number }>;
  restoreAccount(credentials: Credentials): Promise<LoggedIn | CodeRequired>;

  factors(): Promise<Factor[]>;
  /** Begin an enrolment; `giveCode` with its first code completes it. A further authenticator needs a `name`. */
  addFactor(details: { password: string; name?: string }): Promise<EnrolmentStarted>;
  renameFactor(id: string, name: string): Promise<Factor>;
  removeFactor(id: string): Promise<void>;
  /** The QR code of the enrolment that waits for its first verification code. */
  qrCode(options?: OfUser & { type?: "image/svg+xml" | "image/png" }): Promise<Blob>;
  enrolmentSecret(options?: OfUser): Promise<EnrolmentSecret>;
  /** `token` is a verification code. Every session ends. */
  disableMfa(proofs: Credentials & { token: string }): Promise<{ message: string }>;
  newRecoveryCodes(): Promise<string[]>;
  requestRecovery(credentials: Credentials): Promise<{ message: string; delay: number }>;
  cancelRecovery(): Promise<void>;
}

export function createKeyturn(options: KeyturnOptions): Keyturn;
