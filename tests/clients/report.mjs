// Runs cases one after the other and says how each went, as lines of JSON; the test reads them.
import { strict as assert } from "node:assert";

let failed = 0;

/** Runs a case; one that takes longer than ten seconds has failed. */
export async function check(name, run) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error("nothing happened for 10 s")), 10_000);
  });
  try {
    await Promise.race([run(), late]);
    console.log(JSON.stringify({ name }));
  } catch (error) {
    failed += 1;
    console.log(JSON.stringify({ name, error: `${error?.stack ?? error}` }));
  } finally {
    clearTimeout(timer);
  }
}

/** The error that a call fails with. */
export async function failure(call) {
  try {
    await call;
  } catch (error) {
    return error;
  }
  return assert.fail("the call should have failed");
}

export const finish = () => process.exit(failed ? 1 : 0);
