import { StrictMode, useEffect, useState } from "react";
import { createRoot } from "react-dom/client";
import { LoginForm } from "./forms";
import { keyturn, useUser } from "./session";
import { Shop } from "./shop";

function App() {
  const user = useUser();
  const [problem, setProblem] = useState("");
  useEffect(() => {
    keyturn.restoreSession().catch((error: Error) => setProblem(error.message));
  }, []);
  if (user === undefined) return <p role="status">{problem}</p>;
  return user ? <Shop user={user} /> : <LoginForm />;
}

createRoot(document.getElementById("main") as HTMLElement).render(
  <StrictMode>
    <App />
  </StrictMode>,
);
