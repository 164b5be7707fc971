import { type FormEvent, type ReactNode, useState } from "react";
import { type Code, KeyturnError } from "./keyturn.js";
import { keyturn } from "./session";

/** A form that shows why its operation was refused. */
function Form(props: { send: (fields: FormData) => Promise<void>; label: string; children: ReactNode }) {
  const [problem, setProblem] = useState("");

  async function submit(event: FormEvent<HTMLFormElement>) {
    event.preventDefault();
    const form = event.currentTarget;
    try {
      await props.send(new FormData(form));
      setProblem("");
    } catch (error) {
      if (!(error instanceof KeyturnError)) throw error;
      const wait = error.retryAfter ? ` Wait ${error.retryAfter} seconds.` : "";
      setProblem(`${error.detail ?? error.message}${wait}`);
    }
  }

  return (
    <form onSubmit={submit}>
      {props.children}
      <button>{props.label}</button>
      <p role="alert">{problem}</p>
    </form>
  );
}

/** The second step of a login, or a step-up: a verification code, or a recovery code, which is longer. */
export function CodeForm(props: { done: () => void }) {
  async function send(fields: FormData) {
    const given = String(fields.get("code"));
    const code: Code = /^[\d\s-]*$/.test(given) ? { otp: given } : { recovery_code: given };
    await keyturn.giveCode(code);
    props.done();
  }

  return (
    <Form send={send} label="Confirm">
      <label>
        Code of your authenticator, or a recovery code <input name="code" autoComplete="one-time-code" required />
      </label>
    </Form>
  );
}

/** Both steps of a login. */
export function LoginForm() {
  const [needsCode, setNeedsCode] = useState(false);

  async function send(fields: FormData) {
    const username = String(fields.get("username"));
    const answer = await keyturn.logIn({ username, password: String(fields.get("password")) });
    setNeedsCode(answer.mfa_required);
  }

  if (needsCode) return <CodeForm done={() => setNeedsCode(false)} />;
  return (
    <Form send={send} label="Log in">
      <label>
        Username <input name="username" autoComplete="username" required />
      </label>
      <label>
        Password <input name="password" type="password" autoComplete="current-password" required />
      </label>
    </Form>
  );
}
