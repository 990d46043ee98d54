// The pages over HTTP: what is served and how, and that nothing else is.
import assert from "node:assert/strict";
import { connect } from "node:net";
import { test } from "node:test";
import { PageFiles } from "../src/pages/files.ts";
import { startService } from "./support.ts";

test("pages and their modules are served with their types, a strict policy and a tag", async (t) => {
  const { url } = await startService(t);
  const kinds = { "": "html", chat: "html", board: "html", "shared/style.css": "css", "chat/main.ts": "javascript" };
  for (const [path, kind] of Object.entries(kinds)) {
    const response = await fetch(`${url}/app/${path}`);
    assert.equal(response.status, 200, path);
    assert.equal(response.headers.get("content-type"), `text/${kind}; charset=utf-8`);
    assert.match(response.headers.get("content-security-policy")!, /default-src 'none'; script-src 'self';/);
    assert.equal(response.headers.get("x-content-type-options"), "nosniff");
    const etag = response.headers.get("etag")!;
    for (const known of [etag, `"other", W/${etag}`, "*"]) {
      const again = await fetch(`${url}/app/${path}`, { headers: { "if-none-match": known } });
      assert.deepEqual([again.status, await again.text(), again.headers.get("etag")], [304, "", etag]);
    }
    const other = await fetch(`${url}/app/${path}`, { headers: { "if-none-match": '"other"' } });
    assert.equal(other.status, 200);
  }
  const moved = await fetch(`${url}/app`, { redirect: "manual" });
  assert.deepEqual([moved.status, moved.headers.get("location")], [308, "/app/"]);
});

test("every module is JavaScript whose imports are served, too; no page has a script or style of its own", async () => {
  const files = new PageFiles();
  assert.ok(files.paths.includes("lib/channels/client.ts"));
  const reached = new Set<string>();
  const visit = async (path: string): Promise<void> => {
    if (reached.has(path)) return;
    reached.add(path);
    const text = files.find(path)?.body.toString();
    assert.ok(text !== undefined, `${path} is served`);
    // A type that was left is a syntax error, which comes before its imports are looked for.
    const error = await import(`data:text/javascript,${encodeURIComponent(text)}`).then(
      () => undefined,
      (error: unknown) => error,
    );
    assert.ok(!(error instanceof SyntaxError), `${path}: ${error}`);
    for (const [, from] of text.matchAll(/(?:from|import) "([^"]+)"/g)) {
      assert.match(from!, /^(\.{1,2}|\/app)\//, `${path} imports ${from}`);
      await visit(new URL(from!, `http://x/app/${path}`).pathname.slice("/app/".length));
    }
  };
  for (const page of ["chat", "board", ""]) {
    const html = files.find(page)!.body.toString();
    assert.doesNotMatch(html, /<style|style=|\son[a-z]+=|https?:\/\//);
    for (const [, path] of html.matchAll(/(?:src|href)="\/app\/([^"]+\.\w+)"/g)) {
      if (path!.endsWith(".ts")) await visit(path!);
      else assert.ok(files.find(path!), path);
    }
    assert.doesNotMatch(html, /<script(?![^>]*\ssrc=)/);
  }
  assert.ok(reached.size > 20, `${reached.size} modules`);
});

test("nothing but the pages is served, however the path is written", async (t) => {
  const { url } = await startService(t);
  const { hostname, port } = new URL(url);
  const paths = [
    "/app/../package.json",
    "/app/%2e%2e/package.json",
    "/app/..%2fpackage.json",
    "/app/..%5cpackage.json",
    "/app/lib/channels/../../../package.json",
    "/app//etc/passwd",
    "/app/%2fetc%2fpasswd",
    "/app/chat/",
    "/app/shared",
    "/app/lib/channels/../package.json",
    "/app/chat.html%00.ts",
    "/app/__proto__",
    "/app/constructor",
  ];
  for (const path of paths) {
    const status = await rawStatus(hostname, Number(port), path);
    assert.ok([400, 404].includes(status), `${path}: ${status}`);
  }
  assert.equal(await rawStatus(hostname, Number(port), "/app/chat"), 200);
});

/** Without a client that makes the path nice first. */
function rawStatus(host: string, port: number, path: string): Promise<number> {
  return new Promise((resolve, reject) => {
    const socket = connect(port, host, () =>
      socket.write(`GET ${path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n`),
    );
    let text = "";
    socket.setEncoding("utf8").on("data", (chunk: string) => {
      text += chunk;
    });
    socket.on("end", () => resolve(Number(text.split(" ")[1]))).on("error", reject);
  });
}
