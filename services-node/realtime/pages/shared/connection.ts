// The page's one connection, and what a person sees of it.
import { ChannelsClient } from "@hybrid/channels";
import { find } from "./dom.ts";
import { askToSignIn, type Person, signedIn, signOut } from "./sign_in.ts";

const STATES = { closed: "not connected", connecting: "connecting…", open: "connected", waiting: "connecting again…" };
/** What a person can mend with another token. */
const SIGN_IN = new Set(["UNAUTHENTICATED", "EXPIRED"]);

/** Connects whoever is signed in and begins the page; otherwise asks who it is. */
export function start<Types extends object>(begin: (client: ChannelsClient<Types>, person: Person) => void) {
  const person = signedIn();
  if (!person) return askToSignIn();
  const client = new ChannelsClient<Types>({ url: "/channels/v1", token: () => person.token });
  const shown = find("state");
  client.on("state", ({ state, error }) => {
    shown.dataset.state = state;
    shown.textContent = STATES[state];
    if (state === "closed" && error && SIGN_IN.has(error.code)) askToSignIn("The token was refused; get a new one.");
    else if (state === "closed" && error) shown.textContent = error.message;
  });
  client.on("problem", ({ code }) => {
    if (code !== "EXPIRED" || !isOver(person.token)) return;
    client.close();
    askToSignIn("The token has ended; get a new one.");
  });
  find("who").textContent = person.subject;
  const leave = find<HTMLButtonElement>("leave");
  leave.hidden = false;
  leave.addEventListener("click", () => {
    client.close();
    signOut();
  });
  find("frame").hidden = false;
  begin(client, person);
  client.connect();
}

function isOver(token: string): boolean {
  const { exp } = JSON.parse(atob(token.split(".")[1]!.replaceAll("-", "+").replaceAll("_", "/"))) as { exp?: number };
  return exp !== undefined && exp * 1000 < Date.now();
}
