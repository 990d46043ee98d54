// What a browser knows about its network and its page. Only hints: they make the client look sooner, and decide nothing.

type Target = Pick<EventTarget, "addEventListener" | "removeEventListener">;

/** Calls `wake` when the network is back or the page is seen again. The function that is returned stops it. */
export function watchBrowser(wake: () => void): () => void {
  const { window: page, document: shown } = globalThis as { window?: Target; document?: Target & Document };
  const ends: (() => void)[] = [];
  const watch = (target: Target | undefined, type: string, run: () => void) => {
    target?.addEventListener(type, run);
    ends.push(() => target?.removeEventListener(type, run));
  };
  // Also when it says that the network went: then an open connection is asked for a sign of life.
  watch(page, "online", wake);
  watch(page, "offline", wake);
  watch(page, "pageshow", wake);
  watch(shown, "visibilitychange", () => shown?.visibilityState === "visible" && wake());
  return () => {
    for (const end of ends) end();
  };
}
