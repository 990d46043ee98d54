// What a board's channels carry and its methods take and answer: the service's own types, of which nothing is left when
// the page is served.
import type { Static } from "typebox";
import type { Board, BoardValue, DevicePoints } from "../../src/boards/schemas.ts";

export type { Board, BoardValue };

type Points = Static<typeof DevicePoints>;

export type BoardTypes = {
  channels: {
    board: { publication: BoardValue };
    telemetry: { publication: Points; publish: Points };
  };
  methods: {
    "boards.list": { request: object; response: { boards: Board[] } };
    "boards.put": { request: { board: string; devices: string[]; season?: number }; response: Board };
  };
};
