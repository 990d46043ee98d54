// Who uses the page. A token is pasted, or comes behind the # of a link, which no server sees; it stays in this tab
// (sessionStorage) and leaves the address bar at once. The page reads the name from it; whether it is good is the
// gateway's to say.
import { element, field, find } from "./dom.ts";

const KEY = "hybrid.token";

export type Person = { token: string; subject: string };

/** Who is signed in, or undefined. */
export function signedIn(): Person | undefined {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) {
    sessionStorage.setItem(KEY, given);
    history.replaceState(null, "", location.pathname + location.search);
  }
  return personOf(sessionStorage.getItem(KEY) ?? "");
}

export function signOut() {
  sessionStorage.removeItem(KEY);
  location.reload();
}

/** Asks for a token. `reason`: why the one that was there is no good. */
export function askToSignIn(reason = "") {
  sessionStorage.removeItem(KEY);
  const place = find("sign-in");
  const problem = element("p", { role: "alert" }, reason);
  const form = element(
    "form",
    { onsubmit: (event: SubmitEvent) => submit(event, problem) },
    element(
      "label",
      {},
      "Access token",
      element("input", { name: "token", type: "password", required: true, autocomplete: "off", spellcheck: "false" }),
    ),
    element("button", { class: "main" }, "Sign in"),
  );
  place.replaceChildren(
    element("h1", {}, "Sign in"),
    element("p", {}, "Paste an access token. On the demo stack, one for Alice is printed by:"),
    element("p", {}, element("code", {}, "cargo xtask token alice")),
    form,
    problem,
    element("p", { class: "soft small" }, "It is kept in this tab only, and sent to this site alone."),
  );
  find("frame").hidden = true;
  place.hidden = false;
  form.querySelector("input")!.focus();
}

function submit(event: SubmitEvent, problem: HTMLElement) {
  event.preventDefault();
  const token = field(event.target as HTMLFormElement, "token");
  if (!personOf(token)) {
    problem.textContent = "This is no access token: three parts with dots between them are expected (a JWT).";
    return;
  }
  sessionStorage.setItem(KEY, token);
  location.reload();
}

function personOf(token: string): Person | undefined {
  try {
    const payload = token.split(".")[1]!.replaceAll("-", "+").replaceAll("_", "/");
    const bytes = Uint8Array.from(atob(payload), (char) => char.charCodeAt(0));
    const { sub } = JSON.parse(new TextDecoder().decode(bytes)) as { sub?: unknown };
    return typeof sub === "string" ? { token, subject: sub } : undefined;
  } catch {
    return undefined;
  }
}
