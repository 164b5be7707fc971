import { useState } from "react";
import { CodeForm } from "./forms";
import { KeyturnError, type User } from "./keyturn.js";
import { keyturn } from "./session";

/** Requests to a service. A payment needs a second factor that was proved in the last five minutes. */
export function Shop(props: { user: User }) {
  const [answer, setAnswer] = useState("");
  const [isSteppingUp, setSteppingUp] = useState(false);

  async function request(method: "GET" | "POST", path: string) {
    try {
      const response = await keyturn.fetch(path, { method });
      setAnswer(response.ok ? await response.text() : `The shop answered ${response.status}.`);
    } catch (error) {
      if (!(error instanceof KeyturnError)) throw error;
      if (error.code !== "insufficient_user_authentication") return setAnswer(error.message);
      await keyturn.stepUp().then(() => setSteppingUp(true), (refused: KeyturnError) => setAnswer(refused.message));
    }
  }

  function repeatPayment() {
    setSteppingUp(false);
    void request("POST", "/shop/payments");
  }

  if (isSteppingUp) return <CodeForm done={repeatPayment} />;
  return (
    <>
      <p>
        {props.user.username} <button onClick={() => keyturn.logOut()}>Log out</button>
      </p>
      <button onClick={() => request("GET", "/shop/orders")}>Show my orders</button>
      <button onClick={() => request("POST", "/shop/payments")}>Pay</button>
      <p role="status">{answer}</p>
    </>
  );
}
