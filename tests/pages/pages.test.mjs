// The chat and the board page as people use them: two browsers, a gateway, the Node service, and its restart.
import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { startBrowser, startStack } from "./stack.mjs";

let stack;
let browser;

before(async () => {
  stack = await startStack();
  browser = await startBrowser(stack.base);
});
after(async () => {
  await browser?.close();
  await stack?.close();
});

/** PAGES_SCREENSHOTS=FOLDER keeps what was seen. */
async function look(page, name) {
  const folder = process.env.PAGES_SCREENSHOTS;
  if (!folder) return;
  mkdirSync(folder, { recursive: true });
  await page.screenshot({ path: join(folder, `${name}.png`) });
}

const said = (page, text) => page.locator(".message .text", { hasText: text });
const enter = async (path, subject, options) => browser.open(`${path}#token=${await stack.token(subject)}`, options);
const connected = (page) => page.locator("#state[data-state=open]").waitFor();

async function say(page, text) {
  await page.getByLabel("Message", { exact: true }).fill(text);
  await page.keyboard.press("Enter");
}

test("a token is asked for, refused where it is none, and not kept in the address", async () => {
  const page = await browser.open("/app/chat");
  await look(page, "sign-in");
  await page.keyboard.type("nothing");
  await page.keyboard.press("Enter");
  await page.getByRole("alert").filter({ hasText: "three parts" }).waitFor();
  await page.getByLabel("Access token").fill(await stack.token("alice"));
  await page.keyboard.press("Enter");
  await connected(page);
  const [url, who] = [page.url(), await page.locator("#who").textContent()];
  assert.deepEqual([url, who], [`${stack.base}/app/chat`, "alice"]);
  const linked = await enter("/app/chat", "bob");
  await connected(linked);
  assert.equal(linked.url(), `${stack.base}/app/chat`);
  await page.getByRole("button", { name: "Sign out" }).click();
  await page.getByLabel("Access token").waitFor();
  await Promise.all([page, linked].map((one) => one.context().close()));
});

test("chat: two people, who is there, typing, changes, and markup that stays text", async () => {
  const alice = await enter("/app/chat", "alice");
  await alice.getByLabel("New room").fill("tea-room");
  await alice.getByRole("button", { name: "Make" }).click();
  await alice.getByRole("heading", { name: "tea-room" }).waitFor();
  const bob = await enter("/app/chat?room=tea-room", "bob", { colorScheme: "dark", viewport: { width: 390, height: 700 } });
  await alice.getByText("Here now: alice, bob").waitFor();
  await bob.getByText("Here now: alice, bob").waitFor();
  await bob.getByLabel("Message", { exact: true }).pressSequentially("hello");
  await alice.getByText("bob is typing…").waitFor();
  await say(bob, "Is there any tea?");
  await said(alice, "Is there any tea?").waitFor();
  await bob.getByText("all read by alice").waitFor();
  const markup = '<img src="https://example.com/x" onerror="alert(1)">';
  await say(alice, markup);
  await said(bob, markup).waitFor();
  assert.equal(await bob.locator("img").count(), 0);
  bob.on("dialog", (dialog) => dialog.accept("Is there any coffee?"));
  await bob.getByRole("button", { name: "Edit: Is there any tea?" }).click();
  await said(alice, "Is there any coffee?").waitFor();
  await look(alice, "chat-wide-light");
  await look(bob, "chat-narrow-dark");
  const overflow = await bob.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  assert.ok(overflow <= 0, `${overflow} pixels too wide`);
  await bob.getByRole("button", { name: "Delete: Is there any coffee?" }).click();
  await alice.getByText("deleted by its author").waitFor();
  await alice.reload();
  await said(alice, markup).waitFor();
  await bob.context().close();
  await alice.getByText(/^Here now: alice( ·|$)/).waitFor();
  await alice.context().close();
});

test("chat: a message that is sent while Node.js is away arrives once, over a connection that stays", async () => {
  const alice = await enter("/app/chat?room=tea-room", "alice");
  const bob = await enter("/app/chat?room=tea-room", "bob");
  await Promise.all([connected(alice), connected(bob), bob.getByText("Here now: alice, bob").waitFor()]);
  const states = await alice.evaluateHandle(() => {
    const seen = [];
    const watch = new MutationObserver(() => seen.push(document.getElementById("state").dataset.state));
    watch.observe(document.getElementById("state"), { attributes: true });
    return seen;
  });
  await stack.stopRealtime();
  await say(alice, "Said while it was away.");
  await alice.getByText("sending…").waitFor();
  await look(alice, "chat-sending");
  await stack.startRealtime();
  await said(bob, "Said while it was away.").waitFor();
  await alice.getByText("sending…").waitFor({ state: "detached" });
  assert.equal(await said(alice, "Said while it was away.").count(), 1);
  assert.deepEqual(await states.jsonValue(), [], "the connection was not lost");
  await Promise.all([alice, bob].map((one) => one.context().close()));
});

test("board: a reading that one person sends shows on everybody's page", async () => {
  const alice = await enter("/app/board", "alice");
  await alice.getByLabel("New board").fill("boilers");
  await alice.getByLabel("Devices").fill("boiler-1, boiler-2");
  await alice.getByRole("button", { name: "Make" }).click();
  const bob = await enter("/app/board?board=boilers", "bob", { colorScheme: "dark", viewport: { width: 390, height: 700 } });
  await alice.getByText("Looking at it now: alice, bob").waitFor();
  await alice.getByLabel("Device", { exact: true }).fill("boiler-1");
  await alice.getByLabel("Metric").fill("temperature");
  const tile = bob.locator(".tile", { hasText: "boiler-1" });
  // A window closes when a later reading comes: one second after the other.
  const sent = [];
  const chart = tile.locator("svg[role=img]");
  for (let value = 70; !(await chart.isVisible()); value += 0.5) {
    assert.ok(sent.length < 60, "no window has closed in a minute of readings");
    await alice.getByLabel("Value").fill(String(value));
    await alice.getByRole("button", { name: "Send a reading" }).click();
    sent.push(value);
    await chart.waitFor({ timeout: 1_000 }).catch(() => {});
  }
  const shown = Number(await tile.locator(".value").textContent());
  assert.ok(shown >= 70 && shown <= sent.at(-1), `${shown} of ${sent}`);
  await look(alice, "board-wide-light");
  await look(bob, "board-narrow-dark");
  const overflow = await bob.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  assert.ok(overflow <= 0, `${overflow} pixels too wide`);
  await Promise.all([alice, bob].map((one) => one.context().close()));
});

test("no page had an error, broke its policy, or asked another host for anything", () => {
  assert.deepEqual(browser.wrong(), []);
});
