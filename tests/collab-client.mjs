// Drives the real Hocuspocus provider for the black-box tests: commands come in and events go out as
// JSON lines. The argument is the package.json from whose place the provider is resolved.
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const require = createRequire(process.argv[2]);
const { HocuspocusProvider } = require("@hocuspocus/provider");
const Y = require("yjs");

const editors = new Map();
const say = (event) => process.stdout.write(`${JSON.stringify(event)}\n`);

const commands = {
  /** Opens a document as a new editor, with nothing known of it. */
  open({ editor, url, document }) {
    const state = { inserted: 0 };
    state.provider = new HocuspocusProvider({
      url,
      name: document,
      document: new Y.Doc(),
      delay: 100,
      minDelay: 50,
      maxDelay: 300,
      onSynced: ({ state: synced }) => synced && say({ editor, event: "synced" }),
      // `inserted` says which texts this covers: an earlier acknowledgement may still be on its way.
      onUnsyncedChanges: ({ number }) => number === 0 && say({ editor, event: "acknowledged", inserted: state.inserted }),
      onStateless: ({ payload }) => say({ editor, event: "stateless", payload }),
      onAuthenticationFailed: ({ reason }) => say({ editor, event: "refused", reason }),
      onClose: ({ event }) => say({ editor, event: "closed", code: event?.code, reason: event?.reason }),
    });
    editors.set(editor, state);
  },
  /** Appends a text in one transaction. */
  insert({ editor, field, text }) {
    const state = editors.get(editor);
    state.inserted += 1;
    const content = state.provider.document.getText(field);
    content.insert(content.length, text);
  },
  /** Says the text as this editor sees it. */
  text({ editor, field }) {
    const { provider } = editors.get(editor);
    say({ editor, event: "text", text: provider.document.getText(field).toString() });
  },
  /** Goes away without a word more. */
  close({ editor }) {
    editors.get(editor)?.provider.destroy();
    editors.delete(editor);
  },
};

createInterface({ input: process.stdin })
  .on("line", (line) => {
    const { command, ...args } = JSON.parse(line);
    commands[command](args);
  })
  .on("close", () => process.exit(0));
