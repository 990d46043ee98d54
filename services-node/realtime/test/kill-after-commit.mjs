// Loaded before the service: kills the process right after the commit that holds the first message of chat, before
// anything can be answered.
import { DatabaseSync, StatementSync } from "node:sqlite";

const { exec } = DatabaseSync.prototype;
const { run } = StatementSync.prototype;
let armed = false;

StatementSync.prototype.run = function (...parameters) {
  armed ||= this.sourceSQL.includes("INSERT INTO chat_messages");
  return run.apply(this, parameters);
};

DatabaseSync.prototype.exec = function (sql) {
  exec.call(this, sql);
  if (armed && sql === "COMMIT") process.kill(process.pid, "SIGKILL");
};
